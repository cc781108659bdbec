/* SPDX-License-Identifier: Apache-2.0
 *
 * tiles: see tiles.h. Both ways are AutoencoderKL's tiled_decode and _tiled_encode: tiles begin
 * every `step` places, the last ones being smaller; each is blended with the one above and the one
 * on its left as these were blended themselves, and its first `keep` rows and columns are the
 * result's. */
#include "pipeline/tiles.h"

#include <stdlib.h>
#include <string.h>

#include "pipeline/decode.h"
#include "pipeline/encode.h"
#include "pipeline/fit.h"

/* A whole tile, the last but one, cut, and the last: sizes along a side, and of tiles. */
enum { SIDES = 3, SIZES = SIDES * SIDES };

/* One way through the autoencoder. */
typedef struct tiling {
    int height, width;   /* of what is read */
    int side, step;      /* of a tile of it */
    int blend, keep;     /* of a tile of the result */
    int up, down;        /* a side of the result is up / down times what is read */
    size_t channels;     /* of the result */
    float *before, *row; /* [tiles of a row][side of result]^2 x channels */
    float *out;          /* the result, [height,width,channels] */
    int out_height, out_width;
} tiling;

/* Fills y with the result of the tile at (top, left) of this size. */
typedef bool tile_function(void *user, int top, int left, int height, int width, float *y,
                           error *e);

static int tile_side(const model *m) { return m->vae.sample_size / fit_factor(m); }

bool tiles_needed(const model *m, int height, int width)
{
    return fit_conditional(m) && (height > tile_side(m) || width > tile_side(m));
}

static int sized(const tiling *t, int side) { return side * t->up / t->down; }
static int least(int a, int b) { return a < b ? a : b; }

static bool tiling_open(tiling *t, const model *m, bool decodes, int height, int width,
                        size_t channels, error *e)
{
    int factor = fit_factor(m), whole = m->vae.sample_size, part = tile_side(m);
    if (part < 4 || part % 4 || whole % factor)
        return error_set(e, ERROR_MODEL,
                         "%s: tiles of %d (the autoencoder's sample_size) cannot overlap by a "
                         "quarter; leave out --tile",
                         m->path, whole);
    *t = (tiling){.height = height, .width = width, .channels = channels};
    t->side = decodes ? part : whole;
    t->step = t->side / 4 * 3;
    t->up = decodes ? factor : 1;
    t->down = decodes ? 1 : factor;
    t->blend = sized(t, t->side) / 4;
    t->keep = sized(t, t->side) - t->blend;
    t->out_height = sized(t, height);
    t->out_width = sized(t, width);
    size_t columns = (size_t)((width + t->step - 1) / t->step), side = (size_t)sized(t, t->side),
           row = columns * side * side * channels,
           all = (size_t)t->out_height * (size_t)t->out_width * channels;
    t->before = malloc((2 * row + all) * sizeof(float));
    t->row = t->before ? t->before + row : NULL;
    t->out = t->before ? t->row + row : NULL;
    return t->before || error_memory(e, "tiles", (2 * row + all) * sizeof(float));
}

static void tiling_close(tiling *t)
{
    /* the two rows change places: the block begins with the first of them */
    free(t->before && t->before < t->row ? t->before : t->row);
    *t = (tiling){0};
}

/* `n` numbers that lie `at` apart in both tiles become a mixture, from all of a to all of b. */
static void mix_line(float *b, const float *a, size_t n, int place, int extent)
{
    float share = (float)((double)place / extent), rest = (float)(1 - (double)place / extent);
    for (size_t i = 0; i < n; i++) b[i] = a[i] * rest + b[i] * share;
}

/* blend_v: the tile's first rows with the last ones of the tile above, of one width. */
static void blend_above(const tiling *t, float *tile, int height, int width, const float *above,
                        int its_height)
{
    int extent = least(least(its_height, height), t->blend);
    size_t line = (size_t)width * t->channels;
    for (int y = 0; y < extent; y++)
        mix_line(tile + (size_t)y * line, above + (size_t)(its_height - extent + y) * line, line, y,
                 extent);
}

