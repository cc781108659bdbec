/* SPDX-License-Identifier: Apache-2.0
 *
 * safetensors: u64 header length, JSON header, data. The header is not trusted: every number in it
 * is checked before a pointer is made of it, and the tensors must cover the data exactly once. */
#include "file/safetensors.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "file/json.h"

enum { LENGTH_BYTES = 8, MAX_HEADER = 100000000, ALIGNMENT = 8 };

/* A name cut and without control characters, for a message of one line. */
typedef struct shown_name {
    char text[160];
} shown_name;

static shown_name show(const char *name)
{
    shown_name out;
    size_t n = 0;
    for (; name[n] && n < sizeof out.text - 4; n++)
        out.text[n] = (unsigned char)name[n] < ' ' || name[n] == 127 ? '?' : name[n];
    strcpy(out.text + n, name[n] ? "..." : "");
    return out;
}

static bool fail_tensor(error *e, const char *path, const char *name, const char *problem)
{
    return error_set(e, ERROR_FORMAT, "%s: tensor '%s': %s", path, show(name).text, problem);
}

static bool find_type(const char *name, dtype *out)
{
    for (int t = 0; t < DTYPE_COUNT; t++) {
        if (strcmp(name, dtype_name((dtype)t)) != 0) continue;
        *out = (dtype)t;
        return true;
    }
    return false;
}

/* shape -> rank, dim, and the bytes they need */
static bool read_shape(safetensors_entry *t, const json_t *shape, const char *path, error *e)
{
    if (!json_is_array(shape)) return fail_tensor(e, path, t->name, "the header gives no shape");
    size_t rank = json_array_size(shape);
    if (rank > SAFETENSORS_MAX_RANK)
        return error_set(e, ERROR_FORMAT,
                         "%s: tensor '%s': has %zu dimensions, at most %d make sense", path,
                         show(t->name).text, rank, SAFETENSORS_MAX_RANK);
    t->rank = (int)rank;
    t->bytes = dtype_size(t->type);
    for (size_t i = 0; i < rank; i++) {
        const json_t *dim = json_array_get(shape, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return fail_tensor(e, path, t->name, "the shape is not a list of sizes");
        t->dim[i] = json_integer_value(dim);
        if (__builtin_mul_overflow(t->bytes, (uint64_t)t->dim[i], &t->bytes))
            return fail_tensor(e, path, t->name, "the shape is impossibly large");
    }
    return true;
}

static bool read_offsets(safetensors_entry *t, const json_t *offsets, const mapped_file *map,
                         uint64_t data_start, const char *path, error *e)
{
    const json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second) ||
        json_integer_value(first) < 0 || json_integer_value(second) < json_integer_value(first))
        return fail_tensor(e, path, t->name, "data_offsets are not [begin, end]");
    uint64_t begin = (uint64_t)json_integer_value(first),
             end = (uint64_t)json_integer_value(second);
    if (end > map->size - data_start)
        return error_set(
            e, ERROR_FORMAT,
            "%s: tensor '%s': its data reach %llu bytes past the end of the file; the file is "
            "cut short or damaged, fetch it again",
            path, show(t->name).text, (unsigned long long)(end - (map->size - data_start)));
    if (end - begin != t->bytes)
        return error_set(e, ERROR_FORMAT,
                         "%s: tensor '%s': shape and type need %llu bytes, data_offsets give %llu",
                         path, show(t->name).text, (unsigned long long)t->bytes,
                         (unsigned long long)(end - begin));
    t->data = map->data + data_start + begin;
    return true;
}

static bool read_entry(safetensors *s, const char *name, const json_t *value, uint64_t data_start,
                       const char *path, error *e)
{
    safetensors_entry *t = &s->entry[s->count];
    t->name = arena_strdup(&s->memory, name);
    if (!t->name) return error_memory(e, path, strlen(name) + 1);
    if (!json_is_object(value)) return fail_tensor(e, path, name, "is not described by an object");
    const char *type = json_string_value(json_object_get(value, "dtype"));
    if (!type) return fail_tensor(e, path, name, "the header gives no dtype");
    if (!find_type(type, &t->type))
        return error_set(e, ERROR_FORMAT, "%s: tensor '%s': dtype '%s' is not known", path,
                         show(name).text, show(type).text);
    if (!read_shape(t, json_object_get(value, "shape"), path, e) ||
        !read_offsets(t, json_object_get(value, "data_offsets"), &s->map, data_start, path, e))
        return false;
    s->count++;
    return true;
}

