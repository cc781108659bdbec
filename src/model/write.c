/* SPDX-License-Identifier: Apache-2.0
 *
 * write: see write.h. Weights are converted piece by piece while they are written, straight from
 * where they lie. */
#include "model/write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/number.h"
#include "file/safetensors.h"
#include "model/names.h"
#include "model/save.h"
#include "model/told.h"

enum { PIECE = 16384, DROP_BYTES = 128 << 20 };

typedef struct writing {
    const char *path;
    const weight_set *const *set; /* whose pages are given back as they are written; NULL ends it */
    const work_watch *watch;
    size_t done, total, kept; /* tensors; bytes since pages were given back */
} writing;

/* A piece of w from number `at` on, in another type. */
static bool put_piece(const writing *t, const weight *w, size_t at, size_t n, dtype type,
                      file_writer *out, error *e)
{
    float value[PIECE];
    uint16_t half[PIECE];
    convert_to_float(value, (const uint8_t *)w->data + at * dtype_size(w->type), w->type, n);
    if (type == DTYPE_F32) return file_writer_put(out, value, n * sizeof *value, e);
    convert_from_float(half, type, value, n);
    for (size_t i = 0; i < n; i++)
        if (isfinite(value[i]) && (half[i] & 0x7fff) == (type == DTYPE_F16 ? 0x7c00 : 0x7f80))
            return error_set(e, ERROR_NUMERIC, "%s: %s holds %s, and %s; write it in f32%s",
                             t->path, w->name, number_exact_float(value[i]).text,
                             type == DTYPE_F16 ? "float16 ends at 65504"
                                               : "bfloat16 ends at 3.39e38",
                             type == DTYPE_F16 ? " or bf16" : "");
    return file_writer_put(out, half, n * sizeof *half, e);
}

static void give_back(writing *t)
{
    for (int i = 0; t->set[i]; i++)
        if (t->set[i]->storage_drop) t->set[i]->storage_drop(t->set[i]->storage);
    t->kept = 0;
}

/* safetensors_put; entry->data is the weight. */
static bool put_weight(void *context, const safetensors_entry *entry, file_writer *out, error *e)
{
    writing *t = context;
    const weight *w = entry->data;
    size_t n = (size_t)weight_elements(w);
    bool ok = work_goes_on(t->watch, (int64_t)t->done++, (int64_t)t->total, e);
    if (ok && w->type == entry->type) ok = file_writer_put(out, w->data, (size_t)entry->bytes, e);
    for (size_t at = 0; ok && w->type != entry->type && at < n; at += PIECE)
        ok = put_piece(t, w, at, n - at < PIECE ? n - at : PIECE, entry->type, out, e);
    t->kept += n * dtype_size(w->type);
    if (t->kept > DROP_BYTES) give_back(t);
    return ok;
}

static void fill_entry(safetensors_entry *entry, const weight *w, const char *name, const dtype *as)
{
    dtype type = as ? *as : w->type;
    *entry = (safetensors_entry){.name = name,
                                 .type = type,
                                 .rank = w->rank,
                                 .data = w,
                                 .bytes = (uint64_t)weight_elements(w) * dtype_size(type)};
    memcpy(entry->dim, w->dim, (size_t)w->rank * sizeof *w->dim);
}

bool weights_write(const weight_set *set, const dtype *as, const char *path, char *hash, error *e)
{
    safetensors_entry *entry = calloc(set->count + 1, sizeof *entry);
    if (!entry) return error_memory(e, path, (set->count + 1) * sizeof *entry);
    const weight_set *const sets[] = {set, NULL};
    writing t = {.path = path, .set = sets, .total = set->count};
    for (size_t i = 0; i < set->count; i++)
        fill_entry(&entry[i], &set->item[i], set->item[i].name, as);
    bool ok = safetensors_write_with(path, entry, set->count, NULL, 0, hash, put_weight, &t, e);
    give_back(&t); /* what was read of mapped files is not kept in memory */
    free(entry);
    return ok;
}

/* ---- a single file ---- */

