/* SPDX-License-Identifier: Apache-2.0
 *
 * exif: the two fields of EXIF that matter here, read and written: which way up the camera was held
 * (Orientation) and the settings that made a picture (UserComment). EXIF is a TIFF file without a
 * picture: tables of 12-byte entries, in either byte order, found by offsets that are not trusted.
 */
#include <stdlib.h>
#include <string.h>

#include "file/formats.h"

enum {
    TAG_ORIENTATION = 0x0112,
    TAG_EXIF_TABLE = 0x8769,
    TAG_USER_COMMENT = 0x9286,
    TYPE_BYTE = 1,
    TYPE_ASCII = 2,
    TYPE_SHORT = 3,
    TYPE_LONG = 4,
    TYPE_UNDEFINED = 7,
    ENTRY_BYTES = 12,
    CODE_BYTES = 8, /* before a comment: which characters it is made of */
};

typedef struct tiff {
    const uint8_t *data;
    size_t size;
    bool big_endian;
} tiff;

static uint32_t read_number(const tiff *t, size_t at, int bytes)
{
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++)
        value = value << 8 | t->data[at + (size_t)(t->big_endian ? i : bytes - 1 - i)];
    return value;
}

/* Where the entry of this tag begins in the table at `table`; 0 where there is none. */
static size_t find_entry(const tiff *t, size_t table, uint32_t tag)
{
    if (table < 8 || table > t->size || t->size - table < 2) return 0;
    size_t count = read_number(t, table, 2), fit = (t->size - table - 2) / ENTRY_BYTES;
    if (count > fit) count = fit;
    for (size_t i = 0; i < count; i++) {
        size_t at = table + 2 + i * ENTRY_BYTES;
        if (read_number(t, at, 2) == tag) return at;
    }
    return 0;
}

/* n code units of 2 bytes -> UTF-8 */
static char *text_from_utf16(const uint8_t *data, size_t n, bool big_endian)
{
    char *text = malloc(3 * n + 1), *at = text;
    if (!text) return NULL;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = data + 2 * i;
        uint32_t code = big_endian ? (uint32_t)(p[0] << 8 | p[1]) : (uint32_t)(p[1] << 8 | p[0]);
        if (code >= 0xd800 && code < 0xdc00 && i + 1 < n) {
            uint32_t low = big_endian ? (uint32_t)(p[2] << 8 | p[3]) : (uint32_t)(p[3] << 8 | p[2]);
            if (low >= 0xdc00 && low < 0xe000) {
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                i++;
            }
        }
        if (code >= 0xd800 && code < 0xe000) code = 0xfffd;
        if (code == 0) break;
        if (code != 0xfeff) at = utf8_put(at, code);
    }
    *at = '\0';
    return text;
}

/* Whether UTF-16 text is big-endian. The order is nowhere said: AUTOMATIC1111 always writes
 * big-endian, cameras the file's order. Latin text shows it: its high bytes are 0. */
static bool utf16_is_big_endian(const uint8_t *data, size_t n, bool otherwise)
{
    size_t first = 0, second = 0;
    for (size_t i = 0; i < n; i++) {
        first += data[2 * i] == 0;
        second += data[2 * i + 1] == 0;
    }
    return first != second ? first > second : otherwise;
}

static char *comment_text(const uint8_t *data, size_t size, bool big_endian)
{
    if (size < CODE_BYTES) return NULL;
    const uint8_t *body = data + CODE_BYTES;
    size -= CODE_BYTES;
    if (memcmp(data, "UNICODE", CODE_BYTES) == 0)
        return text_from_utf16(body, size / 2, utf16_is_big_endian(body, size / 2, big_endian));
    if (memcmp(data, "ASCII\0\0", CODE_BYTES) != 0 &&
        memcmp(data, "\0\0\0\0\0\0\0", CODE_BYTES) != 0)
        return NULL;
    const uint8_t *end = memchr(body, 0, size);
    return strndup((const char *)body, end ? (size_t)(end - body) : size);
}

void exif_read(picture *out, const uint8_t *data, size_t size)
{
    if (size >= 6 && memcmp(data, "Exif\0", 6) == 0) {
        data += 6;
        size -= 6;
    }
    if (size < 8 || (memcmp(data, "II*\0", 4) != 0 && memcmp(data, "MM\0*", 4) != 0)) return;
    tiff t = {.data = data, .size = size, .big_endian = data[0] == 'M'};
    size_t first = read_number(&t, 4, 4), at = find_entry(&t, first, TAG_ORIENTATION);
    if (at && read_number(&t, at + 2, 2) == TYPE_SHORT) {
        uint32_t value = read_number(&t, at + 8, 2);
        if (value >= 1 && value <= 8) out->orientation = (int)value;
    }
    at = find_entry(&t, first, TAG_EXIF_TABLE);
    if (at) at = find_entry(&t, read_number(&t, at + 8, 4), TAG_USER_COMMENT);
    if (!at || out->text) return;
    uint32_t type = read_number(&t, at + 2, 2); /* undefined it should be; Pillow writes bytes */
    if (type != TYPE_BYTE && type != TYPE_ASCII && type != TYPE_UNDEFINED) return;
    size_t bytes = read_number(&t, at + 4, 4), place = read_number(&t, at + 8, 4);
    if (bytes > 4 && place <= size && bytes <= size - place)
        out->text = comment_text(data + place, bytes, t.big_endian);
}

static uint8_t *put_number(uint8_t *out, uint32_t value, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--) *out++ = (uint8_t)(value >> 8 * i);
    return out;
}

static uint8_t *put_entry(uint8_t *out, uint32_t tag, uint32_t type, uint32_t count, uint32_t value)
{
    out = put_number(out, tag, 2);
    out = put_number(out, type, 2);
    out = put_number(out, count, 4);
    return put_number(out, value, 4);
}

uint8_t *exif_make(const char *text, size_t *size)
{
    enum { TABLE_BYTES = 2 + ENTRY_BYTES + 4, FIRST = 8, SECOND = FIRST + TABLE_BYTES };
    enum { COMMENT = SECOND + TABLE_BYTES };
    uint8_t *data = malloc(COMMENT + CODE_BYTES + 2 * strlen(text)), *at = data;
    if (!data) return NULL;
    at = data + COMMENT;
    memcpy(at, "UNICODE", CODE_BYTES);
    at += CODE_BYTES;
    while (*text) {
        uint32_t code = utf8_next(&text);
        if (code >= 0x10000) {
            at = put_number(at, 0xd800 + ((code - 0x10000) >> 10), 2);
            code = 0xdc00 + ((code - 0x10000) & 0x3ff);
        }
        at = put_number(at, code, 2);
    }
    *size = (size_t)(at - data);
    memcpy(data, "MM\0*", 4);
    put_number(data + 4, FIRST, 4);
    at = put_number(data + FIRST, 1, 2);
    at = put_entry(at, TAG_EXIF_TABLE, TYPE_LONG, 1, SECOND);
    at = put_number(at, 0, 4); /* no further table */
    at = put_number(at, 1, 2);
    at = put_entry(at, TAG_USER_COMMENT, TYPE_UNDEFINED, (uint32_t)(*size - COMMENT), COMMENT);
    put_number(at, 0, 4);
    return data;
}