static bool read_metadata(safetensors *s, json_t *object, const char *path, error *e)
{
    if (!json_is_object(object))
        return error_set(e, ERROR_FORMAT, "%s: __metadata__ is not an object", path);
    size_t count = json_object_size(object);
    s->metadata = arena_alloc(&s->memory, count * sizeof *s->metadata);
    if (!s->metadata) return error_memory(e, path, count * sizeof *s->metadata);
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        if (!json_is_string(value))
            return error_set(e, ERROR_FORMAT, "%s: __metadata__: the value of '%s' is not a text",
                             path, show(key).text);
        safetensors_pair *pair = &s->metadata[s->metadata_count];
        pair->key = arena_strdup(&s->memory, key);
        pair->value = arena_strdup(&s->memory, json_string_value(value));
        if (!pair->key || !pair->value) return error_memory(e, path, json_string_length(value));
        s->metadata_count++;
    }
    return true;
}

static int compare_places(const void *a, const void *b)
{
    const safetensors_entry *left = a, *right = b;
    const char *l = left->data, *r = right->data;
    if (l != r) return l < r ? -1 : 1;
    return (left->bytes > right->bytes) - (left->bytes < right->bytes); /* empty tensors first */
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const safetensors_entry *)a)->name, ((const safetensors_entry *)b)->name);
}

/* The tensors, in the order of their places, must follow each other from the first byte to the
 * last. */
static bool check_cover(safetensors *s, uint64_t data_start, const char *path, error *e)
{
    qsort(s->entry, s->count, sizeof *s->entry, compare_places);
    const uint8_t *at = s->map.data + data_start, *end = s->map.data + s->map.size;
    for (size_t i = 0; i < s->count; i++) {
        const safetensors_entry *t = &s->entry[i];
        const uint8_t *data = t->data;
        if (data < at)
            return error_set(e, ERROR_FORMAT, "%s: tensor '%s': its data overlap those of '%s'",
                             path, show(t->name).text, show(s->entry[i - 1].name).text);
        if (data > at)
            return error_set(e, ERROR_FORMAT,
                             "%s: tensor '%s': %llu bytes before its data belong to no "
                             "tensor",
                             path, show(t->name).text, (unsigned long long)(data - at));
        at = data + t->bytes;
    }
    if (at != end)
        return error_set(e, ERROR_FORMAT, "%s: %llu bytes at the end belong to no tensor", path,
                         (unsigned long long)(end - at));
    qsort(s->entry, s->count, sizeof *s->entry, compare_names);
    return true;
}

static bool read_header(safetensors *s, json_t *header, uint64_t data_start, const char *path,
                        error *e)
{
    size_t size = json_object_size(header);
    s->entry = arena_alloc(&s->memory, size * sizeof *s->entry);
    if (!s->entry) return error_memory(e, path, size * sizeof *s->entry);
    const char *name;
    json_t *value;
    json_object_foreach(header, name, value)
    {
        bool ok = strcmp(name, "__metadata__") == 0
                      ? read_metadata(s, value, path, e)
                      : read_entry(s, name, value, data_start, path, e);
        if (!ok) return false;
    }
    return check_cover(s, data_start, path, e);
}

/* What a file that is no safetensors is, by its first bytes; "" where they tell nothing. */
static const char *other_kind(const mapped_file *map)
{
    static const char
        *const pickle = " but a PyTorch pickle (.ckpt, .pth, .pt, .bin), which is read "
                        "only where it is whole and of tensors; fetch it again, or take "
                        ".safetensors";
    static const struct {
        const char *start;
        size_t size;
        const char *kind;
    } kinds[] = {
        {"version https://git-lfs", 23,
         " but only a git-lfs pointer; fetch the file itself (git lfs pull)"},
        {"<", 1, " but looks like a web page; fetch the file itself"},
        {"\x89HDF", 4, " but HDF5 (Keras); take the model as .safetensors"},
    };
    const uint8_t *p = map->data;
    if (map->size == 0) return ": it is empty";
    if (map->size >= 4 && (memcmp(p, "PK\3\4", 4) == 0 || (p[0] == 0x80 && p[1] >= 1 && p[1] <= 5)))
        return pickle;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (map->size >= kinds[i].size && memcmp(p, kinds[i].start, kinds[i].size) == 0)
            return kinds[i].kind;
    return "";
}

