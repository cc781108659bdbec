/* SPDX-License-Identifier: Apache-2.0
 *
 * torch: see torch.h. The zip form has one pickle, PREFIX/data.pkl, and a member PREFIX/data/KEY
 * for each storage; the older form has five pickles (magic number, protocol, the writer's machine,
 * the object, the storages' keys) and behind them each storage: a count of 8 bytes, and its
 * numbers. */
#include "file/torch.h"

#include <stdlib.h>
#include <string.h>

#include "file/gguf.h"
#include "file/pickle.h"
#include "file/zip.h"

enum {
    ENTRIES_MAX = 1 << 18,
    NAME_MAX_BYTES = 512,
    DEPTH_MAX = 12, /* of dicts in dicts */
    OLD_PROTOCOL = 1001,
};

static const char old_magic[] = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

/* ---- what is being opened ---- */

typedef struct reader {
    safetensors *out;
    size_t room;     /* for entries */
    uint64_t copied; /* bytes of views that were put in order */
    const char *path;
    error *e;
} reader;

static bool broken(const reader *r, const char *what)
{
    return error_set(r->e, ERROR_FORMAT, "%s: is a damaged PyTorch file: %s; fetch it again",
                     r->path, what);
}

/* ---- tensors ---- */

/* The numbers that a view reaches, and whether they lie in order; false where they are not all in
 * its storage. */
static bool look_at(const pickle_tensor *t, int64_t *count, bool *in_order)
{
    int64_t last = t->offset, expected = 1;
    *count = 1;
    *in_order = true;
    for (int d = t->rank; d-- > 0;) {
        int64_t step;
        if (__builtin_mul_overflow(*count, t->dim[d], count)) return false;
        if (t->dim[d] < 2) continue;
        if (__builtin_mul_overflow(t->dim[d] - 1, t->stride[d], &step) ||
            __builtin_add_overflow(last, step, &last))
            return false;
        *in_order = *in_order && t->stride[d] == expected;
        expected *= t->dim[d];
    }
    if (!*count) *in_order = true;
    return !*count || (uint64_t)last < t->storage->elements;
}

/* The view's numbers, in the order of its dimensions. */
static void gather(uint8_t *out, const uint8_t *in, const pickle_tensor *t, int64_t count)
{
    size_t size = dtype_size(t->storage->type);
    int64_t index[PICKLE_MAX_RANK] = {0}, at = 0;
    for (int64_t i = 0; i < count; i++, out += size) {
        memcpy(out, in + (size_t)at * size, size);
        for (int d = t->rank; d-- > 0;) {
            at += t->stride[d];
            if (++index[d] < t->dim[d]) break;
            at -= t->dim[d] * t->stride[d];
            index[d] = 0;
        }
    }
}

static bool fill_entry(reader *r, safetensors_entry *entry, const pickle_tensor *t)
{
    const pickle_storage *s = t->storage;
    int64_t count;
    bool in_order;
    if (!look_at(t, &count, &in_order))
        return broken(r, "a tensor reaches past the end of its numbers");
    size_t size = dtype_size(s->type);
    entry->type = s->type;
    entry->rank = t->rank;
    memcpy(entry->dim, t->dim, sizeof t->dim);
    entry->bytes = (uint64_t)count * size;
    const uint8_t *first = count ? s->data + (size_t)t->offset * size : s->data;
    entry->data = first;
    if (in_order) return true;
    r->copied += entry->bytes;
    if (r->copied > r->out->map.size || (uint64_t)count > s->elements)
        return broken(r, "its views are larger than what they show");
    uint8_t *copy = arena_alloc(&r->out->memory, (size_t)entry->bytes);
    if (!copy) return error_memory(r->e, r->path, entry->bytes);
    gather(copy, first, t, count);
    entry->data = copy;
    return true;
}

