/* SPDX-License-Identifier: Apache-2.0
 *
 * hash: see hash.h. A tensor is hashed by itself, so that threads can share them out. */
#include "model/hash.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/sha256.h"

enum {
    AT_ONCE = 512, /* tensors whose hashes are held: most sets' all, so that threads wait once */
    BYTES_AT_ONCE = 128
                    << 20, /* files give their pages back as often, so that they do not add up */
};

typedef struct group {
    const weight *item;
    char hex[AT_ONCE][65];
} group;

static size_t weight_bytes(const weight *w)
{
    return (size_t)weight_elements(w) * dtype_size(w->type);
}

static void hash_data(void *context, int piece, int worker)
{
    group *g = context;
    (void)worker;
    sha256_of(g->hex[piece], g->item[piece].data, weight_bytes(&g->item[piece]));
}

static void add_weight(sha256 *s, const weight *w, const char hex[65])
{
    char text[128];
    int n = snprintf(text, sizeof text, "%s", dtype_name(w->type));
    for (int k = 0; k < w->rank; k++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %lld", (long long)w->dim[k]);
    sha256_add(s, w->name, strlen(w->name) + 1);
    sha256_add(s, text, (size_t)n + 1);
    sha256_add(s, hex, 64);
}

static bool set_hash(const weight_set *set, thread_pool *pool, const work_watch *watch,
                     char out[65], error *e)
{
    sha256 s;
    sha256_start(&s);
    for (size_t begin = 0, end; begin < set->count; begin = end) {
        group g = {.item = set->item + begin};
        size_t bytes = 0;
        if (!work_goes_on(watch, (int64_t)begin, (int64_t)set->count, e)) return false;
        for (end = begin; end < set->count && end - begin < AT_ONCE && bytes < BYTES_AT_ONCE; end++)
            bytes += weight_bytes(&set->item[end]);
        thread_pool_run(pool, (int)(end - begin), hash_data, &g);
        for (size_t i = begin; i < end; i++) add_weight(&s, &set->item[i], g.hex[i - begin]);
        if (set->storage_drop) set->storage_drop(set->storage);
    }
    sha256_end(&s, out);
    return true;
}

void weight_set_hash(const weight_set *set, thread_pool *pool, char out[65])
{
    set_hash(set, pool, NULL, out, NULL);
}

static bool hash_all(const model *m, thread_pool *pool, const work_watch *watch, char out[65],
                     error *e)
{
    const weight_set *sets[] = {&m->unet_weights, &m->clip_weights, &m->vae_weights};
    sha256 s;
    sha256_start(&s);
    for (int i = 0; i < 3; i++) {
        char hex[65];
        if (!set_hash(sets[i], pool, watch, hex, e)) return false;
        sha256_add(&s, hex, 64);
    }
    sha256_end(&s, out);
    return true;
}

/* Guards what models keep of their hashes, which threads may want at the same time. */
static pthread_mutex_t keeping = PTHREAD_MUTEX_INITIALIZER;

bool model_hash_watched(const model *m, thread_pool *pool, const work_watch *watch, char out[65],
                        error *e)
{
    *out = '\0';
    pthread_mutex_lock(&keeping);
    if (m->hash) memcpy(out, m->hash, 65);
    pthread_mutex_unlock(&keeping);
    if (*out) return true;
    if (!hash_all(m, pool, watch, out, e)) return false;
    pthread_mutex_lock(&keeping);
    if (m->hash) memcpy(m->hash, out, 65);
    pthread_mutex_unlock(&keeping);
    return true;
}

void model_hash_with(const model *m, thread_pool *pool, char out[65])
{
    model_hash_watched(m, pool, NULL, out, NULL);
}

void model_hash(const model *m, char out[65]) { model_hash_with(m, NULL, out); }