/* The autoencoder's attention was made of convolutions. */
static void as_convolution(safetensors_entry *entry)
{
    static const char *const parts[] = {".attn_1.q.weight", ".attn_1.k.weight", ".attn_1.v.weight",
                                        ".attn_1.proj_out.weight"};
    for (size_t i = 0; entry->rank == 2 && i < sizeof parts / sizeof *parts; i++)
        if (strstr(entry->name, parts[i])) {
            entry->dim[2] = entry->dim[3] = 1;
            entry->rank = 4;
        }
}

static bool add_network(safetensors_entry *entry, size_t *count, const weight_set *set,
                        const naming *names, const dtype *as, arena *memory, error *e)
{
    char spelt[NAME_LENGTH];
    for (size_t i = 0; i < set->count; i++) {
        naming_spell(names, set->item[i].name, 0, spelt);
        const char *name = arena_strdup(memory, spelt);
        if (!name) return error_memory(e, "names of weights", sizeof spelt);
        fill_entry(&entry[*count], &set->item[i], name, as);
        as_convolution(&entry[(*count)++]);
    }
    return true;
}

/* What says in such a file that velocity is predicted: nothing else in it differs. */
static void add_sign(safetensors_entry *entry, size_t *count, const char *name, weight *empty)
{
    *empty = (weight){.name = name, .type = DTYPE_F32, .rank = 1, .data = ""};
    fill_entry(&entry[(*count)++], empty, name, NULL);
}

bool model_write_single(const model *m, const dtype *as, const char *path, const work_watch *watch,
                        error *e)
{
    if (!model_refuse_unsavable(m, e)) return false;
    const naming names[] = {
        {NETWORK_UNET, true, "model.diffusion_model.", &m->unet, NULL, 0, 0},
        {NETWORK_CLIP, true, "cond_stage_model.transformer.", NULL, NULL, 0, 0},
        {NETWORK_VAE, true, "first_stage_model.", NULL, &m->vae, 0, 0},
    };
    const weight_set *const sets[] = {&m->unet_weights, &m->clip_weights, &m->vae_weights, NULL};
    size_t total = m->unet_weights.count + m->clip_weights.count + m->vae_weights.count + 2,
           count = 0;
    weight sign[2];
    arena memory = {0};
    safetensors_entry *entry = calloc(total, sizeof *entry);
    safetensors_pair pair[TOLD_PAIRS];
    size_t pairs = 0;
    bool ok = entry || error_memory(e, path, total * sizeof *entry);
    ok = ok && told_write(pair, &pairs, m, &memory, e);
    for (int i = 0; ok && i < 3; i++)
        ok = add_network(entry, &count, sets[i], &names[i], as, &memory, e);
    if (ok && m->scheduler.predicts == PREDICT_V) add_sign(entry, &count, "v_pred", &sign[0]);
    if (ok && m->scheduler.zero_snr) add_sign(entry, &count, "ztsnr", &sign[1]);
    writing t = {.path = path, .set = sets, .watch = watch, .total = count};
    ok = ok && safetensors_write_with(path, entry, count, pair, pairs, NULL, put_weight, &t, e);
    give_back(&t);
    arena_free(&memory);
    free(entry);
    return ok;
}

const char *model_single_loses(const model *m)
{
    clip_config clip;
    unet_config unet;
    vae_config vae;
    scheduler_config scheduler;
    clip_config_sd1(&clip);
    unet_config_sd1(&unet);
    vae_config_sd1(&vae);
    scheduler_config_sd1(&scheduler);
    const scheduler_config *s = &m->scheduler;
    if (m->unet.blocks != unet.blocks || m->unet.cross_dim != unet.cross_dim ||
        m->unet.channels[0] != unet.channels[0] || m->clip.layers != clip.layers ||
        m->vae.channels[0] != vae.channels[0])
        return "its sizes, which are not Stable Diffusion 1's";
    if (m->clip.vocab != clip.vocab) return "the tokens added to its tokenizer";
    if (m->vae.scaling_factor != vae.scaling_factor) return "its autoencoder's scaling_factor";
    if (s->betas != scheduler.betas || s->trained_betas || s->beta_start != scheduler.beta_start ||
        s->beta_end != scheduler.beta_end || s->train_steps != scheduler.train_steps ||
        s->predicts == PREDICT_SAMPLE)
        return "its noise schedule, which is not Stable Diffusion 1's";
    return NULL;
}
