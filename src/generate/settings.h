/* SPDX-License-Identifier: Apache-2.0
 *
 * settings: the text that a picture carries about itself, as AUTOMATIC1111 writes it ("parameters")
 * and reads it back:
 *
 *     a photo of a dog
 *     Negative prompt: blurry
 *     Steps: 50, Sampler: DDIM, CFG scale: 7.5, Seed: 42, Size: 512x512, Model: "a, b"
 *
 * Its reader takes the last line for settings when it finds at least 3 there, so write that many.
 * Ends of lines lose their spaces. Where a prompt's line begins with "Negative prompt:", both
 * prompts stand among the settings too (keys "Prompt", "Negative prompt"), which are read last. */
#ifndef LIKENESS_GENERATE_SETTINGS_H
#define LIKENESS_GENERATE_SETTINGS_H

#include "base/arena.h"
#include "base/error.h"

typedef struct setting {
    const char *key, *value;
} setting;

/* {0} is empty; all text lives in memory. */
typedef struct settings {
    const char *prompt, *negative; /* NULL: empty */
    setting *list;                 /* in order; a key once */
    size_t count, room;
    arena memory;
} settings;

void settings_close(settings *s);
/* NULL: empty. */
bool settings_prompt(settings *s, const char *prompt, const char *negative, error *e);
/* Sets a key (2 or more letters, digits, spaces, - and /) to a text, printf-style. */
bool settings_set(settings *s, error *e, const char *key, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
const char *settings_get(const settings *s, const char *key); /* NULL: not there */

/* The text, malloc'ed. Values with a comma, colon, newline or quote are written as JSON strings. */
bool settings_write(char **out, const settings *s, error *e);
/* A written text with one more pair at its end, malloc'ed. */
bool settings_add(char **out, const char *text, const char *key, const char *value, error *e);
/* Reads what settings_write, AUTOMATIC1111 and its kin write, as its parse_generation_parameters
 * does: any text at all is read; sizes such as Size: 512x768 become "Size-1" and "Size-2". What it
 * adds for keys that are not there is left out. */
bool settings_parse(settings *out, const char *text, error *e);

#endif
