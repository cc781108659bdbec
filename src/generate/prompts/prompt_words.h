/* SPDX-License-Identifier: Apache-2.0
 *
 * prompt_words: spaces and words of a prompt as Python's re sees them (\s, \b), for the files that
 * read AUTOMATIC1111's syntax. Texts are from a place to an end, which is a NUL or before one. */
#ifndef LIKENESS_GENERATE_PROMPT_WORDS_H
#define LIKENESS_GENERATE_PROMPT_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#define PROMPT_BREAK "BREAK"
#define PROMPT_AND "AND"

const char *prompt_skip_spaces(const char *p, const char *end);
/* The end of the text without the spaces at its end. */
const char *prompt_trim_end(const char *text, const char *end);
/* The next place at or after *at where the word stands alone in the text. False: none. */
bool prompt_find_word(const char *word, const char *text, const char *end, const char **at);

#endif
