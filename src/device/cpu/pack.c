/* SPDX-License-Identifier: Apache-2.0
 *
 * pack: the copies of weights in the forms kernels want, kept in weight->packs. */
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/platform.h"
#include "device/cpu/cpu.h"

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

static int64_t weight_count(const weight *w)
{
    int64_t n = 1;
    for (int i = 0; i < w->rank; i++) n *= w->dim[i];
    return n;
}

bool weight_f32_bind(weight *w, error *e)
{
    if (weight_pack_find(w, FORM_F32)) return true;
    size_t n = (size_t)weight_count(w);
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
