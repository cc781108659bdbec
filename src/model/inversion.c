/* SPDX-License-Identifier: Apache-2.0
 *
 * inversion: see inversion.h. The files are those of diffusers ({"<dog>": rows}) and of
 * AUTOMATIC1111 (string_to_param, emb_params), as safetensors or PyTorch's; what happens is
 * diffusers' load_textual_inversion. */
#include "model/inversion.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/platform.h"
#include "base/sha256.h"
#include "file/torch.h"
#include "model/overlay.h"

enum { ROWS_MAX = 75, HASH_DIGITS = 12 };

#define EMBEDDING "text_model.embeddings.token_embedding.weight"

/* The rows of one file. */
typedef struct rows {
    char token[200];
    int count;
    int32_t first; /* the id of the first; the others follow */
    float *data;   /* [count, hidden], in the arena */
} rows;

/* The tensor that is the embedding; NULL with an error. */
static const safetensors_entry *find_rows(const safetensors *f, const char *path, error *e)
{
    static const char *const names[] = {"string_to_param.*", "emb_params"};
    if (safetensors_find(f, "clip_g")) {
        error_set(e, ERROR_MODEL,
                  "%s: is a textual inversion for Stable Diffusion XL; it fits no Stable "
                  "Diffusion 1",
                  path);
        return NULL;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const safetensors_entry *found = safetensors_find(f, names[i]);
        if (found) return found;
    }
    if (f->count == 1) return &f->entry[0];
    error_set(e, ERROR_MODEL, "%s: is no textual inversion: it holds %zu tensors", path, f->count);
    return NULL;
}

/* AUTOMATIC1111's files are called by their name, diffusers' say what the word is. */
static void name_rows(rows *r, const inversion_choice *c, const safetensors_entry *t, bool bare)
{
    const char *slash = strrchr(c->path, '/'), *name = slash ? slash + 1 : c->path;
    const char *dot = strrchr(name, '.');
    int length = (int)(dot && dot > name ? (size_t)(dot - name) : strlen(name));
    bool named = strcmp(t->name, "string_to_param.*") != 0 && strcmp(t->name, "emb_params") != 0 &&
                 !bare;
    if (c->token)
        snprintf(r->token, sizeof r->token, "%s", c->token);
    else if (named)
        snprintf(r->token, sizeof r->token, "%s", t->name);
    else
        snprintf(r->token, sizeof r->token, "%.*s", length, name);
}

static bool take_rows(rows *r, const model *m, const inversion_choice *c,
                      const safetensors_entry *t, arena *memory, error *e)
{
    int64_t wide = t->rank ? t->dim[t->rank - 1] : 0, n = t->rank == 2 ? t->dim[0] : 1;
    if (t->rank == 2 && (n < 1 || n > ROWS_MAX))
        return error_set(e, ERROR_MODEL,
                         "%s: is a textual inversion of %lld vectors; 1 to %d fit into a prompt",
                         c->path, (long long)n, ROWS_MAX);
    if (t->rank < 1 || t->rank > 2 ||
        (t->type != DTYPE_F32 && t->type != DTYPE_F16 && t->type != DTYPE_BF16 &&
         t->type != DTYPE_F64))
        return error_set(e, ERROR_MODEL, "%s: is no textual inversion: %.100s is no row of numbers",
                         c->path, t->name);
    if (wide != m->clip.hidden)
        return error_set(e, ERROR_MODEL,
                         "%s: is for a text encoder that is %lld wide, this model's is %d", c->path,
                         (long long)wide, m->clip.hidden);
    r->count = (int)n;
    size_t numbers = (size_t)(n * wide);
    void *aligned = arena_alloc(memory, (size_t)t->bytes);
    r->data = arena_alloc(memory, numbers * sizeof *r->data);
    if (!aligned || !r->data) return error_memory(e, c->path, numbers * sizeof *r->data);
    memcpy(aligned, t->data, (size_t)t->bytes);
    convert_to_float(r->data, aligned, t->type, numbers);
    for (size_t i = 0; i < numbers; i++)
        if (!isfinite(r->data[i]))
            return error_set(e, ERROR_NUMERIC, "%s: holds a NaN or an infinity", c->path);
    return true;
}