static bool fail_not_ours(error *e, const char *path, const mapped_file *map)
{
    return error_set(e, ERROR_FORMAT, "%s: is not a safetensors file%s", path, other_kind(map));
}

/* The header begins with a brace at the ninth byte; what the eight before it look like (the length
 * of a header may be spelt as a pickle begins) counts only where that is not so. */
static bool parse(safetensors *s, const char *path, error *e)
{
    const mapped_file *map = &s->map;
    if (map->size <= LENGTH_BYTES) return fail_not_ours(e, path, map);
    uint64_t length = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) length = length << 8 | map->data[i];
    if (map->data[LENGTH_BYTES] != '{') return fail_not_ours(e, path, map);
    if (length > MAX_HEADER || length < 2) {
        if (*other_kind(map)) return fail_not_ours(e, path, map);
        return error_set(e, ERROR_FORMAT, "%s: the header claims %llu bytes; 2 to %d are allowed",
                         path, (unsigned long long)length, MAX_HEADER);
    }
    if (length > map->size - LENGTH_BYTES)
        return error_set(e, ERROR_FORMAT,
                         "%s: the header should have %llu bytes, but the file ends after "
                         "%llu; it is cut short or damaged, fetch it again",
                         path, (unsigned long long)length,
                         (unsigned long long)(map->size - LENGTH_BYTES));
    json_error_t problem;
    json_t *header = json_parse((const char *)map->data + LENGTH_BYTES, length,
                                JSON_REJECT_DUPLICATES, &problem);
    if (!header) {
        /* jansson leaves the text empty where an allocation of its own failed */
        if (json_error_code(&problem) == json_error_out_of_memory || !problem.text[0])
            return error_memory(e, path, length);
        return error_set(e, ERROR_FORMAT, "%s: the header is not valid JSON: %s at byte %d", path,
                         show(problem.text).text, problem.position);
    }
    bool ok = read_header(s, header, LENGTH_BYTES + length, path, e);
    json_decref(header);
    return ok;
}

bool safetensors_open(safetensors *out, const char *path, error *e)
{
    *out = (safetensors){0};
    if (!file_map(&out->map, path, e)) return false;
    if (parse(out, path, e)) return true;
    safetensors_close(out);
    return false;
}

void safetensors_close(safetensors *s)
{
    arena_free(&s->memory);
    file_unmap(&s->map);
    *s = (safetensors){0};
}

const safetensors_entry *safetensors_find(const safetensors *s, const char *name)
{
    safetensors_entry key = {.name = name};
    return s->count ? bsearch(&key, s->entry, s->count, sizeof key, compare_names) : NULL;
}

/* The Python library's order of types; its files hold the last of these first. */
static int type_rank(dtype t)
{
    static const dtype order[] = {DTYPE_BOOL, DTYPE_U8,  DTYPE_I8,  DTYPE_F8_E5M2, DTYPE_F8_E4M3,
                                  DTYPE_I16,  DTYPE_U16, DTYPE_F16, DTYPE_BF16,    DTYPE_I32,
                                  DTYPE_U32,  DTYPE_F32, DTYPE_F64, DTYPE_I64,     DTYPE_U64};
    int rank = 0;
    while (order[rank] != t) rank++;
    return rank;
}

static int compare_for_writing(const void *a, const void *b)
{
    const safetensors_entry *const *left = a, *const *right = b;
    int l = type_rank((*left)->type), r = type_rank((*right)->type);
    return l != r ? r - l : strcmp((*left)->name, (*right)->name);
}

/* Returns false when memory is out. */
static bool put_metadata(json_t *header, const safetensors_pair *metadata, size_t count)
{
    json_t *object = json_object();
    bool ok = json_object_set_new(header, "__metadata__", object) == 0 &&
              json_object_set_new(object, "format", json_string("pt")) == 0;
    for (size_t i = 0; i < count && ok; i++)
        ok = json_object_set_new(object, metadata[i].key, json_string(metadata[i].value)) == 0;
    return ok;
}

