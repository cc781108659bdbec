/* SPDX-License-Identifier: Apache-2.0
 *
 * pack: the copies of weights in the forms kernels want, kept in weight->packs. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/platform.h"
#include "device/cpu/product.h"

enum { FORM_F32 = 0, BLOCK_FROM = 1 << 20 }; /* from here on a block of huge pages is worth it */

static void pack_free(weight_pack *p)
{
    if (p->close) p->close(p);
    if (p->size >= BLOCK_FROM)
        block_free(p->data, p->size);
    else
        free(p->data);
    free(p);
}

weight_pack *weight_pack_find(const weight *w, uint64_t form)
{
    weight_pack *p = w->packs;
    while (p && p->form != form) p = p->next;
    return p;
}

weight_pack *weight_pack_new(weight *w, uint64_t form, size_t size, error *e)
{
    weight_pack *p = calloc(1, sizeof *p);
    void *data = size >= BLOCK_FROM ? block_alloc(size) : aligned_alloc(64, round_line(size + 1));
    if (!p || !data) {
        if (data && size >= BLOCK_FROM)
            block_free(data, size);
        else
            free(data);
        free(p);
        error_memory(e, w->name, size);
        return NULL;
    }
    *p = (weight_pack){.next = w->packs, .form = form, .data = data, .size = size};
    w->packs = p;
    return p;
}

void weight_pack_drop(weight *w, weight_pack *p)
{
    weight_pack **at = &w->packs;
    while (*at != p) at = &(*at)->next;
    *at = p->next;
    pack_free(p);
}

/* Whether the weight's own data serve as its float32 copy. */
static bool is_f32(const weight *w)
{
    return w->type == DTYPE_F32 && (uintptr_t)w->data % sizeof(float) == 0;
}

bool weight_f32_bind(weight *w, error *e)
{
    weight_pack *p = weight_pack_find(w, FORM_F32);
    if (is_f32(w) || (p && !p->stale)) return true;
    size_t n = (size_t)weight_elements(w);
    if (!p) p = weight_pack_new(w, FORM_F32, n * sizeof(float), e);
    if (!p) return false;
    p->stale = false;
    convert_to_float(p->data, w->data, w->type, n);
    return true;
}

const float *weight_f32(const weight *w)
{
    return is_f32(w) ? w->data : weight_pack_find(w, FORM_F32)->data;
}

void device_touch(weight *w)
{
    for (weight_pack *p = w->packs; p; p = p->next) p->stale = true;
}

void device_forget(weight *w)
{
    while (w->packs) {
        weight_pack *p = w->packs;
        w->packs = p->next;
        pack_free(p);
    }
}

/* ---- panels ---- */

enum {
    KEEP_BELOW = 512 * 1024, /* numbers of a weight; more than that is packed while used */
    PIECE = 8192             /* numbers packed at a time on their way to bfloat16 */
};

size_t device_copy_bytes(const device *d, const weight *w)
{
    size_t n = (size_t)weight_elements(w), type = dtype_size(d->weight_type);
    if (w->rank < 2) return w->type == DTYPE_F32 ? 0 : n * sizeof(float);
    bool kept = n < KEEP_BELOW || d->compute == DTYPE_BF16 || type < dtype_size(w->type);
    return kept ? n * type : 0;
}

bool panels_may_be_made(const product *p)
{
    return p->o * p->c * product_taps(p) >= KEEP_BELOW;
}

static bool are_kept(const weight *w, const product *p)
{
    return !panels_may_be_made(p) || dtype_size(p->pack_type) < dtype_size(w->type);
}

/* The job of k [k, k + count) of one panel. */
static struct pack_job job_of(const weight *w, const product *p, int nr, int64_t panel, int64_t k,
                              int64_t count)
{
    int taps = product_taps(p);
    int64_t n = panel * nr, row = (p->transposed ? p->o : p->c) * taps;
    int64_t from = p->transposed ? k * row + n * taps : n * row + k * taps;
    return (struct pack_job){
        .w = (const char *)w->data + (size_t)from * dtype_size(w->type),
        .type = w->type,
        .row = row,
        .columns = p->o - n < nr ? p->o - n : nr,
        .count = count,
        .taps = taps,
        .transposed = p->transposed,
    };
}

void panels_make(const struct product_kernels *kernel, float *out, const weight *w,
                 const product *p, int64_t panel, int64_t k, int64_t count)
{
    struct pack_job job = job_of(w, p, kernel->nr, panel, k, count);
    job.out = out;
    job.tap_stride = count * kernel->nr;
    kernel->pack(&job);
}

/* One whole panel, as bfloat16. */
static void panel_narrow(const struct product_kernels *kernel, uint16_t *out, const weight *w,
                         const product *p, int64_t panel)
{
    float piece[PIECE];
    int64_t nr = kernel->nr, taps = product_taps(p), step = PIECE / (taps * nr);
    for (int64_t k = 0; k < p->c; k += step) {
        int64_t count = p->c - k < step ? p->c - k : step;
        panels_make(kernel, piece, w, p, panel, k, count);
        for (int64_t tap = 0; tap < taps; tap++)
            kernel->narrow(out + (tap * p->c + k) * nr, piece + tap * count * nr, count * nr);
    }
}

typedef struct panels_job {
    const struct product_kernels *kernel;
    const weight *w;
    const product *p;
    weight_pack *pack;
    int64_t panels, one; /* numbers of a panel */
    int pieces;
} panels_job;

static void panels_piece(void *context, int piece, int worker)
{
    (void)worker;
    const panels_job *j = context;
    int64_t i, end;
    piece_range(j->panels, 1, piece, j->pieces, &i, &end);
    for (; i < end; i++) {
        if (j->p->pack_type == DTYPE_BF16)
            panel_narrow(j->kernel, (uint16_t *)j->pack->data + i * j->one, j->w, j->p, i);
        else
            panels_make(j->kernel, (float *)j->pack->data + i * j->one, j->w, j->p, i, 0, j->p->c);
    }
}

bool panels_bind(const device *d, weight *w, const product *p, error *e)
{
    panels_job j = {.kernel = cpu_kernels_of(d)->product, .w = w, .p = p,
                    .pack = weight_pack_find(w, p->form)};
    if (!are_kept(w, p) || (j.pack && !j.pack->stale)) return true;
    j.panels = (p->o + j.kernel->nr - 1) / j.kernel->nr;
    j.one = product_taps(p) * p->c * j.kernel->nr;
    size_t bytes = (size_t)(j.panels * j.one) * dtype_size(p->pack_type);
    if (!j.pack) j.pack = weight_pack_new(w, p->form, bytes, e);
    if (!j.pack) return false;
    j.pack->stale = false;
    assert(product_taps(p) * j.kernel->nr <= PIECE);
    j.pieces = cpu_pieces(d, j.panels * j.one);
    cpu_deal(d, j.panels * j.one, j.pieces, panels_piece, &j);
    return true;
}

const void *panels_of(const weight *w, const product *p)
{
    const weight_pack *pack = weight_pack_find(w, p->form);
    return pack ? pack->data : NULL;
}
