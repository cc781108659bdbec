/* SPDX-License-Identifier: Apache-2.0
 *
 * gguf: see gguf.h. A header (magic, version, two counts), key-value pairs, one record a tensor
 * (name, dimensions innermost first, type, offset), and behind them, aligned, the numbers. */
#include "file/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file/gguf_blocks.h"

enum {
    TENSORS_MAX = 1 << 18,
    PAIRS_MAX = 1 << 16,
    NAME_MAX_BYTES = 512,
    RANK_MAX = 4,
    ALIGNMENT = 32, /* where general.alignment does not say otherwise */
    TYPE_STRING = 8,
    TYPE_ARRAY = 9,
    TYPE_U32 = 4,
};

typedef struct reader {
    safetensors *out;
    const uint8_t *at, *end; /* of the mapping */
    uint32_t alignment;
    const char *path;
    error *e;
} reader;

/* A tensor's record, until it is known where the numbers begin. */
typedef struct record {
    uint32_t type;
    uint64_t offset, numbers;
} record;

static bool broken(const reader *r, const char *what)
{
    return error_set(r->e, ERROR_FORMAT, "%s: is a damaged GGUF file: %s; fetch it again", r->path,
                     what);
}

/* ---- values ---- */

static bool skip(reader *r, uint64_t bytes)
{
    if (bytes > (uint64_t)(r->end - r->at)) return broken(r, "it ends in its header");
    r->at += bytes;
    return true;
}

static bool read_whole(reader *r, int bytes, uint64_t *out)
{
    const uint8_t *p = r->at;
    *out = 0;
    if (!skip(r, (uint64_t)bytes)) return false;
    for (int i = bytes; i-- > 0;) *out = *out << 8 | p[i];
    return true;
}

static bool read_text(reader *r, const char **text, uint64_t *length)
{
    if (!read_whole(r, 8, length)) return false;
    *text = (const char *)r->at;
    return skip(r, *length);
}

/* The bytes of a value of a plain type; 0: it is none. */
static int plain_size(uint64_t type)
{
    static const int sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < sizeof sizes / sizeof *sizes ? sizes[type] : 0;
}

static bool skip_value(reader *r, uint64_t type)
{
    const char *text;
    uint64_t inner, count, length;
    if (type == TYPE_STRING) return read_text(r, &text, &length);
    if (plain_size(type)) return skip(r, (uint64_t)plain_size(type));
    if (type != TYPE_ARRAY) return broken(r, "a value's type is not known");
    if (!read_whole(r, 4, &inner) || !read_whole(r, 8, &count)) return false;
    int size = plain_size(inner);
    if (size)
        return count > UINT64_MAX / 8 ? broken(r, "it ends in its header")
                                      : skip(r, count * (uint64_t)size);
    if (inner != TYPE_STRING) return broken(r, "a list's type is not known");
    for (uint64_t i = 0; i < count; i++) /* each takes 8 bytes at least */
        if (!read_text(r, &text, &length)) return false;
    return true;
}

static bool keep_pair(reader *r, const char *key, uint64_t key_length)
{
    const char *text;
    uint64_t length;
    safetensors *out = r->out;
    if (!read_text(r, &text, &length)) return false;
    safetensors_pair *p = &out->metadata[out->metadata_count];
    char *k = arena_alloc(&out->memory, (size_t)key_length + 1),
         *v = arena_alloc(&out->memory, (size_t)length + 1);
    if (!k || !v) return error_memory(r->e, r->path, key_length + length);
    memcpy(k, key, (size_t)key_length);
    memcpy(v, text, (size_t)length);
    *p = (safetensors_pair){k, v};
    out->metadata_count++;
    return true;
}

