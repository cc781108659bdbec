/* SPDX-License-Identifier: Apache-2.0
 *
 * characters: UTF-8 and the classes of characters as Python's str and re see them, for texts that
 * its programs write and read. */
#ifndef LIKENESS_MODEL_CHARACTERS_H
#define LIKENESS_MODEL_CHARACTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The code point at text and its length in bytes; a byte that is no UTF-8 is U+FFFD. At end: 0. */
int32_t character_at(const char *text, const char *end, size_t *length);
size_t character_put(char *out, int32_t c); /* writes 1 to 4 bytes; says how many */
bool character_is_space(int32_t c);         /* \s */
bool character_is_white(int32_t c);         /* Unicode's White_Space: \s elsewhere */
bool character_is_word(int32_t c);          /* \w */
bool character_is_digit(int32_t c);         /* \d */
bool character_is_mark(int32_t c);          /* an accent or vowel sign of the letter before it */
bool character_is_unseen(int32_t c);        /* shapes its neighbours: a joiner, a direction */
int32_t character_lower(int32_t c);
/* The text composed (NFC), malloc'ed; text that is no UTF-8 as it is; NULL when memory is out. */
char *characters_compose(const char *text);

#endif
