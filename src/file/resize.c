/* SPDX-License-Identifier: Apache-2.0
 *
 * resize: Pillow's Image.resize for 8-bit pictures, bit for bit: each output value is a weighted
 * sum of the input around it, the filter stretched when shrinking, in 22-bit fixed point, rows and
 * columns in a pass each, rounded to 8 bits between. Training pixels must equal those of the Python
 * scripts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "file/image.h"

enum { PRECISION = 22 };

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static double bicubic(double x) /* a = -0.5 */
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

static double sinc(double x)
{
    if (x == 0) return 1;
    x *= M_PI;
    return sin(x) / x;
}

static double lanczos(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

static const struct {
    double (*weight)(double x);
    double support;
} filters[] = {
    [RESIZE_BILINEAR] = {bilinear, 1},
    [RESIZE_BICUBIC] = {bicubic, 2},
    [RESIZE_LANCZOS] = {lanczos, 3},
};

/* For each output place: the first input place, how many, and their fixed-point weights. */
typedef struct weights {
    int most;           /* weights per output place, the stride of `weight` */
    int *first, *count; /* [out] */
    int32_t *weight;    /* [out, most] */
} weights;

static void weights_free(weights *w)
{
    free(w->first);
    free(w->count);
    free(w->weight);
    *w = (weights){0};
}

/* line: room for w->most doubles */
static void fill_place(weights *w, int place, int in, double scale, resize_filter filter,
                       double *line)
{
    double stretch = scale < 1 ? 1 : scale, support = filters[filter].support * stretch;
    double center = (place + 0.5) * scale, sum = 0;
    int first = (int)(center - support + 0.5), last = (int)(center + support + 0.5);
    if (first < 0) first = 0;
    if (last > in) last = in;
    int count = last - first;
    for (int i = 0; i < count; i++) {
        line[i] = filters[filter].weight((i + first - center + 0.5) * (1 / stretch));
        sum += line[i];
    }
    int32_t *weight = w->weight + (size_t)place * (size_t)w->most;
    for (int i = 0; i < count; i++) {
        double x = (sum != 0 ? line[i] / sum : line[i]) * (1 << PRECISION);
        weight[i] = (int32_t)(x < 0 ? x - 0.5 : x + 0.5);
    }
    w->first[place] = first;
    w->count[place] = count;
}

static bool weights_make(weights *w, int in, int out, resize_filter filter, error *e)
{
    double scale = (double)in / out, stretch = scale < 1 ? 1 : scale;
    w->most = (int)ceil(filters[filter].support * stretch) * 2 + 1;
    size_t places = (size_t)out, bytes = places * (size_t)w->most * sizeof *w->weight;
    w->first = malloc(places * sizeof *w->first);
    w->count = malloc(places * sizeof *w->count);
    w->weight = malloc(bytes);
    double *line = malloc((size_t)w->most * sizeof *line);
    bool ok = w->first && w->count && w->weight && line;
    for (int i = 0; i < out && ok; i++) fill_place(w, i, in, scale, filter, line);
    free(line);
    if (ok) return true;
    weights_free(w);
    return error_memory(e, "resizing a picture", bytes);
}

static uint8_t clip(int32_t sum)
{
    int32_t x = sum >> PRECISION;
    return (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x);
}

/* Rows: in [height, in width, 3] -> out [height, out width, 3] */
static void pass_rows(image *out, const image *in, const weights *w)
{
    for (int y = 0; y < out->height; y++) {
        const uint8_t *row = in->pixels + (size_t)3 * (size_t)in->width * (size_t)y;
        uint8_t *to = out->pixels + (size_t)3 * (size_t)out->width * (size_t)y;
        for (int x = 0; x < out->width; x++, to += 3) {
            const uint8_t *from = row + (size_t)3 * (size_t)w->first[x];
            const int32_t *weight = w->weight + (size_t)x * (size_t)w->most;
            int32_t r = 1 << (PRECISION - 1), g = r, b = r;
            for (int i = 0; i < w->count[x]; i++, from += 3) {
                r += from[0] * weight[i];
                g += from[1] * weight[i];
                b += from[2] * weight[i];
            }
            to[0] = clip(r);
            to[1] = clip(g);
            to[2] = clip(b);
        }
    }
}

/* Columns: in [in height, width, 3] -> out [out height, width, 3]; sums has room for a row. */
static void pass_columns(image *out, const image *in, const weights *w, int32_t *sums)
{
    size_t stride = (size_t)3 * (size_t)in->width;
    for (int y = 0; y < out->height; y++) {
        const uint8_t *from = in->pixels + stride * (size_t)w->first[y];
        const int32_t *weight = w->weight + (size_t)y * (size_t)w->most;
        uint8_t *to = out->pixels + stride * (size_t)y;
        for (size_t x = 0; x < stride; x++) sums[x] = 1 << (PRECISION - 1);
        for (int i = 0; i < w->count[y]; i++, from += stride)
            for (size_t x = 0; x < stride; x++) sums[x] += from[x] * weight[i];
        for (size_t x = 0; x < stride; x++) to[x] = clip(sums[x]);
    }
}

static bool resize_width(image *out, const image *in, int width, resize_filter filter, error *e)
{
    weights w = {0};
    if (!image_new(out, width, in->height, e)) return false;
    if (!weights_make(&w, in->width, width, filter, e)) {
        image_free(out);
        return false;
    }
    pass_rows(out, in, &w);
    weights_free(&w);
    return true;
}

static bool resize_height(image *out, const image *in, int height, resize_filter filter, error *e)
{
    weights w = {0};
    if (!image_new(out, in->width, height, e)) return false;
    size_t bytes = (size_t)3 * (size_t)in->width * sizeof(int32_t);
    int32_t *sums = malloc(bytes);
    bool ok = sums ? weights_make(&w, in->height, height, filter, e)
                   : error_memory(e, "resizing a picture", bytes);
    if (ok)
        pass_columns(out, in, &w, sums);
    else
        image_free(out);
    weights_free(&w);
    free(sums);
    return ok;
}

bool image_resize(image *out, const image *in, int width, int height, resize_filter filter,
                  error *e)
{
    *out = (image){0};
    if (width == in->width && height == in->height) { /* Pillow copies */
        if (!image_new(out, width, height, e)) return false;
        memcpy(out->pixels, in->pixels, (size_t)3 * (size_t)width * (size_t)height);
        return true;
    }
    if (height == in->height) return resize_width(out, in, width, filter, e);
    if (width == in->width) return resize_height(out, in, height, filter, e);
    /* Pillow 13's rule, found by trial; Pillow 12 and before always took rows first, which differs
     * by a grey level here and there. */
    int64_t wider = (int64_t)width - in->width, higher = (int64_t)height - in->height;
    bool columns_first = higher < 0 && 2 * wider > higher;
    image between;
    bool ok = columns_first ? resize_height(&between, in, height, filter, e)
                            : resize_width(&between, in, width, filter, e);
    if (!ok) return false;
    ok = columns_first ? resize_width(out, &between, width, filter, e)
                       : resize_height(out, &between, height, filter, e);
    image_free(&between);
    return ok;
}