static bool add_entry(reader *r, const char *name, const pickle_tensor *t)
{
    safetensors *out = r->out;
    if (out->count == ENTRIES_MAX) return broken(r, "it has tensors without end");
    if (out->count == r->room) {
        size_t room = r->room ? 2 * r->room : 64;
        safetensors_entry *larger = arena_alloc(&out->memory, room * sizeof *larger);
        if (!larger) return error_memory(r->e, r->path, room * sizeof *larger);
        if (out->count) memcpy(larger, out->entry, out->count * sizeof *larger);
        out->entry = larger;
        r->room = room;
    }
    safetensors_entry *entry = &out->entry[out->count];
    *entry = (safetensors_entry){.name = arena_strdup(&out->memory, name)};
    if (!entry->name) return error_memory(r->e, r->path, strlen(name) + 1);
    out->count++;
    return fill_entry(r, entry, t);
}

/* ---- names ---- */

typedef struct place {
    char name[NAME_MAX_BYTES];
    size_t length;
} place;

/* The name's next part; false where it is none that a tensor can have. */
static bool extend(place *p, const pickle_value *key, size_t index)
{
    char number[24];
    pickle_text part = {number, 0};
    if (key && key->kind == PICKLE_TEXT)
        part = key->text;
    else if (!key || key->kind == PICKLE_INT)
        part.length = (size_t)snprintf(number, sizeof number, "%lld",
                                       key ? (long long)key->integer : (long long)index);
    else
        return false;
    if (memchr(part.at, 0, part.length) ||
        part.length + (p->length > 0) >= sizeof p->name - p->length)
        return false;
    if (p->length) p->name[p->length++] = '.';
    memcpy(p->name + p->length, part.at, part.length);
    p->length += part.length;
    p->name[p->length] = 0;
    return true;
}

static bool walk(reader *r, pickle_value *v, place *p, int depth);

static bool walk_items(reader *r, pickle_value *v, place *p, int depth)
{
    size_t index = 0, length = p->length;
    if (v->walked || depth == DEPTH_MAX) return true;
    v->walked = true;
    for (const pickle_item *i = v->items.first; i; i = i->next, index++) {
        bool named = extend(p, i->key, index);
        if (named && !walk(r, i->value, p, depth + 1)) return false;
        p->length = length;
        p->name[length] = 0;
    }
    return true;
}

/* Adds the tensors in v, which is called p->name. */
static bool walk(reader *r, pickle_value *v, place *p, int depth)
{
    switch (v->kind) {
    case PICKLE_TENSOR: return add_entry(r, p->length ? p->name : "tensor", v->tensor);
    case PICKLE_DICT:
    case PICKLE_LIST:
    case PICKLE_TUPLE: return walk_items(r, v, p, depth);
    case PICKLE_OTHER: { /* torch's ParameterDict */
        pickle_value *inner = pickle_get(v->state, "_parameters");
        return !inner || walk_items(r, inner, p, depth);
    }
    default: return true;
    }
}

/* Of a training's checkpoint the weights; else all of it. */
static pickle_value *weights_of(pickle_value *root)
{
    static const char *const keys[] = {"state_dict", "model_state_dict"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        pickle_value *inner = pickle_get(root, keys[i]);
        if (inner && inner->kind == PICKLE_DICT) return inner;
    }
    return root;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const safetensors_entry *)a)->name, ((const safetensors_entry *)b)->name);
}

static bool collect(reader *r, pickle_value *root)
{
    place p = {.length = 0};
    safetensors *out = r->out;
    if (!walk(r, weights_of(root), &p, 0)) return false;
    out->bare = root->kind == PICKLE_TENSOR;
    if (!out->count)
        return error_set(r->e, ERROR_FORMAT, "%s: is a PyTorch file without tensors", r->path);
    qsort(out->entry, out->count, sizeof *out->entry, compare_names);
    for (size_t i = 1; i < out->count; i++)
        if (!strcmp(out->entry[i - 1].name, out->entry[i].name))
            return broken(r, "two of its tensors have one name");
    return true;
}

/* ---- the zip form ---- */

static const zip_member *find_pickle(const zip *z)
{
    static const char name[] = "data.pkl";
    size_t n = sizeof name - 1;
    for (size_t i = 0; i < z->count; i++) {
        const zip_member *m = &z->member[i];
        if (m->length >= n && !memcmp(m->name + m->length - n, name, n) &&
            (m->length == n || m->name[m->length - n - 1] == '/'))
            return m;
    }
    return NULL;
}

