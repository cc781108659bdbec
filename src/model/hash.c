/* SPDX-License-Identifier: Apache-2.0
 *
 * hash: see hash.h. A tensor is hashed by itself, so that several can be at the same time. */
#include "model/hash.h"

#include <stdio.h>
#include <string.h>

#include "base/sha256.h"

static void add_weight(sha256 *s, const weight *w)
{
    sha256 data;
    char text[128], hex[65];
    int n = snprintf(text, sizeof text, "%s", dtype_name(w->type));
    for (int k = 0; k < w->rank; k++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %lld", (long long)w->dim[k]);
    sha256_start(&data);
    sha256_add(&data, w->data, (size_t)weight_elements(w) * dtype_size(w->type));
    sha256_end(&data, hex);
    sha256_add(s, w->name, strlen(w->name) + 1);
    sha256_add(s, text, (size_t)n + 1);
    sha256_add(s, hex, 64);
}

void weight_set_hash(const weight_set *set, char out[65])
{
    sha256 s;
    sha256_start(&s);
    for (size_t i = 0; i < set->count; i++) add_weight(&s, &set->item[i]);
    if (set->storage_drop)
        set->storage_drop(set->storage);
    sha256_end(&s, out);
}

void model_hash(const model *m, char out[65])
{
    const weight_set *sets[] = {&m->unet_weights, &m->clip_weights, &m->vae_weights};
    if (m->hash && *m->hash) {
        memcpy(out, m->hash, 65);
        return;
    }
    sha256 s;
    sha256_start(&s);
    for (int i = 0; i < 3; i++) {
        char hex[65];
        weight_set_hash(sets[i], hex);
        sha256_add(&s, hex, 64);
    }
    sha256_end(&s, out);
    if (m->hash) memcpy(m->hash, out, 65);
}
