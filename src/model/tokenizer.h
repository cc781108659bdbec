/* SPDX-License-Identifier: Apache-2.0
 *
 * tokenizer: CLIP's byte-level BPE as transformers 5's CLIPTokenizer does it (NUMERICS.md, 2). */
#ifndef LIKENESS_MODEL_TOKENIZER_H
#define LIKENESS_MODEL_TOKENIZER_H

#include <jansson.h>

#include "base/error.h"
#include "base/types.h"

typedef struct tokenizer tokenizer;

/* A folder with tokenizer.json, or vocab.json and merges.txt, or CLIP's merges.txt alone. */
bool tokenizer_open(tokenizer **out, const char *folder, error *e);
void tokenizer_close(tokenizer **t);
int tokenizer_vocab_size(const tokenizer *t);
/* {"token": id} in the order of ids, as vocab.json has it; NULL when memory is out. */
json_t *tokenizer_vocab(const tokenizer *t);
/* The i-th word that was added to it (not the start and end tokens), and its id; NULL past the
 * last. */
const char *tokenizer_added(const tokenizer *t, size_t i, int *id);
/* Adds a word as the next token, found wherever it stands in a text, as transformers' add_tokens
 * does. One that is there already is refused. The tokenizer is to be closed where memory is out. */
bool tokenizer_add(tokenizer *t, const char *word, int32_t *id, error *e);
/* Frames and pads to `length` ids (start, at most length-2, end, padding). text is UTF-8; text that
 * is not is an error. *cut (may be NULL): the part of the text that did not fit, malloc'ed, else
 * NULL. */
bool tokenizer_encode(const tokenizer *t, const char *text, int length, int32_t *ids, char **cut,
                      error *e);

/* The same of a prompt for a picture, in which diffusers' pipelines write out a placeholder of
 * several vectors ("<dog>" as "<dog> <dog>_1 <dog>_2"). */
bool tokenizer_encode_prompt(const tokenizer *t, const char *text, int length, int32_t *ids,
                             char **cut, error *e);
/* The same, all of it: *ids [*count], malloc'ed, without start and end tokens. */
bool tokenizer_encode_whole(const tokenizer *t, const char *text, int32_t **ids, int *count,
                            error *e);
/* What tokenizer_encode makes of so many ids (at most length-2). */
void tokenizer_frame(const tokenizer *t, const int32_t *ids, int count, int length, int32_t *out);
int32_t tokenizer_token(const tokenizer *t, const char *text); /* its id; -1: there is none */
/* How many of the ids, from the first on, are one placeholder of several vectors; else 1. */
int tokenizer_placeholder(const tokenizer *t, const int32_t *ids, int count);

#endif
