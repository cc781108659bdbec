/* SPDX-License-Identifier: Apache-2.0
 *
 * unicode: the three steps between UTF-8, Latin-1 and code points that picture files and fonts
 * need. */
#include <stdlib.h>

#include "file/formats.h"

uint32_t utf8_next(const char **text)
{
    const unsigned char *s = (const unsigned char *)*text;
    uint32_t code = s[0];
    int more = code < 0xc2 || code > 0xf4 ? 0 : code < 0xe0 ? 1 : code < 0xf0 ? 2 : 3;
    if (more) {
        static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        uint32_t whole = code & (0x3f >> more);
        for (int i = 1; i <= more; i++) {
            if ((s[i] & 0xc0) != 0x80) { /* the text's end too: its NUL is no continuation */
                more = 0;
                break;
            }
            whole = whole << 6 | (s[i] & 0x3f);
        }
        bool surrogate = whole >= 0xd800 && whole < 0xe000;
        if (more && (whole < least[more] || whole > 0x10ffff || surrogate)) more = 0;
        if (more) code = whole;
    }
    *text += 1 + more;
    return code;
}

char *utf8_put(char *out, uint32_t code)
{
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xc0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *out++ = (char)(0xe0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    } else {
        *out++ = (char)(0xf0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3f));
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    }
    return out;
}

char *utf8_from_latin1(const char *bytes, size_t size)
{
    char *text = malloc(2 * size + 1), *at = text;
    if (!text) return NULL;
    for (size_t i = 0; i < size; i++) at = utf8_put(at, (unsigned char)bytes[i]);
    *at = '\0';
    return text;
}