/* blend_h, of one height. */
static void blend_left(const tiling *t, float *tile, int height, int width, const float *left,
                       int its_width)
{
    int extent = least(least(its_width, width), t->blend);
    size_t n = t->channels;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < extent; x++)
            mix_line(tile + (size_t)(y * width + x) * n,
                     left + (size_t)(y * its_width + its_width - extent + x) * n, n, x, extent);
}

static void keep_tile(tiling *t, const float *tile, int row, int column, int height, int width)
{
    int rows = least(height, t->keep), columns = least(width, t->keep);
    for (int y = 0; y < rows; y++)
        memcpy(t->out + ((size_t)(row * t->keep + y) * (size_t)t->out_width +
                         (size_t)(column * t->keep)) *
                            t->channels,
               tile + (size_t)(y * width) * t->channels,
               (size_t)columns * t->channels * sizeof *tile);
}

static bool tiling_run(tiling *t, tile_function *make, void *user, error *e)
{
    size_t place = (size_t)sized(t, t->side) * (size_t)sized(t, t->side) * t->channels;
    int its_height = 0;
    for (int i = 0; i * t->step < t->height; i++) {
        int high = least(t->side, t->height - i * t->step), out_high = sized(t, high),
            its_width = 0;
        for (int j = 0; j * t->step < t->width; j++) {
            int wide = least(t->side, t->width - j * t->step), out_wide = sized(t, wide);
            float *tile = t->row + (size_t)j * place;
            if (!make(user, i * t->step, j * t->step, high, wide, tile, e)) return false;
            if (i)
                blend_above(t, tile, out_high, out_wide, t->before + (size_t)j * place, its_height);
            if (j) blend_left(t, tile, out_high, out_wide, tile - place, its_width);
            keep_tile(t, tile, i, j, out_high, out_wide);
            its_width = out_wide;
        }
        float *done = t->row;
        t->row = t->before;
        t->before = done;
        its_height = out_high;
    }
    return true;
}

/* ---- latents to picture ---- */

struct tiled_decoder {
    pipeline on;
    int height, width;
    struct {
        decoder *decoder; /* NULL: none of this size is needed */
        int height, width;
    } part[SIZES];
};

/* The sizes of a side's tiles: a whole one, and that at the end where it is smaller. (Where the
 * last but one is cut, too, the step is so near the end that both are of other sizes: three.) */
static int sizes_of(int size, int side, int out[SIDES])
{
    int step = side / 4 * 3, count = 0;
    for (int at = 0; at < size; at += step)
        if (!count || least(side, size - at) != out[count - 1])
            out[count++] = least(side, size - at);
    return count;
}

bool tiled_decoder_open(tiled_decoder **out, const pipeline *p, int height, int width, error *e)
{
    int high[SIDES], wide[SIDES], side = tile_side(p->model), k = 0;
    tiled_decoder *n = *out = calloc(1, sizeof *n);
    if (!n) return error_memory(e, "the autoencoder", sizeof *n);
    *n = (tiled_decoder){.on = *p, .height = height, .width = width};
    int rows = sizes_of(height, side, high), columns = sizes_of(width, side, wide);
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++, k++) {
            n->part[k].height = high[i];
            n->part[k].width = wide[j];
            if (decoder_open(&n->part[k].decoder, p, high[i], wide[j], e)) continue;
            tiled_decoder_close(out);
            return false;
        }
    return true;
}

void tiled_decoder_close(tiled_decoder **n)
{
    if (!*n) return;
    for (int k = 0; k < SIZES; k++) decoder_close(&(*n)->part[k].decoder);
    free(*n);
    *n = NULL;
}

