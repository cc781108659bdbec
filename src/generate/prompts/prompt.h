/* SPDX-License-Identifier: Apache-2.0
 *
 * prompt: what of a prompt a model will not read as it may be meant: AUTOMATIC1111's signs, which
 * are plain words here as in diffusers, unless they are asked for, and what is past the text
 * encoder's length. */
#ifndef LIKENESS_GENERATE_PROMPT_H
#define LIKENESS_GENERATE_PROMPT_H

#include "model/model.h"

/* Adds such lines (each with its newline) to *notes, which is malloc'ed or NULL. what: "prompt",
 * "negative prompt". False: no memory, or a text that no tokenizer takes. */
bool prompt_notes(char **notes, const model *m, const char *what, const char *text, error *e);
/* Adds a line (malloc'ed; freed here), such as one of these. False: no memory, as for NULL. */
bool prompt_note_line(char **notes, char *line, error *e);
/* The same of a "<lora:name:0.8>" or its kin, which is no part of the text. */
bool prompt_note_tag(char **notes, const char *tag, size_t length, error *e);

#endif
