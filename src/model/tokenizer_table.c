/* SPDX-License-Identifier: Apache-2.0
 *
 * tokenizer_table: see tokenizer_table.h. */
#include "model/tokenizer_table.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_ID = 1 << 24 };

static uint32_t hash_text(const char *text, size_t length)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < length; i++) h = (h ^ (uint8_t)text[i]) * 16777619u;
    return h ^ h >> 15;
}

static uint64_t pair_of(int32_t a, int32_t b) { return (uint64_t)(uint32_t)a << 32 | (uint32_t)b; }

static size_t hash_pair(uint64_t pair)
{
    pair *= 0x9e3779b97f4a7c15u;
    return (size_t)(pair >> 32);
}

/* Places for n entries, at most half full. */
static size_t table_size(size_t n)
{
    size_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

static token *find_token(const tokenizer *t, const char *text, size_t length)
{
    uint32_t hash = hash_text(text, length);
    size_t i = hash & t->token_mask;
    for (; t->tokens[i].text; i = (i + 1) & t->token_mask)
        if (t->tokens[i].hash == hash && !strncmp(t->tokens[i].text, text, length) &&
            !t->tokens[i].text[length])
            break;
    return &t->tokens[i];
}

int32_t tokenizer_id(const tokenizer *t, const char *text, size_t length)
{
    const token *found = find_token(t, text, length);
    return found->text ? found->id : -1;
}

static merge *find_merge(const tokenizer *t, uint64_t pair)
{
    size_t i = hash_pair(pair) & t->merge_mask;
    while (t->merges[i].rank >= 0 && t->merges[i].pair != pair) i = (i + 1) & t->merge_mask;
    return &t->merges[i];
}

bool tokenizer_put(tokenizer *t, const char *text, json_int_t number, const char *where, error *e)
{
    if (number < 0 || number >= MAX_ID)
        return error_set(e, ERROR_FORMAT, "%s: token \"%.60s\" has no valid id", where, text);
    size_t length = strlen(text);
    token *place = find_token(t, text, length);
    if (place->text) return true;
    const char *copy = arena_strdup(&t->memory, text);
    if (!copy) return error_memory(e, "the tokenizer's vocabulary", length);
    *place = (token){copy, hash_text(text, length), (int32_t)number};
    t->token_count++;
    if (number >= t->size) t->size = (int32_t)number + 1;
    return true;
}

static json_int_t id_of(const json_t *value)
{
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

bool tokenizer_put_vocab(tokenizer *t, json_t *vocab, const char *where, error *e)
{
    if (!json_is_object(vocab) || !json_object_size(vocab))
        return error_set(e, ERROR_FORMAT, "%s: has no vocabulary", where);
    size_t places = table_size(json_object_size(vocab) + t->added.count);
    t->tokens = calloc(places, sizeof *t->tokens);
    if (!t->tokens)
        return error_memory(e, "the tokenizer's vocabulary", places * sizeof *t->tokens);
    t->token_mask = places - 1;
    for (void *i = json_object_iter(vocab); i; i = json_object_iter_next(vocab, i))
        if (!tokenizer_put(t, json_object_iter_key(i), id_of(json_object_iter_value(i)), where, e))
            return false;
    return true;
}

bool tokenizer_make_merges(tokenizer *t, size_t count, error *e)
{
    size_t places = table_size(count);
    t->merges = malloc(places * sizeof *t->merges);
    if (!t->merges) return error_memory(e, "the tokenizer's merges", places * sizeof *t->merges);
    for (size_t i = 0; i < places; i++) t->merges[i] = (merge){.rank = -1};
    t->merge_mask = places - 1;
    return true;
}

bool tokenizer_put_merge(tokenizer *t, const char *a, size_t a_length, const char *b,
                         size_t b_length, int32_t rank, const char *where, error *e)
{
    char joined[1024];
    if (!a_length || !b_length || a_length + b_length > sizeof joined)
        return error_set(e, ERROR_FORMAT, "%s: merge %d is not a pair of tokens", where, rank + 1);
    memcpy(joined, a, a_length);
    memcpy(joined + a_length, b, b_length);
    int32_t first = tokenizer_id(t, a, a_length), second = tokenizer_id(t, b, b_length);
    int32_t whole = tokenizer_id(t, joined, a_length + b_length);
    if (first < 0 || second < 0 || whole < 0)
        return error_set(e, ERROR_FORMAT,
                         "%s: merge %d (\"%.*s\" \"%.*s\") names a token that the "
                         "vocabulary lacks",
                         where, rank + 1, (int)a_length, a, (int)b_length, b);
    merge *place = find_merge(t, pair_of(first, second));
    if (place->rank < 0) *place = (merge){pair_of(first, second), rank, whole};
    return true;
}

const merge *tokenizer_merge(const tokenizer *t, int32_t a, int32_t b)
{
    return find_merge(t, pair_of(a, b));
}