/* The member PREFIX + name + key; NULL: there is none. */
static const zip_member *find_beside(const zip *z, const zip_member *pickle, const char *name,
                                     pickle_text key)
{
    char path[3 * NAME_MAX_BYTES];
    size_t prefix = pickle->length - strlen("data.pkl"), length = strlen(name);
    if (prefix > NAME_MAX_BYTES || key.length > NAME_MAX_BYTES) return NULL;
    memcpy(path, pickle->name, prefix);
    memcpy(path + prefix, name, length);
    memcpy(path + prefix + length, key.at, key.length);
    return zip_find(z, path, prefix + length + key.length);
}

static bool refuse_big_endian(const reader *r)
{
    return error_set(r->e, ERROR_FORMAT,
                     "%s: was written on a big-endian machine; save it again on another", r->path);
}

static bool check_byte_order(const reader *r, const zip *z, const zip_member *pickle)
{
    const zip_member *m = find_beside(z, pickle, "byteorder", (pickle_text){"", 0});
    if (!m) return true; /* files before torch 2.1 */
    const uint8_t *text = zip_data(z, m, r->e);
    if (!text) return false;
    return m->bytes != 3 || memcmp(text, "big", 3) != 0 || refuse_big_endian(r);
}

static bool find_zip_storages(const reader *r, const zip *z, const zip_member *pickle,
                              pickle_value *storages)
{
    for (pickle_value *v = storages; v; v = v->storage.next) {
        pickle_storage *s = &v->storage;
        const zip_member *m = find_beside(z, pickle, "data/", s->key);
        if (!m) return broken(r, "the numbers of a tensor are not in it");
        s->data = zip_data(z, m, r->e);
        if (!s->data) return false;
        if (s->elements > m->bytes / dtype_size(s->type))
            return broken(r, "the numbers of a tensor are not all there");
    }
    return true;
}

static bool read_zip(reader *r)
{
    zip z;
    pickle_value *root, *storages;
    size_t used;
    if (!zip_read(&z, &r->out->map, r->path, &r->out->memory, r->e)) return false;
    const zip_member *pickle = find_pickle(&z);
    if (!pickle)
        return error_set(
            r->e, ERROR_FORMAT,
            "%s: is a zip archive, and not one of PyTorch's (there is no data.pkl in it)", r->path);
    const uint8_t *data = zip_data(&z, pickle, r->e);
    return data && check_byte_order(r, &z, pickle) &&
           pickle_read(&root, &storages, data, (size_t)pickle->bytes, &used, &r->out->memory,
                       r->path, r->e) &&
           find_zip_storages(r, &z, pickle, storages) && collect(r, root);
}

/* ---- the older form ---- */

static int compare_keys(const void *a, const void *b)
{
    const pickle_text *l = &(*(pickle_storage *const *)a)->key,
                      *r = &(*(pickle_storage *const *)b)->key;
    int order = memcmp(l->at, r->at, l->length < r->length ? l->length : r->length);
    return order ? order : (l->length > r->length) - (l->length < r->length);
}

/* All storages that the pickle names, by key: a storage is named once for each tensor that is in
 * it. NULL with an error. */
static pickle_storage **sort_storages(const reader *r, pickle_value *storages, size_t *count)
{
    *count = 0;
    for (pickle_value *v = storages; v; v = v->storage.next) ++*count;
    pickle_storage **list = arena_alloc(&r->out->memory, *count * sizeof *list);
    if (!list) {
        error_memory(r->e, r->path, *count * sizeof *list);
        return NULL;
    }
    size_t i = 0;
    for (pickle_value *v = storages; v; v = v->storage.next) list[i++] = &v->storage;
    qsort(list, *count, sizeof *list, compare_keys);
    return list;
}

/* The first of those that have the key of `like`; NULL: none has. */
static pickle_storage **first_of_key(pickle_storage **list, size_t count,
                                     const pickle_storage *like)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (compare_keys(&list[mid], &like) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low < count && !compare_keys(&list[low], &like) ? list + low : NULL;
}

