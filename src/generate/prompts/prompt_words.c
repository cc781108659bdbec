/* SPDX-License-Identifier: Apache-2.0
 *
 * prompt_words: see prompt_words.h. */
#include "prompt_words.h"

#include <string.h>

#include "model/characters.h"

const char *prompt_skip_spaces(const char *p, const char *end)
{
    size_t length;
    while (p < end && character_is_space(character_at(p, end, &length))) p += length;
    return p;
}

/* The character before p. */
static const char *before(const char *text, const char *p)
{
    do p--;
    while (p > text && ((unsigned char)*p & 0xC0) == 0x80);
    return p;
}

const char *prompt_trim_end(const char *text, const char *end)
{
    size_t length;
    while (end > text) {
        const char *p = before(text, end);
        if (!character_is_space(character_at(p, end, &length)) || p + length != end) break;
        end = p;
    }
    return end;
}

static bool is_word(const char *p, const char *end)
{
    size_t length;
    return p < end && character_is_word(character_at(p, end, &length));
}

bool prompt_find_word(const char *word, const char *text, const char *end, const char **at)
{
    size_t n = strlen(word);
    for (const char *p = *at; (size_t)(end - p) >= n; p++) {
        if (memcmp(p, word, n) != 0 || is_word(p + n, end)) continue;
        if (p > text && is_word(before(text, p), p)) continue;
        *at = p;
        return true;
    }
    return false;
}
