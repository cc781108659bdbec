/* SPDX-License-Identifier: Apache-2.0
 *
 * added_tokens: words that a tokenizer takes as one token each, beside those that its merges make:
 * the start and end tokens, and what was added to it (a textual inversion's placeholder). They are
 * found in the text before it is split into words, as transformers 5 and tokenizers'
 * AddedVocabulary do. */
#ifndef LIKENESS_MODEL_ADDED_TOKENS_H
#define LIKENESS_MODEL_ADDED_TOKENS_H

#include <jansson.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/types.h"

typedef struct added_token {
    const char *text;
    const char *match; /* what is looked for: text, or normalized text */
    int32_t id;        /* as a file gives it; -1: none does */
    bool left, right;  /* takes the spaces on that side with it */
    bool whole_word;   /* only where no letter or digit touches it */
    bool normalized;   /* looked for in the normalized text, else in the text as it is */
} added_token;

typedef struct added_tokens {
    added_token *item; /* in the order in which they are added */
    size_t count;
    const char *pad; /* the padding token */
} added_tokens;

/* What the tokenizer_config.json, special_tokens_map.json and added_tokens.json of a folder (each
 * may be missing) and its tokenizer.json (fast; NULL: there is none) add. All memory is the
 * arena's. */
bool added_tokens_read(added_tokens *out, arena *memory, const char *folder, const json_t *fast,
                       error *e);

/* Looking through a text: {0} at first. */
typedef struct added_cursor {
    size_t at, taken;
} added_cursor;
/* The next token among those that are (or are not) looked for in normalized text: at each place the
 * longest. from and to include the spaces that it takes. */
const added_token *added_tokens_next(const added_tokens *list, bool normalized, const char *text,
                                     size_t length, added_cursor *cursor, size_t *from, size_t *to);

#endif
