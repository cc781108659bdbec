/* SPDX-License-Identifier: Apache-2.0
 *
 * tokenizer_table: a tokenizer's insides, for the files tokenizer*.c alone: two open-addressing
 * tables, tokens by text and merges by pair, which make loading and look-ups quick. */
#ifndef LIKENESS_MODEL_TOKENIZER_TABLE_H
#define LIKENESS_MODEL_TOKENIZER_TABLE_H

#include "base/arena.h"
#include "model/added_tokens.h"
#include "model/tokenizer.h"

#define START_TOKEN "<|startoftext|>"
#define END_TOKEN "<|endoftext|>"
#define WORD_END "</w>"
enum { TEXT_LIMIT = 32 << 10 };

typedef struct token {
    const char *text;
    uint32_t hash;
    int32_t id;
} token;
typedef struct merge {
    uint64_t pair;
    int32_t rank, id;
} merge; /* rank -1: a free place */

struct tokenizer {
    arena memory; /* the tokens' text */
    added_tokens added;
    token *tokens; /* open addressing, a power of two of places */
    merge *merges;
    size_t token_mask, merge_mask;
    size_t token_count;
    int32_t start, end, pad, size;
    int32_t byte[2][256]; /* id of a byte's sign, and of the sign that ends a word */
};

/* ---- tokenizer_table.c ---- */
/* The id of a token, -1 where there is none. */
int32_t tokenizer_id(const tokenizer *t, const char *text, size_t length);
bool tokenizer_put(tokenizer *t, const char *text, json_int_t number, const char *where, error *e);
/* Adds every token of a vocabulary object; room is made for the added tokens. */
bool tokenizer_put_vocab(tokenizer *t, json_t *vocab, const char *where, error *e);
bool tokenizer_make_merges(tokenizer *t, size_t count, error *e); /* room for them */
/* Records that a, b merge into ab; the earlier of two equal pairs wins. */
bool tokenizer_put_merge(tokenizer *t, const char *a, size_t a_length, const char *b,
                         size_t b_length, int32_t rank, const char *where, error *e);
const merge *tokenizer_merge(const tokenizer *t, int32_t a, int32_t b); /* rank -1: none */

/* ---- tokenizer.c ---- */
/* What is looked for in normalized text is looked for normalized. */
bool tokenizer_normalize_added(tokenizer *t, error *e);
/* A text's tokens alone, at most `room`. */
bool tokenizer_ids(const tokenizer *t, const char *text, int32_t *ids, int room, int *count,
                   error *e);

#endif
