/* SPDX-License-Identifier: Apache-2.0
 *
 * product: what the files of the matrix products and convolutions share.
 *
 * Every such operation is one problem: out[row][n] = sum over taps t and channels k of
 * in[row moved by t][k] * b[t][k][n], where `in` is a map [batch, h, w, c], a row is a pixel of the
 * output, and b is the weight packed in panels of nr columns: [panel][tap][c][nr]. A linear layer
 * has one tap; the gradient by x is the same with the weight transposed and turned round. */
#ifndef LIKENESS_DEVICE_CPU_PRODUCT_H
#define LIKENESS_DEVICE_CPU_PRODUCT_H

#include "device/cpu/cpu.h"

/* One register tile: m rows (1..mr) of n columns (1..nr) are
 * c = bias + add + sum over taps, k of rows[tap][row][offset + k] * b[tap][k][column],
 * where b is [taps][k][nr], F32 or F16. To go on with a sum, `add` is c itself. */
struct tile_job {
    const float *const *rows; /* [taps][m] */
    int64_t offset;
    int64_t taps, k;
    const void *b;
    dtype b_type;
    const float *bias; /* [n], or NULL */
    const float *add;  /* or NULL */
    int64_t add_stride;
    float *c;
    int64_t c_stride;
    int64_t n;
};

/* Sums of Winograd's products: for each of `points`, m rows (1..mr) of nr columns are
 * c = (c +) sum over k of a[row * a_row + k] * b[k * b_row + column]; a, b and c go on by their
 * strides. */
struct points_job {
    int64_t points, k;
    const float *a, *b;
    int64_t a_row, b_row, a_stride, b_stride;
    float *c; /* [m][nr] of a point */
    int64_t c_stride;
    bool go_on; /* with the sums that are there */
};

/* Panels of nr columns out of a weight [rows][row], turned to float32: for each of `count` k and
 * each tap, out[tap * tap_stride + k * nr + column], columns past `columns` zero. As it stands a
 * column is a row of the weight, of which w is the first k; transposed a k is a row of the weight,
 * of which w is the first column, and the taps run backwards. */
enum { PACK_TAPS_MAX = 64 };

struct pack_job {
    const void *w;
    dtype type;  /* F32, F16 or BF16 */
    int64_t row; /* numbers from row to row */
    int64_t columns, count;
    int taps;
    bool transposed;
    float *out;
    int64_t tap_stride;
};

struct product_kernels {
    int mr, nr;
    bool reads_f16; /* a tile of float16 weights takes no longer than one of float32 */
    void (*pack)(const struct pack_job *job);
    void (*tile)(int m, const struct tile_job *job);
    void (*points)(int m, const struct points_job *job);
    void (*expand)(float *out, const uint16_t *in, int64_t n); /* bfloat16 to float32 */
    void (*narrow)(uint16_t *out, const float *in, int64_t n); /* and back */
    void (*halve)(uint16_t *out, const float *in, int64_t n);  /* float32 to float16 */
};

enum product_method { PRODUCT_DIRECT, PRODUCT_WINOGRAD, PRODUCT_ONEDNN };

/* One prepared problem. */
typedef struct product {
    int64_t batch, h, w, c; /* in; h and w are those of the memory */
    int64_t oh, ow, o;      /* out */
    int kh, kw;
    int stride; /* of the output over the input */
    int spread; /* distance of the input's pixels: the stride in a gradient by x */
    int pad_top, pad_left;
    bool doubled;    /* the input's pixels are equal in squares of 2 x 2 */
    bool transposed; /* the weight is used as [c of the weight = o here] */
    dtype x_type, y_type, add_type;
    bool has_bias, has_add;
    bool pairs; /* a direct gradient by the weight multiplies pairs of bfloat16 */
    enum product_method method;
    uint64_t form; /* of the weight's pack */
    dtype pack_type;
    int grid_m, grid_n; /* rectangles over rows (Winograd: tiles), over columns */
    struct onednn_product *onednn;
    float *zero; /* [c or o, the larger] zeros, the rows that padding reads */
} product;

/* The pointers of a run. */
struct product_data {
    const void *x;
    const array *w;
    const float *bias; /* [o] or NULL */
    const void *add;   /* [rows][o] or NULL */
    void *y;
    char *scratch;
};

static inline int64_t product_rows(const product *p) { return p->batch * p->oh * p->ow; }
static inline int product_taps(const product *p) { return p->kh * p->kw; }

/* Into how many rectangles to cut m rows and n columns, in steps of mr and nr: at most `a_thread`
 * for each of `threads`, but never rectangles of more rows or columns than may be. Every row of
 * a rectangle costs as much as edge_m products besides its own, every column as edge_n. */
struct grid {
    int threads, a_thread;
    int64_t m, n;
    int mr, nr;
    int edge_m, edge_n;
    int64_t m_most, n_most; /* 0: any number */
};

void grid_cut(const struct grid *g, int *grid_m, int *grid_n);

/* direct.c */
void direct_cut(const device *d, product *p); /* chooses its grid */
size_t direct_scratch(const device *d, const product *p);
void direct_run(device *d, const product *p, const struct product_data *data);

/* winograd.c */
bool winograd_pays(const product *p, int nr);
void winograd_cut(const device *d, product *p); /* chooses its grid */
size_t winograd_scratch(const device *d, const product *p);
void winograd_run(device *d, const product *p, const struct product_data *data);

/* grad_w.c: dw of a product; p describes the forward problem, and its method is dw's. */
void grad_w_cut(const device *d, product *p); /* chooses its grid */
size_t grad_w_scratch(const device *d, const product *p);
void grad_w_run(device *d, const product *p, const void *dy, const void *x, float *dw,
                char *scratch);

/* pack.c: the weight as panels [o / nr][taps][c][nr] with zero-filled columns. Those of a small
 * weight are kept (as float32, bfloat16, or where the weight is that, float16), and so is a
 * bfloat16 copy that is smaller than the weight; a large one, which is read whole by few
 * evaluations before it is asked for again, is packed piece by piece while it is used: no second
 * copy of it has to be made before the first step, or held. */
bool panels_may_be_made(const product *p); /* known before the weight is */
bool panels_bind(const device *d, const array *w, const product *p, error *e);
const void *panels_of(const array *w, const product *p); /* NULL: not kept */
dtype panels_type(const struct product_kernels *kernel, const array *w, const product *p);
/* k [k, k + count) of one panel, all taps: out[taps][count][nr]. */
void panels_make(const struct product_kernels *kernel, float *out, const array *w, const product *p,
                 int64_t panel, int64_t k, int64_t count);

#endif