static bool read_pairs(reader *r, uint64_t count)
{
    static const char alignment[] = "general.alignment";
    safetensors_pair *pair = arena_alloc(&r->out->memory, ((size_t)count + 1) * sizeof *pair);
    if (!(r->out->metadata = pair)) return error_memory(r->e, r->path, count * sizeof *pair);
    for (uint64_t i = 0; i < count; i++) {
        const char *key;
        uint64_t length, type, value;
        if (!read_text(r, &key, &length) || !read_whole(r, 4, &type)) return false;
        if (type == TYPE_STRING) {
            if (!keep_pair(r, key, length)) return false;
            continue;
        }
        if (length != sizeof alignment - 1 || memcmp(key, alignment, length) != 0 ||
            type != TYPE_U32) {
            if (!skip_value(r, type)) return false;
            continue;
        }
        if (!read_whole(r, 4, &value)) return false;
        if (!value || value > 1 << 20 || (value & (value - 1)))
            return broken(r, "its alignment is no power of two");
        r->alignment = (uint32_t)value;
    }
    return true;
}

/* ---- records ---- */

static bool fail_tensor(const reader *r, const char *name, const char *what)
{
    return error_set(r->e, ERROR_FORMAT, "%s: tensor %.150s %s", r->path, name, what);
}

/* What lies as it is; false: it does not. */
static bool plain_type(uint32_t type, dtype *out)
{
    static const struct {
        uint32_t type;
        dtype plain;
    } plain[] = {{0, DTYPE_F32},  {1, DTYPE_F16},  {24, DTYPE_I8},  {25, DTYPE_I16},
                 {26, DTYPE_I32}, {27, DTYPE_I64}, {28, DTYPE_F64}, {30, DTYPE_BF16}};
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (plain[i].type != type) continue;
        *out = plain[i].plain;
        return true;
    }
    return false;
}

static bool check_type(const reader *r, const char *name, uint32_t type)
{
    dtype plain;
    if (plain_type(type, &plain) || gguf_block_of(type)) return true;
    char number[32];
    snprintf(number, sizeof number, "type %u", (unsigned)type);
    const char *known = gguf_type_name(type);
    return error_set(r->e, ERROR_MODEL,
                     "%s: tensor %.150s is %s, which is not read: F32, F16, BF16, Q8_0, Q6_K, "
                     "Q5_0, Q5_1, Q5_K, Q4_0, Q4_1, Q4_K and Q2_K are",
                     r->path, name, known ? known : number);
}

static bool read_record(reader *r, safetensors_entry *t, record *rec)
{
    const char *text;
    uint64_t length, rank, type, dim[RANK_MAX];
    if (!read_text(r, &text, &length) || !read_whole(r, 4, &rank)) return false;
    if (!length || length > NAME_MAX_BYTES || memchr(text, 0, (size_t)length))
        return broken(r, "a tensor's name is no name");
    if (rank > RANK_MAX) return broken(r, "a tensor has more than 4 dimensions");
    char *name = arena_alloc(&r->out->memory, (size_t)length + 1);
    if (!name) return error_memory(r->e, r->path, (size_t)length);
    memcpy(name, text, (size_t)length);
    t->name = name;
    t->rank = (int)rank;
    rec->numbers = 1;
    for (uint64_t i = 0; i < rank; i++) {
        if (!read_whole(r, 8, &dim[i])) return false;
        if (dim[i] > INT64_MAX / 64 ||
            __builtin_mul_overflow(rec->numbers, dim[i], &rec->numbers) ||
            rec->numbers > INT64_MAX / 64)
            return fail_tensor(r, name, "has absurd dimensions");
        t->dim[rank - 1 - i] = (int64_t)dim[i]; /* innermost first there */
    }
    if (!read_whole(r, 4, &type) || !read_whole(r, 8, &rec->offset)) return false;
    rec->type = (uint32_t)type;
    const gguf_block *block = gguf_block_of(rec->type);
    if (block && (!rank || dim[0] % (uint64_t)block->numbers))
        return fail_tensor(r, name, "has rows that are no whole number of its type's blocks");
    return check_type(r, name, rec->type);
}

/* ---- numbers ---- */

/* Quantised numbers as float32, in memory of the table's. */
static bool read_blocks(const reader *r, safetensors_entry *t, const gguf_block *block,
                        const uint8_t *from, uint64_t numbers)
{
    float *out = arena_alloc(&r->out->memory, (size_t)numbers * sizeof *out + 1);
    if (!out) return error_memory(r->e, r->path, numbers * sizeof *out);
    for (uint64_t i = 0; i < numbers / (uint64_t)block->numbers; i++)
        block->read(out + i * (uint64_t)block->numbers, from + i * (uint64_t)block->bytes);
    t->type = DTYPE_F32;
    t->data = out;
    t->bytes = numbers * sizeof *out;
    return true;
}

