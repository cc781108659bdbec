/* SPDX-License-Identifier: Apache-2.0
 *
 * inversion: see inversion.h. */
#include "train/inversion.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/half.h"
#include "base/platform.h"
#include "file/safetensors.h"

#define OBJECT(text) text,
#define STYLE(text)
static const char *const object_prompts[] = {
#include "train/inversion_prompts.h"
};
#undef OBJECT
#undef STYLE
#define OBJECT(text)
#define STYLE(text) text,
static const char *const style_prompts[] = {
#include "train/inversion_prompts.h"
};

bool inversion_is_part(const char *name) { return strcmp(name, INVERSION_WEIGHT) == 0; }

/* ---- the word ---- */

static bool check_word(const model *m, const train_settings *s, error *e)
{
    bool ok = true;
    for (int i = 0; ok && i < s->num_vectors; i++) {
        char *word = i ? string_format("%s_%d", s->placeholder_token, i)
                       : strdup(s->placeholder_token);
        if (!word) return error_memory(e, "a word", 64);
        ok = tokenizer_token(m->tokens, word) < 0 ||
             error_set(e, ERROR_USAGE,
                       "--placeholder_token %s: the model's tokenizer has %s already; choose "
                       "another word, such as \"<dog>\"",
                       s->placeholder_token, word);
        free(word);
    }
    return ok;
}

/* An ordinary word is a token too, written "dog</w>" in the vocabulary. */
static bool check_ordinary(const model *m, const train_settings *s, error *e)
{
    int32_t *ids = NULL;
    int count;
    if (!tokenizer_encode_whole(m->tokens, s->placeholder_token, &ids, &count, e)) return false;
    free(ids);
    return count != 1 ||
           error_set(e, ERROR_USAGE,
                     "--placeholder_token %s: the model's tokenizer has that word already, and no "
                     "prompt could say it any more; choose another, such as \"<%s>\"",
                     s->placeholder_token, s->placeholder_token);
}

static bool first_token(const model *m, const train_settings *s, int32_t *id, error *e)
{
    int32_t *ids = NULL;
    int count;
    if (!tokenizer_encode_whole(m->tokens, s->initializer_token, &ids, &count, e)) return false;
    if (count == 1) *id = ids[0];
    free(ids);
    return count == 1 || error_set(e, ERROR_USAGE,
                                   "--initializer_token \"%s\" is %d tokens, not one; give a "
                                   "shorter or more usual word, such as dog",
                                   s->initializer_token, count);
}

/* A row of the model's embedding in float32. */
static void read_row(const weight *table, int32_t id, float *out)
{
    size_t wide = (size_t)table->dim[1], bytes = wide * dtype_size(table->type);
    convert_to_float(out, (const char *)table->data + (size_t)id * bytes, table->type, wide);
}

static void memory_free(void *storage)
{
    if (storage) arena_free(storage);
    free(storage);
}

static bool begin(inversion *v, const weight *table, int32_t id, int vectors, error *e)
{
    size_t wide = (size_t)table->dim[1], n = (size_t)vectors;
    arena *memory = calloc(1, sizeof *memory);
    v->begins = (weight_set){
        .item = calloc(1, sizeof *v->begins.item), .storage = memory, .storage_free = memory_free};
    float *row = malloc(wide * sizeof *row);
    float *data = memory && n < SIZE_MAX / 8 / wide ? arena_alloc(memory, n * wide * sizeof *data)
                                                    : NULL;
    bool ok = v->begins.item && row && data;
    if (ok) {
        read_row(table, id, row);
        for (size_t i = 0; i < wide * n; i++) data[i] = row[i / n];
        v->begins.item[0] = (weight){
            INVERSION_WEIGHT, DTYPE_F32, 2, {(int64_t)wide, vectors}, data};
        v->begins.count = 1;
    }
    free(row);
    return ok || error_memory(e, "a new word's rows", n * wide * sizeof(float));
}

/* ---- prompts ---- */

/* The prompt's own tokens and the word behind them, cut where the model reads no further. */
static bool open_prompt(inversion_prompt *p, const model *m, const weight *table, const char *text,
                        int vectors, error *e)
{
    size_t positions = (size_t)m->clip.positions, wide = (size_t)m->clip.hidden;
    int most = m->clip.positions - 2, count = 0;
    int32_t *ids = NULL, *framed = calloc(positions, sizeof *framed),
            *all = calloc(positions, sizeof *all);
    p->rows = calloc(positions * wide, sizeof *p->rows);
    p->places = calloc(positions * (size_t)vectors, sizeof *p->places);
    bool ok = (framed && all && p->rows && p->places) ||
              error_memory(e, "a prompt", positions * wide * sizeof *p->rows);
    ok = ok && tokenizer_encode_whole(m->tokens, text, &ids, &count, e);
    if (ok) {
        int own = count < most ? count : most, whole = own + vectors < most ? own + vectors : most;
        for (int i = 0; i < whole; i++) all[i] = i < own ? ids[i] : m->clip.vocab + i - own;
        tokenizer_frame(m->tokens, all, whole, m->clip.positions, framed);
        for (size_t i = 0; i < positions; i++)
            if (framed[i] < m->clip.vocab)
                read_row(table, framed[i], p->rows + i * wide);
            else
                p->places[i * (size_t)vectors + (size_t)(framed[i] - m->clip.vocab)] = 1;
    }
    free(ids);
    free(framed);
    free(all);
    return ok;
}