size_t tiled_decoder_bytes(const tiled_decoder *n)
{
    size_t most = 0;
    for (int k = 0; k < SIZES && n->part[k].decoder; k++)
        if (decoder_bytes(n->part[k].decoder) > most) most = decoder_bytes(n->part[k].decoder);
    return most;
}

bool tiled_decoder_is(const tiled_decoder *n, int height, int width)
{
    return n && n->height == height && n->width == width;
}

typedef struct latent_tiles {
    tiled_decoder *of;
    const float *latent; /* [C,h,w] */
    float *piece;
} latent_tiles;

static bool decode_tile(void *user, int top, int left, int height, int width, float *y, error *e)
{
    latent_tiles *l = user;
    const tiled_decoder *n = l->of;
    size_t space = (size_t)n->height * (size_t)n->width;
    float *to = l->piece;
    int k = 0;
    for (int c = 0; c < n->on.model->vae.latent_channels; c++)
        for (int row = 0; row < height; row++, to += width)
            memcpy(to,
                   l->latent + (size_t)c * space + (size_t)(top + row) * (size_t)n->width +
                       (size_t)left,
                   (size_t)width * sizeof *to);
    while (n->part[k].height != height || n->part[k].width != width) k++;
    return decoder_values(n->part[k].decoder, l->piece, y, e);
}

bool tiled_decoder_run(tiled_decoder *n, const float *latent, image *out, error *e)
{
    const model *m = n->on.model;
    tiling t = {0};
    size_t side = (size_t)tile_side(m), room = side * side * (size_t)m->vae.latent_channels;
    latent_tiles l = {.of = n, .latent = latent, .piece = malloc(room * sizeof(float))};
    bool ok = (l.piece || error_memory(e, "a tile", room * sizeof(float))) &&
              tiling_open(&t, m, true, n->height, n->width, 3, e) &&
              tiling_run(&t, decode_tile, &l, e) &&
              decode_pixels(out, t.out, t.out_width, t.out_height, e);
    tiling_close(&t);
    free(l.piece);
    return ok;
}

/* ---- picture to latents ---- */

typedef struct pixel_tiles {
    const pipeline *on;
    const float *pixels; /* [height,width,3] */
    int width;
    encoder *encoder; /* of the last tile's size */
    int high, wide;
    float *piece;
    const char *where;
} pixel_tiles;

static bool encode_tile(void *user, int top, int left, int height, int width, float *y, error *e)
{
    pixel_tiles *p = user;
    if (!p->encoder || p->high != height || p->wide != width) {
        encoder_close(&p->encoder);
        if (!encoder_open(&p->encoder, p->on, width, height, e)) return false;
        p->high = height;
        p->wide = width;
    }
    for (int row = 0; row < height; row++)
        memcpy(p->piece + (size_t)(3 * row * width),
               p->pixels + 3 * ((size_t)(top + row) * (size_t)p->width + (size_t)left),
               3 * (size_t)width * sizeof *p->piece);
    return encoder_moments(p->encoder, p->piece, y, p->where, e);
}

bool tiles_encode(const pipeline *p, const float *pixels, int width, int height, float *mean,
                  float *deviation, const char *where, error *e)
{
    const vae_config *c = &p->model->vae;
    size_t channels = (size_t)c->latent_channels,
           room = 3 * (size_t)c->sample_size * (size_t)c->sample_size;
    tiling t = {0};
    pixel_tiles l = {.on = p,
                     .pixels = pixels,
                     .width = width,
                     .where = where,
                     .piece = malloc(room * sizeof(float))};
    bool ok = (l.piece || error_memory(e, "a tile", room * sizeof(float))) &&
              tiling_open(&t, p->model, false, height, width, 2 * channels, e) &&
              tiling_run(&t, encode_tile, &l, e);
    if (ok)
        encode_posterior(t.out, (size_t)t.out_height * (size_t)t.out_width, channels, mean,
                         deviation);
    encoder_close(&l.encoder);
    tiling_close(&t);
    free(l.piece);
    return ok;
}