/* keys: in the order of the numbers that begin at `at`. */
static bool find_old_storages(const reader *r, const pickle_value *keys, pickle_value *storages,
                              const uint8_t *at)
{
    size_t count;
    const uint8_t *end = r->out->map.data + r->out->map.size;
    pickle_storage **list = sort_storages(r, storages, &count);
    if (!list) return false;
    if (keys->kind != PICKLE_LIST) return broken(r, "the list of its numbers is none");
    for (const pickle_item *i = keys->items.first; i; i = i->next) {
        if (i->value->kind != PICKLE_TEXT) return broken(r, "the list of its numbers is none");
        const pickle_storage like = {.key = i->value->text}, *wanted = &like;
        pickle_storage **s = first_of_key(list, count, wanted);
        if (!s || (*s)->data) return broken(r, "it has numbers that belong to nothing");
        if (end - at < 8) return broken(r, "it is cut short");
        uint64_t elements = 0, rest = (uint64_t)(end - at) - 8;
        for (int k = 8; k-- > 0;) elements = elements << 8 | at[k];
        at += 8;
        size_t size = dtype_size((*s)->type);
        if (elements > rest / size) return broken(r, "it is cut short");
        for (; s < list + count && !compare_keys(s, &wanted); s++) {
            if (dtype_size((*s)->type) != size || (*s)->elements > elements)
                return broken(r, "its numbers are not what its tensors say");
            (*s)->data = at;
        }
        at += elements * size;
    }
    for (size_t i = 0; i < count; i++)
        if (!list[i]->data) return broken(r, "the numbers of a tensor are not in it");
    return true;
}

static bool read_old(reader *r)
{
    enum { MAGIC, PROTOCOL, MACHINE, OBJECT, KEYS, COUNT };
    pickle_value *part[COUNT], *storages = NULL, *ignored;
    const mapped_file *map = &r->out->map;
    size_t at = 0, used;
    for (int i = 0; i < COUNT; i++) {
        if (!pickle_read(&part[i], i == OBJECT ? &storages : &ignored, map->data + at,
                         map->size - at, &used, &r->out->memory, r->path, r->e))
            return false;
        at += used;
    }
    if (part[PROTOCOL]->kind != PICKLE_INT || part[PROTOCOL]->integer != OLD_PROTOCOL)
        return broken(r, "its protocol is not known");
    const pickle_value *little = pickle_get(part[MACHINE], "little_endian");
    if (little && little->kind == PICKLE_INT && !little->integer) return refuse_big_endian(r);
    return find_old_storages(r, part[KEYS], storages, map->data + at) && collect(r, part[OBJECT]);
}

/* ---- files ---- */

/* A pickle of protocol 2 or later whose first value is an integer of ten bytes. */
static bool old_is(const uint8_t *p, size_t size)
{
    return size >= 14 && p[0] == 0x80 && p[2] == 0x8a && p[3] == 10 &&
           !memcmp(p + 4, old_magic, sizeof old_magic - 1);
}

bool torch_is(const void *begin, size_t size) { return zip_is(begin, size) || old_is(begin, size); }

bool torch_open(safetensors *out, const char *path, error *e)
{
    reader r = {.out = out, .path = path, .e = e};
    *out = (safetensors){0};
    if (!file_map(&out->map, path, e)) return false;
    bool ok = zip_is(out->map.data, out->map.size)   ? read_zip(&r)
              : old_is(out->map.data, out->map.size) ? read_old(&r)
                                                     : broken(&r, "it does not begin as one");
    if (!ok) safetensors_close(out);
    return ok;
}

bool tensors_open(safetensors *out, const char *path, error *e)
{
    uint8_t begin[16];
    size_t size;
    *out = (safetensors){0};
    if (!file_begin(path, begin, sizeof begin, &size, e)) return false;
    bool ours = size > 8 && begin[8] == '{'; /* the length before it may look like anything */
    if (gguf_is(begin, size) && !ours) return gguf_open(out, path, e);
    return torch_is(begin, size) && !ours ? torch_open(out, path, e)
                                          : safetensors_open(out, path, e);
}