static bool add_words(rows *r, model *m, const char *path, error *e)
{
    char word[224];
    for (int i = 0; i < r->count; i++) {
        int32_t id;
        snprintf(word, sizeof word, i ? "%s_%d" : "%s", r->token, i);
        if (!tokenizer_add(m->tokens, word, &id, e)) return error_prefix(e, path);
        if (!i) r->first = id;
    }
    return true;
}

/* "name: 0123456789ab" behind what is told already, as AUTOMATIC1111's "TI hashes". */
static bool tell(model *m, const rows *r, const mapped_file *map, error *e)
{
    char hash[65];
    sha256_of(hash, map->data, map->size);
    const char *before = m->inversion_hashes;
    char *text = string_format("%s%s%s: %.*s", before ? before : "", before ? ", " : "", r->token,
                               HASH_DIGITS, hash);
    if (!text) return error_memory(e, "a textual inversion", 64);
    free(m->inversion_hashes);
    m->inversion_hashes = text;
    return true;
}

/* A word that the tokenizer has is the new one from now on, as in AUTOMATIC1111. */
static bool note_word(model *m, const rows *r, error *e)
{
    int32_t *ids = NULL;
    int count;
    if (!*r->token) return true; /* tokenizer_add refuses it */
    if (!tokenizer_encode_whole(m->tokens, r->token, &ids, &count, e)) return false;
    free(ids);
    if (count != 1) return true;
    const char *before = m->inversion_words;
    char *text = string_format("%s%s%s", before ? before : "", before ? ", " : "", r->token);
    if (!text) return error_memory(e, "a textual inversion", 64);
    free(m->inversion_words);
    m->inversion_words = text;
    return true;
}

static bool read_file(rows *r, model *m, const inversion_choice *c, arena *memory, error *e)
{
    safetensors f;
    if (!tensors_open(&f, c->path, e)) return false;
    const safetensors_entry *t = find_rows(&f, c->path, e);
    if (t) name_rows(r, c, t, f.bare);
    bool ok = t && take_rows(r, m, c, t, memory, e) && note_word(m, r, e) &&
              add_words(r, m, c->path, e) && tell(m, r, &f.map, e);
    safetensors_close(&f);
    return ok;
}

/* The text encoder's embedding with the new rows, in float32. */
static bool grow(model *m, const rows *list, size_t count, error *e)
{
    weight *w = weight_find(&m->clip_weights, EMBEDDING);
    int64_t size = m->clip.vocab, wide = m->clip.hidden;
    arena memory = {0};
    for (size_t i = 0; i < count; i++)
        if (list[i].first + list[i].count > size) size = list[i].first + list[i].count;
    float *data = w ? arena_alloc(&memory, (size_t)(size * wide) * sizeof *data) : NULL;
    if (!data) return error_memory(e, "textual inversions", (size_t)(size * wide) * sizeof *data);
    convert_to_float(data, w->data, w->type, (size_t)weight_elements(w));
    for (size_t i = 0; i < count; i++)
        memcpy(data + list[i].first * wide, list[i].data,
               (size_t)(list[i].count * wide) * sizeof *data);
    if (!weight_set_overlay(&m->clip_weights, &memory, e)) {
        arena_free(&memory);
        return false;
    }
    w = weight_find(&m->clip_weights, EMBEDDING);
    w->type = DTYPE_F32;
    w->data = data;
    w->dim[0] = size;
    m->clip.vocab = (int)size;
    return true;
}

bool model_add_inversions(model *m, const inversion_choice *list, size_t count, error *e)
{
    if (!count) return true;
    if (m->kind != MODEL_STABLE_DIFFUSION)
        return error_set(e, ERROR_MODEL,
                         "%s: is an unconditional model, which textual inversions are not for",
                         m->path);
    arena memory = {0};
    rows *all = arena_alloc(&memory, count * sizeof *all);
    bool ok = all || error_memory(e, "textual inversions", count * sizeof *all);
    for (size_t i = 0; ok && i < count; i++) ok = read_file(&all[i], m, &list[i], &memory, e);
    ok = ok && grow(m, all, count, e);
    arena_free(&memory);
    return ok;
}