bool inversion_open(inversion *v, const model *m, const train_settings *s, error *e)
{
    *v = (inversion){0};
    if (!s->textual_inversion) return true;
    bool style = s->learnable_property && strcmp(s->learnable_property, "style") == 0;
    const char *const *list = style ? style_prompts : object_prompts;
    uint32_t count = style ? sizeof style_prompts / sizeof *style_prompts
                           : sizeof object_prompts / sizeof *object_prompts;
    const weight *table = weight_find(&m->clip_weights, CLIP_TOKENS);
    int32_t id = 0;
    if (!table || !s->placeholder_token || !s->initializer_token || s->num_vectors < 1)
        return error_set(e, ERROR_USAGE,
                         "%s: a new word needs a model with a text encoder, --placeholder_token, "
                         "--initializer_token and --num_vectors of at least 1",
                         m->path);
    if (s->num_vectors > m->clip.positions - 2)
        return error_set(e, ERROR_USAGE,
                         "--num_vectors %d is more than the %d tokens that the model reads",
                         s->num_vectors, m->clip.positions - 2);
    v->prompt = calloc(count, sizeof *v->prompt);
    bool ok = v->prompt || error_memory(e, "prompts", count * sizeof *v->prompt);
    ok = ok && check_word(m, s, e) && check_ordinary(m, s, e) && first_token(m, s, &id, e) &&
         begin(v, table, id, s->num_vectors, e);
    for (; ok && v->prompts < count; v->prompts++)
        if (!open_prompt(&v->prompt[v->prompts], m, table, list[v->prompts], s->num_vectors, e)) {
            v->prompts++;
            ok = false;
            break;
        }
    if (!ok) inversion_close(v);
    return ok;
}

void inversion_close(inversion *v)
{
    for (uint32_t i = 0; i < v->prompts; i++) {
        free(v->prompt[i].rows);
        free(v->prompt[i].places);
    }
    free(v->prompt);
    weight_set_close(&v->begins);
    *v = (inversion){0};
}

/* ---- the file ---- */

static void turn(float *out, const float *in, size_t rows, size_t columns)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < columns; k++) out[k * rows + i] = in[i * columns + k];
}

bool inversion_write(const char *path, const weight_set *learned, const train_settings *s,
                     char *hash, error *e)
{
    const weight *w = &learned->item[0];
    size_t n = (size_t)weight_elements(w), bytes = n * sizeof(float);
    float *rows = malloc(bytes);
    if (!rows) return error_memory(e, path, bytes);
    turn(rows, w->data, (size_t)w->dim[0], (size_t)w->dim[1]);
    const safetensors_entry entry = {.name = s->placeholder_token,
                                     .type = DTYPE_F32,
                                     .rank = 2,
                                     .dim = {w->dim[1], w->dim[0]},
                                     .data = rows,
                                     .bytes = bytes};
    bool ok = safetensors_write_hashed(path, &entry, 1, NULL, 0, hash, e);
    free(rows);
    return ok;
}

float *inversion_read(const char *path, const weight *learned, const train_settings *s, error *e)
{
    safetensors file;
    size_t bytes = (size_t)weight_elements(learned) * sizeof(float);
    if (!safetensors_open(&file, path, e)) return NULL;
    const safetensors_entry *from = safetensors_find(&file, s->placeholder_token);
    float *rows = malloc(bytes), *out = malloc(bytes);
    bool fits = from && from->type == DTYPE_F32 && from->bytes == bytes;
    if (!fits)
        error_set(e, ERROR_FORMAT,
                  "%s: %s is not in it as it is trained here; resume from another "
                  "checkpoint",
                  path, s->placeholder_token);
    else if (!rows || !out)
        error_memory(e, path, bytes);
    bool ok = fits && rows && out;
    if (ok) {
        memcpy(rows, from->data, bytes);
        turn(out, rows, (size_t)learned->dim[1], (size_t)learned->dim[0]);
    } else {
        free(out);
    }
    free(rows);
    safetensors_close(&file);
    return ok ? out : NULL;
}
