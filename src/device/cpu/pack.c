/* SPDX-License-Identifier: Apache-2.0
 *
 * pack: the copies of weights in the forms kernels want, kept in weight->packs. */
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

bool weight_f32_bind(weight *w, error *e)
{
    if (weight_pack_find(w, FORM_F32)) return true;
    size_t n = (size_t)weight_elements(w);
    weight_pack *p = weight_pack_new(w, FORM_F32, n * sizeof(float), e);
    if (!p) return false;
    convert_to_float(p->data, w->data, w->type, n);
    return true;
}

const float *weight_f32(const weight *w) { return weight_pack_find(w, FORM_F32)->data; }

void device_forget(weight *w)
{
    while (w->packs) {
        weight_pack *p = w->packs;
        w->packs = p->next;
        pack_free(p);
    }
}

/* Panels: [n / nr][taps][k][nr] of a weight [o][c][taps]. As it stands n is o and k is c;
 * transposed (a gradient by x) n is c, k is o, and the taps run backwards. */
struct panels {
    int64_t n, k, c; /* c: the weight's second dimension */
    int taps, nr;
    bool transposed;
    dtype type;
};

/* Numbers of a row of the weight turned to float32 at a time. */
enum { PIECE = 1152, NR_MAX = 32 };

static void panel_put(void *out, const struct panels *q, int64_t k, int tap,
                      const float *const *rows, int64_t at)
{
    int64_t place = ((int64_t)tap * q->k + k) * q->nr;
    if (q->type == DTYPE_F32) {
        float *to = (float *)out + place;
        for (int j = 0; j < q->nr; j++) to[j] = rows[j][at];
    } else {
        uint16_t *to = (uint16_t *)out + place;
        for (int j = 0; j < q->nr; j++) to[j] = bf16_from_float(rows[j][at]);
    }
}

/* n is o: each column is a row of the weight, read piece by piece. */
static void panel_straight(void *out, const struct panels *q, const weight *w, int64_t panel)
{
    float piece[NR_MAX][PIECE];
    const float *rows[NR_MAX];
    size_t size = dtype_size(w->type);
    int64_t step = PIECE / q->taps;
    for (int j = 0; j < q->nr; j++) rows[j] = piece[j];
    memset(piece, 0, sizeof piece);
    for (int64_t k = 0; k < q->k; k += step) {
        int64_t count = q->k - k < step ? q->k - k : step;
        for (int j = 0; j < q->nr && panel * q->nr + j < q->n; j++) {
            int64_t from = ((panel * q->nr + j) * q->k + k) * q->taps;
            convert_to_float(piece[j], (const char *)w->data + (size_t)from * size, w->type,
                             (size_t)(count * q->taps));
        }
        for (int tap = 0; tap < q->taps; tap++)
            for (int64_t i = 0; i < count; i++)
                panel_put(out, q, k + i, tap, rows, i * q->taps + tap);
    }
}

/* n is c: the columns lie side by side in each row of the weight. */
static void panel_transposed(void *out, const struct panels *q, const weight *w, int64_t panel)
{
    float piece[PIECE];
    const float *rows[NR_MAX];
    size_t size = dtype_size(w->type);
    int64_t n = panel * q->nr, count = q->n - n < q->nr ? q->n - n : q->nr;
    for (int j = 0; j < q->nr; j++) rows[j] = piece + j * q->taps;
    memset(piece, 0, sizeof piece);
    for (int64_t k = 0; k < q->k; k++) {
        int64_t from = (k * q->c + n) * q->taps;
        convert_to_float(piece, (const char *)w->data + (size_t)from * size, w->type,
                         (size_t)(count * q->taps));
        for (int tap = 0; tap < q->taps; tap++)
            panel_put(out, q, k, tap, rows, q->taps - 1 - tap);
    }
}

bool panels_bind(weight *w, const product *p, int nr, error *e)
{
    if (weight_pack_find(w, p->form)) return true;
    struct panels q = {.n = p->o, .k = p->c, .c = p->transposed ? p->o : p->c,
                       .taps = product_taps(p), .nr = nr, .transposed = p->transposed,
                       .type = p->pack_type};
    int64_t panels = (q.n + nr - 1) / nr;
    size_t one = (size_t)(q.taps * q.k * nr) * dtype_size(q.type);
    weight_pack *pack = weight_pack_new(w, p->form, (size_t)panels * one, e);
    if (!pack) return false;
#pragma omp parallel for schedule(static) num_threads(p->grid_m * p->grid_n)
    for (int64_t i = 0; i < panels; i++) {
        void *out = (char *)pack->data + (size_t)i * one;
        if (q.transposed)
            panel_transposed(out, &q, w, i);
        else
            panel_straight(out, &q, w, i);
    }
    return true;
}

const void *panels_of(const weight *w, const product *p)
{
    return weight_pack_find(w, p->form)->data;
}