/* Returns false when memory is out. */
static bool put_entry(json_t *header, const safetensors_entry *t, uint64_t offset)
{
    json_t *object = json_object(), *shape = json_array(), *offsets = json_array();
    bool ok = json_object_set_new(object, "dtype", json_string(dtype_name(t->type))) == 0;
    for (int i = 0; i < t->rank && ok; i++)
        ok = json_array_append_new(shape, json_integer(t->dim[i])) == 0;
    ok = ok && json_array_append_new(offsets, json_integer((json_int_t)offset)) == 0 &&
         json_array_append_new(offsets, json_integer((json_int_t)(offset + t->bytes))) == 0;
    ok = ok && json_object_set(object, "shape", shape) == 0 &&
         json_object_set(object, "data_offsets", offsets) == 0 &&
         json_object_set(header, t->name, object) == 0;
    json_decref(shape);
    json_decref(offsets);
    json_decref(object);
    return ok;
}

/* The header's JSON, free()d by the caller; NULL with an error. */
static char *make_header(const safetensors_entry **order, size_t count,
                         const safetensors_pair *metadata, size_t metadata_count, const char *path,
                         error *e)
{
    json_t *header = json_object();
    bool ok = put_metadata(header, metadata, metadata_count);
    uint64_t offset = 0;
    for (size_t i = 0; i < count && ok; i++) {
        if (json_object_get(header, order[i]->name)) {
            fail_tensor(e, path, order[i]->name, "is to be written twice");
            json_decref(header);
            return NULL;
        }
        ok = put_entry(header, order[i], offset);
        offset += order[i]->bytes;
    }
    char *text = ok ? json_text(header, JSON_COMPACT) : NULL;
    json_decref(header);
    if (!text) error_memory(e, path, count * sizeof(safetensors_entry));
    return text;
}

/* hash: NULL, or where it goes */
static bool write_all(const char *path, const char *header, const safetensors_entry **order,
                      size_t count, char *hash, safetensors_put *put, void *context, error *e)
{
    file_writer *w;
    sha256 sum;
    if (!file_writer_open(&w, path, e)) return false;
    sha256_start(&sum);
    if (hash) file_writer_hash(w, &sum);
    size_t length = strlen(header), padding = (ALIGNMENT - length % ALIGNMENT) % ALIGNMENT;
    uint8_t prefix[LENGTH_BYTES];
    for (int i = 0; i < LENGTH_BYTES; i++) prefix[i] = (uint8_t)((length + padding) >> 8 * i);
    bool ok = file_writer_put(w, prefix, sizeof prefix, e) &&
              file_writer_put(w, header, length, e) && file_writer_put(w, "        ", padding, e);
    for (size_t i = 0; i < count && ok; i++) ok = put(context, order[i], w, e);
    if (ok && hash) sha256_end(&sum, hash);
    if (ok) return file_writer_commit(&w, e);
    file_writer_abandon(&w);
    return false;
}

bool safetensors_write(const char *path, const safetensors_entry *entry, size_t count,
                       const safetensors_pair *metadata, size_t metadata_count, error *e)
{
    return safetensors_write_hashed(path, entry, count, metadata, metadata_count, NULL, e);
}

static bool put_data(void *unused, const safetensors_entry *entry, file_writer *w, error *e)
{
    (void)unused;
    return file_writer_put(w, entry->data, entry->bytes, e);
}

bool safetensors_write_hashed(const char *path, const safetensors_entry *entry, size_t count,
                              const safetensors_pair *metadata, size_t metadata_count,
                              char hash[65], error *e)
{
    return safetensors_write_with(path, entry, count, metadata, metadata_count, hash, put_data,
                                  NULL, e);
}

bool safetensors_write_with(const char *path, const safetensors_entry *entry, size_t count,
                            const safetensors_pair *metadata, size_t metadata_count, char *hash,
                            safetensors_put *put, void *context, error *e)
{
    const safetensors_entry **order = malloc((count + 1) * sizeof *order);
    if (!order) return error_memory(e, path, (count + 1) * sizeof *order);
    for (size_t i = 0; i < count; i++) {
        uint64_t bytes = dtype_size(entry[i].type);
        for (int d = 0; d < entry[i].rank; d++) bytes *= (uint64_t)entry[i].dim[d];
        assert(bytes == entry[i].bytes);
        (void)bytes;
        order[i] = &entry[i];
    }
    qsort(order, count, sizeof *order, compare_for_writing);
    char *header = make_header(order, count, metadata, metadata_count, path, e);
    bool ok = header && write_all(path, header, order, count, hash, put, context, e);
    free(header);
    free(order);
    return ok;
}
