/* SPDX-License-Identifier: Apache-2.0
 *
 * zip: the directory at the archive's end is read, every offset in it checked against the file.
 * Layouts are those of PKWARE's APPNOTE, sections 4.3 and 4.5.3. */
#include "file/zip.h"

#include <stdlib.h>
#include <string.h>

enum {
    END_BYTES = 22,
    END64_LOCATOR_BYTES = 20,
    END64_BYTES = 56,
    CENTRAL_BYTES = 46,
    LOCAL_BYTES = 30,
    COMMENT_MAX = 65535,
    ENCRYPTED = 1,
};

static uint64_t number(const uint8_t *p, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes; i-- > 0;) value = value << 8 | p[i];
    return value;
}

static bool has_mark(const uint8_t *p, const char mark[4]) { return !memcmp(p, mark, 4); }

static bool broken(error *e, const char *path, const char *what)
{
    return error_set(
        e, ERROR_FORMAT,
        "%s: is a zip archive (as PyTorch writes) %s; it is cut short or damaged, fetch "
        "it again",
        path, what);
}

bool zip_is(const void *begin, size_t size) { return size >= 4 && has_mark(begin, "PK\3\4"); }

static int compare_text(const char *a, size_t a_length, const char *b, size_t b_length)
{
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

static int compare_members(const void *a, const void *b)
{
    const zip_member *l = a, *r = b;
    return compare_text(l->name, l->length, r->name, r->length);
}

/* The record at the end; the comment behind it reaches to the file's end. */
static const uint8_t *find_end(const mapped_file *map)
{
    for (size_t comment = 0; comment <= COMMENT_MAX && END_BYTES + comment <= map->size;
         comment++) {
        const uint8_t *p = map->data + map->size - END_BYTES - comment;
        if (has_mark(p, "PK\5\6") && number(p + 20, 2) == comment) return p;
    }
    return NULL;
}

/* Where the directory is; false where the numbers lead out of the file. */
static bool find_directory(const mapped_file *map, const uint8_t *end, uint64_t *start,
                           uint64_t *bytes, uint64_t *count)
{
    *count = number(end + 10, 2);
    *bytes = number(end + 12, 4);
    *start = number(end + 16, 4);
    const uint8_t *locator = end - map->data >= END64_LOCATOR_BYTES ? end - END64_LOCATOR_BYTES
                                                                    : NULL;
    if (locator && has_mark(locator, "PK\6\7")) {
        uint64_t at = number(locator + 8, 8);
        if (at > map->size || map->size - at < END64_BYTES || !has_mark(map->data + at, "PK\6\6"))
            return false;
        *count = number(map->data + at + 32, 8);
        *bytes = number(map->data + at + 40, 8);
        *start = number(map->data + at + 48, 8);
    }
    return *start <= map->size && *bytes <= map->size - *start && *count <= *bytes / CENTRAL_BYTES;
}

/* What 32 bits were too few for stands in a field of its own, in this order. */
static bool read_wide(const uint8_t *extra, size_t length, uint64_t *bytes, uint64_t *packed,
                      uint64_t *header)
{
    uint64_t *const wide[] = {bytes, packed, header};
    for (size_t at = 0; at + 4 <= length;) {
        size_t size = (size_t)number(extra + at + 2, 2);
        if (size > length - at - 4) return false;
        const uint8_t *p = extra + at + 4;
        bool ours = number(extra + at, 2) == 1;
        at += 4 + size;
        for (int i = 0; ours && i < 3; i++) {
            if (*wide[i] != UINT32_MAX) continue;
            if (size < 8) return false;
            *wide[i] = number(p, 8);
            p += 8;
            size -= 8;
        }
        if (ours) return true;
    }
    return true;
}

/* The member described at *at, which moves on. */
static bool read_member(zip_member *m, const uint8_t **at, const uint8_t *end)
{
    const uint8_t *p = *at;
    if (end - p < CENTRAL_BYTES || !has_mark(p, "PK\1\2")) return false;
    size_t name = (size_t)number(p + 28, 2), extra = (size_t)number(p + 30, 2),
           comment = (size_t)number(p + 32, 2);
    if ((size_t)(end - p) - CENTRAL_BYTES < name + extra + comment) return false;
    uint64_t packed = number(p + 20, 4);
    *m = (zip_member){.name = (const char *)p + CENTRAL_BYTES,
                      .length = name,
                      .flags = (uint16_t)number(p + 8, 2),
                      .method = (uint16_t)number(p + 10, 2),
                      .bytes = number(p + 24, 4),
                      .header = number(p + 42, 4)};
    *at = p + CENTRAL_BYTES + name + extra + comment;
    return read_wide(p + CENTRAL_BYTES + name, extra, &m->bytes, &packed, &m->header);
}

bool zip_read(zip *out, const mapped_file *map, const char *path, arena *memory, error *e)
{
    uint64_t start, bytes, count;
    *out = (zip){.map = map, .path = path};
    const uint8_t *end = find_end(map);
    if (!end) return broken(e, path, "without its directory");
    if (!find_directory(map, end, &start, &bytes, &count))
        return broken(e, path, "whose directory is not where it should be");
    out->member = arena_alloc(memory, (size_t)count * sizeof *out->member);
    if (!out->member) return error_memory(e, path, count * sizeof *out->member);
    const uint8_t *at = map->data + start;
    for (; out->count < count; out->count++)
        if (!read_member(&out->member[out->count], &at, map->data + start + bytes))
            return broken(e, path, "with a damaged directory");
    qsort(out->member, out->count, sizeof *out->member, compare_members);
    return true;
}

const zip_member *zip_find(const zip *z, const char *name, size_t length)
{
    zip_member key = {.name = name, .length = length};
    return z->count ? bsearch(&key, z->member, z->count, sizeof key, compare_members) : NULL;
}

const uint8_t *zip_data(const zip *z, const zip_member *m, error *e)
{
    const mapped_file *map = z->map;
    int shown = m->length < 100 ? (int)m->length : 100;
    if (m->method || m->flags & ENCRYPTED) {
        error_set(e, ERROR_FORMAT,
                  "%s: its part %.*s is packed; torch.save stores it as it is: save the file again "
                  "with that",
                  z->path, shown, m->name);
        return NULL;
    }
    if (m->header <= map->size && map->size - m->header >= LOCAL_BYTES &&
        has_mark(map->data + m->header, "PK\3\4")) {
        const uint8_t *local = map->data + m->header;
        uint64_t before = LOCAL_BYTES + number(local + 26, 2) + number(local + 28, 2);
        uint64_t rest = map->size - m->header;
        if (before <= rest && m->bytes <= rest - before) return local + before;
    }
    error_set(e, ERROR_FORMAT,
              "%s: its part %.*s is not where the archive's directory says; the file is damaged, "
              "fetch it again",
              z->path, shown, m->name);
    return NULL;
}