static bool find_numbers(const reader *r, safetensors_entry *t, const record *rec,
                         const uint8_t *begin)
{
    const gguf_block *block = gguf_block_of(rec->type);
    uint64_t room = (uint64_t)(r->end - begin);
    if (!block) plain_type(rec->type, &t->type);
    uint64_t bytes = block ? rec->numbers / (uint64_t)block->numbers * (uint64_t)block->bytes
                           : rec->numbers * dtype_size(t->type);
    if (rec->offset % r->alignment)
        return fail_tensor(r, t->name, "lies at an offset that is not aligned; fetch it again");
    if (rec->offset > room || bytes > room - rec->offset)
        return fail_tensor(r, t->name,
                           "reaches beyond the file's end, which is cut; fetch it again");
    const uint8_t *from = begin + rec->offset;
    if (block) return read_blocks(r, t, block, from, rec->numbers);
    t->data = from;
    t->bytes = bytes;
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const safetensors_entry *)a)->name, ((const safetensors_entry *)b)->name);
}

static bool read_tensors(reader *r, uint64_t count)
{
    safetensors *out = r->out;
    record *rec = calloc((size_t)count + 1, sizeof *rec);
    out->entry = arena_alloc(&out->memory, ((size_t)count + 1) * sizeof *out->entry);
    bool ok = (rec && out->entry) || error_memory(r->e, r->path, count * sizeof *out->entry);
    for (uint64_t i = 0; ok && i < count; i++) ok = read_record(r, &out->entry[i], &rec[i]);
    uint64_t header = (uint64_t)(r->at - out->map.data);
    uint64_t padding = (r->alignment - header % r->alignment) % r->alignment;
    if (ok && count) ok = skip(r, padding);
    for (uint64_t i = 0; ok && i < count; i++) ok = find_numbers(r, &out->entry[i], &rec[i], r->at);
    free(rec);
    if (!ok) return false;
    out->count = (size_t)count;
    qsort(out->entry, out->count, sizeof *out->entry, by_name);
    for (size_t i = 1; i < out->count; i++)
        if (!strcmp(out->entry[i - 1].name, out->entry[i].name))
            return fail_tensor(r, out->entry[i].name, "is there twice");
    return true;
}

/* ---- files ---- */

bool gguf_is(const void *begin, size_t size) { return size >= 4 && !memcmp(begin, "GGUF", 4); }

static bool read_all(reader *r)
{
    uint64_t version, tensors, pairs;
    if (!gguf_is(r->at, r->out->map.size)) return broken(r, "it does not begin as one");
    r->at += 4;
    if (!read_whole(r, 4, &version)) return false;
    if (version == 2u << 24 || version == 3u << 24)
        return error_set(r->e, ERROR_FORMAT, "%s: is a big-endian GGUF file, which is not read",
                         r->path);
    if (version != 2 && version != 3)
        return error_set(r->e, ERROR_FORMAT, "%s: is GGUF of version %u; 2 and 3 are read", r->path,
                         (unsigned)version);
    if (!read_whole(r, 8, &tensors) || !read_whole(r, 8, &pairs)) return false;
    if (tensors > TENSORS_MAX) return broken(r, "it claims more than 262144 tensors");
    if (pairs > PAIRS_MAX) return broken(r, "it claims more than 65536 keys");
    return read_pairs(r, pairs) && read_tensors(r, tensors);
}

bool gguf_open(safetensors *out, const char *path, error *e)
{
    *out = (safetensors){0};
    if (!file_map(&out->map, path, e)) return false;
    if (!out->map.size) return error_set(e, ERROR_FORMAT, "%s: is empty", path);
    reader r = {out, out->map.data, out->map.data + out->map.size, ALIGNMENT, path, e};
    if (read_all(&r)) return true;
    safetensors_close(out);
    return false;
}
