/* SPDX-License-Identifier: Apache-2.0
 *
 * upscale: latents grow before a second pass; see hires.h. Each axis by itself, as weighted sums of
 * a few places: torch.nn.functional.interpolate of a size, align_corners=False. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "generate/hires.h"

enum { TAPS = 6 };

/* Where a place of the result comes from. */
typedef struct taps {
    int count, at[TAPS];
    float weight[TAPS];
} taps;

static const char *const names[UPSCALERS] = {
    "latent",         "latent-antialiased",   "latent-bicubic", "latent-bicubic-antialiased",
    "latent-nearest", "latent-nearest-exact",
};
static const char *const labels[UPSCALERS] = {
    "Latent",           "Latent (antialiased)",
    "Latent (bicubic)", "Latent (bicubic antialiased)",
    "Latent (nearest)", "Latent (nearest-exact)",
};

/* Letters alone, in lower case. */
static void letters(char out[64], const char *text)
{
    size_t n = 0;
    for (; *text && n < 63; text++)
        if (isalnum((unsigned char)*text)) out[n++] = (char)tolower((unsigned char)*text);
    out[n] = '\0';
}

bool upscaler_parse(latent_upscaler *out, const char *name, error *e)
{
    char wanted[64], known[64], list[200] = "";
    *out = UPSCALE_BILINEAR;
    if (!name) return true;
    letters(wanted, name);
    for (int i = 0; i < UPSCALERS; i++) {
        letters(known, names[i]);
        if (strcmp(wanted, known) != 0) continue;
        *out = (latent_upscaler)i;
        return true;
    }
    for (int i = 0; i < UPSCALERS; i++) {
        strcat(list, i == 0 ? "" : i + 1 < UPSCALERS ? ", " : " and ");
        strcat(list, names[i]);
    }
    return error_set(e, ERROR_USAGE, "hires upscaler \"%.60s\": there are %s", name, list);
}

const char *upscaler_name(latent_upscaler u) { return names[u]; }
const char *upscaler_label(latent_upscaler u) { return labels[u]; }

/* Keys' cubic convolution. */
static double cubic(double x, double a)
{
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static int inside(int at, int size) { return at < 0 ? 0 : at >= size ? size - 1 : at; }

static void put(taps *t, int at, double w)
{
    t->at[t->count] = at;
    t->weight[t->count++] = (float)w;
}

/* The filter over all places that it reaches, as Pillow has it; it is not stretched, since nothing
 * becomes smaller. */
static void spread(taps *t, double centre, double reach, bool is_cubic, int size)
{
    int from = (int)fmax(centre - reach + 0.5, 0), to = (int)fmin(centre + reach + 0.5, size);
    double sum = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int k = from; k < to; k++) {
            double x = k - centre + 0.5, w = is_cubic ? cubic(x, -0.5) : fmax(1 - fabs(x), 0);
            if (pass)
                put(t, k, w / sum);
            else
                sum += w;
        }
}

static taps taps_of(latent_upscaler how, int place, int from, int to)
{
    taps t = {0};
    double scale = (double)from / to, centre = (place + 0.5) * scale, at = centre - 0.5;
    int low = (int)floor(at);
    double w = at - low;
    switch (how) {
    case UPSCALE_NEAREST: put(&t, inside((int)floorf((float)place * (float)scale), from), 1); break;
    case UPSCALE_NEAREST_EXACT: put(&t, inside((int)floor(centre), from), 1); break;
    case UPSCALE_BILINEAR_ANTIALIASED: spread(&t, centre, 1, false, from); break;
    case UPSCALE_BICUBIC_ANTIALIASED: spread(&t, centre, 2, true, from); break;
    case UPSCALE_BICUBIC:
        for (int k = -1; k < 3; k++) put(&t, inside(low + k, from), cubic(k - w, -0.75));
        break;
    default: put(&t, inside(low, from), 1 - w); put(&t, inside(low + 1, from), w);
    }
    return t;
}

/* [rows,from] -> [rows,to], numbers of a row `step` apart, rows `row` apart. */
static void grow_line(float *out, const float *in, const taps *t, int to, size_t step)
{
    for (int i = 0; i < to; i++) {
        float sum = 0;
        for (int k = 0; k < t[i].count; k++) sum += t[i].weight[k] * in[(size_t)t[i].at[k] * step];
        out[(size_t)i * step] = sum;
    }
}

bool upscale(float *out, const float *in, int channels, int height, int width, int to_height,
             int to_width, latent_upscaler how, error *e)
{
    size_t h = (size_t)height, w = (size_t)width, th = (size_t)to_height, tw = (size_t)to_width;
    taps *t = malloc((th + tw) * sizeof *t);
    float *wide = malloc(h * tw * sizeof *wide);
    bool ok = (t && wide) || error_memory(e, "latents", h * tw * sizeof *wide);
    for (int i = 0; ok && i < to_width; i++) t[i] = taps_of(how, i, width, to_width);
    for (int i = 0; ok && i < to_height; i++)
        t[tw + (size_t)i] = taps_of(how, i, height, to_height);
    for (int c = 0; ok && c < channels; c++, in += h * w, out += th * tw) {
        for (size_t y = 0; y < h; y++) grow_line(wide + y * tw, in + y * w, t, to_width, 1);
        for (size_t x = 0; x < tw; x++) grow_line(out + x, wide + x, t + tw, to_height, tw);
    }
    free(t);
    free(wide);
    return ok;
}
