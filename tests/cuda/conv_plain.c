/* SPDX-License-Identifier: Apache-2.0
 *
 * conv_plain: conv.h in plain loops. */
#include <assert.h>
#include <stdlib.h>

#include "device/cuda/conv.h"
#include "emulated.h"
#include "numbers.h"

struct conv_library {
    int unused;
};
struct conv_plan {
    conv_shape shape;
};

bool conv_library_open(conv_library **out, const gpu *g, error *e)
{
    (void)g;
    *out = calloc(1, sizeof **out);
    return *out || error_memory(e, "a library", sizeof **out);
}

void conv_library_close(conv_library **l)
{
    free(*l);
    *l = NULL;
}

enum { SCRATCH = 128 };

bool conv_open(conv_plan **out, conv_library *l, const conv_shape *s, size_t *scratch, error *e)
{
    (void)l;
    *scratch = SCRATCH;
    *out = calloc(1, sizeof **out);
    if (!*out) return error_memory(e, "a convolution", sizeof **out);
    (*out)->shape = *s;
    return true;
}

void conv_close(conv_plan **p)
{
    free(*p);
    *p = NULL;
}

typedef struct conv_job {
    conv_shape s;
    const void *a, *b;
    void *result;
    bool onto;
} conv_job;

/* For every pair of pixels that meet at a tap of the filter */
#define EACH_MEETING(s)                                                                            \
    for (int64_t n = 0; n < (s)->batch; n++)                                                       \
        for (int64_t v = 0; v < (s)->y_height; v++)                                                \
            for (int64_t u = 0; u < (s)->y_width; u++)                                             \
                for (int64_t i = 0; i < (s)->kh; i++)                                              \
                    for (int64_t j = 0; j < (s)->kw; j++)                                          \
                        if (meets(s, v, u, i, j))

static bool meets(const conv_shape *s, int64_t v, int64_t u, int64_t i, int64_t j)
{
    int64_t h = v * s->stride - s->pad_height + i, w = u * s->stride - s->pad_width + j;
    return h >= 0 && h < s->height && w >= 0 && w < s->width;
}

static void run(void *context)
{
    const conv_job *c = context;
    const conv_shape *s = &c->s;
    int64_t x_count = s->batch * s->height * s->width * s->in,
            w_count = s->out * s->kh * s->kw * s->in;
    int64_t y_count = s->batch * s->y_height * s->y_width * s->out;
    int64_t count = s->way == CONV_FORWARD ? y_count : s->way == CONV_BY_DATA ? x_count : w_count;
    float *first = numbers_read(c->a, s->type, s->way == CONV_FORWARD ? x_count : y_count);
    float *second = numbers_read(c->b, s->type, s->way == CONV_BY_WEIGHTS ? x_count : w_count);
    double *sum = calloc((size_t)count + 1, sizeof *sum);
    if (!sum) abort();
    EACH_MEETING(s)
    {
        int64_t h = v * s->stride - s->pad_height + i, w = u * s->stride - s->pad_width + j;
        int64_t y = ((n * s->y_height + v) * s->y_width + u) * s->out,
                x = ((n * s->height + h) * s->width + w) * s->in;
        for (int64_t o = 0; o < s->out; o++) {
            int64_t f = ((o * s->kh + i) * s->kw + j) * s->in;
            for (int64_t k = 0; k < s->in; k++) {
                if (s->way == CONV_FORWARD)
                    sum[y + o] += (double)first[x + k] * (double)second[f + k];
                if (s->way == CONV_BY_DATA)
                    sum[x + k] += (double)first[y + o] * (double)second[f + k];
                if (s->way == CONV_BY_WEIGHTS)
                    sum[f + k] += (double)first[y + o] * (double)second[x + k];
            }
        }
    }
    for (int64_t i = 0; i < count; i++) {
        float old = c->onto ? number_get(c->result, s->type, i) : 0;
        number_set(c->result, s->type, i, (float)sum[i] * s->scale + old); /* sums are float32 */
    }
    free(first);
    free(second);
    free(sum);
}

bool conv_run(const conv_plan *p, const void *a, const void *b, void *result, bool onto,
              void *scratch, error *e)
{
    conv_job j = {p->shape, a, b, result, onto};
    (void)e;
    assert(a && b && result);
    ((char *)scratch)[SCRATCH - 1] = 1;
    emulated_do(run, &j, sizeof j);
    return true;
}
