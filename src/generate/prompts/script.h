/* SPDX-License-Identifier: Apache-2.0
 *
 * script: what AUTOMATIC1111 makes of a prompt and a negative prompt before any is read: comments
 * (from # to the line's end) and "<lora:name:0.8>" are taken out, the prompt is parted at AND, each
 * part has a weight ("a dog:0.8") and the texts that it has on the way (edits.h). */
#ifndef LIKENESS_GENERATE_SCRIPT_H
#define LIKENESS_GENERATE_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>

#include "edits.h"

/* How a prompt is read. */
typedef enum prompt_syntax {
    PROMPT_PLAIN, /* as diffusers does: signs are text, what is too long is cut */
    PROMPT_A1111,
} prompt_syntax;
bool prompt_syntax_parse(prompt_syntax *out, const char *name);
const char *prompt_syntax_name(prompt_syntax s); /* "plain", "a1111"; NULL: there is none such */

typedef struct script_part {
    float weight;
    edits texts;
} script_part;

typedef struct script {
    script_part *part; /* [1 + conditions]: the negative prompt's, which has no AND, is first */
    int conditions;    /* 0: not opened */
} script;

enum { SCRIPT_PARTS = 32, SCRIPT_BYTES = 32 << 10 };

/* evaluations, before: of the run, and of a pass before it (edits.h). */
bool script_open(script *s, const char *prompt, const char *negative, int evaluations, int before,
                 error *e);
void script_close(script *s);

/* A "<kind:name:more>" of a text; length 0: there is none. */
typedef struct script_tag {
    const char *at;
    size_t length;
    const char *kind, *name, *more; /* within the text; more: behind the next colon, or the end */
    size_t kind_length, name_length, more_length;
} script_tag;
/* The next one at or after *at, which moves behind it. Comments are to be taken out before. */
script_tag script_next_tag(const char **at);
bool script_tag_is_lora(const script_tag *t); /* or lyco */
/* The weight of such a one. False: it has none that is one number. */
bool script_tag_weight(const script_tag *t, float *weight, error *e);
/* The text without its comments, malloc'ed; NULL: no memory. */
char *script_uncomment(const char *text);

#endif
