/* SPDX-License-Identifier: Apache-2.0
 *
 * characters: see characters.h. */
#include "model/characters.h"

#include <string.h>
#include <utf8proc.h>

int32_t character_at(const char *text, const char *end, size_t *length)
{
    utf8proc_int32_t c = 0;
    *length = 0;
    if (text >= end) return 0;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text, end - text, &c);
    *length = n > 0 ? (size_t)n : 1;
    return n > 0 ? c : 0xFFFD;
}

size_t character_put(char *out, int32_t c)
{
    return (size_t)utf8proc_encode_char(c, (utf8proc_uint8_t *)out);
}

bool character_is_white(int32_t c)
{
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

bool character_is_space(int32_t c) { return character_is_white(c) || (c >= 0x1C && c <= 0x1F); }

/* Letters of every kind, numbers of every kind, and the underscore; no combining marks. */
bool character_is_word(int32_t c)
{
    utf8proc_category_t kind = utf8proc_category(c);
    return c == '_' || (kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO) ||
           (kind >= UTF8PROC_CATEGORY_ND && kind <= UTF8PROC_CATEGORY_NO);
}

bool character_is_mark(int32_t c)
{
    utf8proc_category_t kind = utf8proc_category(c);
    return kind >= UTF8PROC_CATEGORY_MN && kind <= UTF8PROC_CATEGORY_ME;
}

bool character_is_unseen(int32_t c) { return utf8proc_category(c) == UTF8PROC_CATEGORY_CF; }

int32_t character_lower(int32_t c) { return utf8proc_tolower(c); }

char *characters_compose(const char *text)
{
    utf8proc_uint8_t *out = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text, 0, &out,
                                      UTF8PROC_NULLTERM | UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (n >= 0) return (char *)out;
    return n == UTF8PROC_ERROR_NOMEM ? NULL : strdup(text);
}

bool character_is_digit(int32_t c) { return utf8proc_category(c) == UTF8PROC_CATEGORY_ND; }
