/* SPDX-License-Identifier: Apache-2.0
 *
 * load: see load.h. */
#include "model/load.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "file/fields.h"
#include "file/torch.h"

/* ---- files ---- */

struct weight_files {
    int shares;
    size_t count;
    safetensors file[];
};

bool weight_files_open(weight_files **out, char *const *paths, size_t count, error *e)
{
    size_t bytes = sizeof(weight_files) + count * sizeof(safetensors);
    weight_files *files = *out = calloc(1, bytes);
    if (!files) return error_memory(e, "the list of weight files", bytes);
    files->shares = 1;
    for (; files->count < count; files->count++)
        if (!tensors_open(&files->file[files->count], paths[files->count], e)) {
            weight_files_release(out);
            return false;
        }
    return true;
}

void weight_files_release(weight_files **files)
{
    weight_files *f = *files;
    *files = NULL;
    if (!f || --f->shares) return;
    for (size_t i = 0; i < f->count; i++) safetensors_close(&f->file[i]);
    free(f);
}

const safetensors_entry *weight_files_find(const weight_files *files, const char *name)
{
    for (size_t i = 0; i < files->count; i++) {
        const safetensors_entry *found = safetensors_find(&files->file[i], name);
        if (found) return found;
    }
    return NULL;
}

const safetensors_entry *weight_files_entry(const weight_files *files, size_t i)
{
    for (size_t k = 0; k < files->count; i -= files->file[k++].count)
        if (i < files->file[k].count) return &files->file[k].entry[i];
    return NULL;
}

const char *weight_files_told(const weight_files *files, const char *key)
{
    const safetensors *f = files->file;
    for (size_t i = 0; files->count && i < f->metadata_count; i++)
        if (!strcmp(f->metadata[i].key, key)) return f->metadata[i].value;
    return NULL;
}

bool weight_files_have_prefix(const weight_files *files, const char *prefix)
{
    for (size_t i = 0; i < files->count; i++)
        for (size_t k = 0; k < files->file[i].count; k++)
            if (!strncmp(files->file[i].entry[k].name, prefix, strlen(prefix))) return true;
    return false;
}

/* ---- the report of what does not fit ---- */

/* One kind of complaint: how many there are, and the first few of them. */
typedef struct complaint {
    size_t count, length;
    char text[560];
} complaint;

enum { COMPLAINT_NAMES = 3 };

__attribute__((format(printf, 2, 3))) static void complain(complaint *c, const char *format, ...)
{
    if (c->count++ < COMPLAINT_NAMES && c->length < sizeof c->text - 1) {
        va_list args;
        size_t room = sizeof c->text - c->length;
        if (c->count > 1) c->length += (size_t)snprintf(c->text + c->length, room, ", ");
        if (c->length >= sizeof c->text) return;
        room = sizeof c->text - c->length;
        va_start(args, format);
        c->length += (size_t)vsnprintf(c->text + c->length, room, format, args);
        va_end(args);
    }
}

typedef struct report {
    complaint missing, surplus, shape, type;
} report;

static bool report_to(const report *r, const char *where, error *e)
{
    const struct {
        const complaint *c;
        const char *what;
    } parts[] = {{&r->missing, "missing"},
                 {&r->shape, "of another shape"},
                 {&r->type, "of another type"},
                 {&r->surplus, "not expected"}};
    char text[2048] = "";
    size_t n = 0;
    for (size_t i = 0; i < 4; i++) {
        const complaint *c = parts[i].c;
        if (c->count && n < sizeof text)
            n += (size_t)snprintf(text + n, sizeof text - n, "%s%zu %s (%s%s)", n ? "; " : "",
                                  c->count, parts[i].what, c->text,
                                  c->count > COMPLAINT_NAMES ? ", ..." : "");
    }
    return n ? error_set(e, ERROR_MODEL, "%s: its tensors do not fit the network: %s", where, text)
             : true;
}

static void shape_text(char out[96], int rank, const int64_t *dim)
{
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < rank && n < 80; i++)
        n += (size_t)snprintf(out + n, 96 - n, "%s%lld", i ? "x" : "", (long long)dim[i]);
}

/* Equal up to ones at the end: checkpoints hold the same matrix as [C,C] and as [C,C,1,1]. */
static bool same_shape(const tensor *wanted, const safetensors_entry *found)
{
    int rank = wanted->rank > found->rank ? wanted->rank : found->rank;
    for (int i = 0; i < rank; i++) {
        int64_t a = i < wanted->rank ? wanted->dim[i] : 1, b = i < found->rank ? found->dim[i] : 1;
        if (a != b) return false;
    }
    return true;
}

/* ---- weight sets ---- */

/* What a set's names and data lie in. */
typedef struct weight_storage {
    weight_files *files;
    arena names; /* and data that had to be copied */
} weight_storage;

static void storage_free(void *p)
{
    weight_storage *s = p;
    weight_files_release(&s->files);
    arena_free(&s->names);
    free(s);
}

/* A small set's pages stay until it is closed: to fault them in again for the next reader costs
 * more than they take. */
enum { KEEP_BELOW = 64 << 20 };

static void storage_drop(void *p)
{
    const weight_storage *s = p;
    size_t bytes = 0;
    for (size_t i = 0; i < s->files->count; i++) bytes += s->files->file[i].map.size;
    for (size_t i = 0; bytes >= KEEP_BELOW && i < s->files->count; i++)
        file_map_drop(&s->files->file[i].map);
}

typedef struct loader {
    weight_files *files;
    const naming *names;
    bool *taken; /* one flag per entry, files in turn */
    report report;
} loader;

static size_t entry_count(const weight_files *files)
{
    size_t n = 0;
    for (size_t i = 0; i < files->count; i++) n += files->file[i].count;
    return n;
}

/* The number of an entry, counted over all files. */
static size_t entry_number(const weight_files *files, const safetensors_entry *entry)
{
    size_t before = 0;
    for (size_t i = 0; i < files->count; i++) {
        const safetensors *f = &files->file[i];
        if (entry >= f->entry && entry < f->entry + f->count)
            return before + (size_t)(entry - f->entry);
        before += f->count;
    }
    return before;
}

/* Finds one wanted weight under any of its spellings and fills *w but for its name. */
static void load_one(loader *l, const tensor *wanted, weight *w)
{
    char name[NAME_LENGTH];
    const safetensors_entry *found = NULL;
    for (int attempt = 0; !found && naming_spell(l->names, wanted->name, attempt, name); attempt++)
        found = weight_files_find(l->files, name);
    if (!found) {
        naming_spell(l->names, wanted->name, 0, name);
        complain(&l->report.missing, "%s", name);
        return;
    }
    l->taken[entry_number(l->files, found)] = true;
    if (!same_shape(wanted, found)) {
        char is[96], should[96];
        shape_text(is, found->rank, found->dim);
        shape_text(should, wanted->rank, wanted->dim);
        complain(&l->report.shape, "%s is %s, should be %s", found->name, is, should);
    }
    if (found->type != DTYPE_F32 && found->type != DTYPE_F16 && found->type != DTYPE_BF16 &&
        found->type != DTYPE_F64)
        complain(&l->report.type, "%s is %s, only F32, F16, BF16 and F64 are supported",
                 found->name, dtype_name(found->type));
    w->type = found->type;
    w->rank = wanted->rank;
    memcpy(w->dim, wanted->dim, sizeof w->dim);
    w->data = found->data;
}

/* Kernels read F32, F16 and BF16 where they lie, at addresses that are multiples of their size:
 * what is F64, or lies askew (a header's length need not be a multiple of anything), is copied into
 * memory of its own. */
static bool make_readable(weight *w, arena *memory, error *e)
{
    bool wide = w->type == DTYPE_F64;
    dtype type = wide ? DTYPE_F32 : w->type;
    size_t n = (size_t)weight_elements(w), bytes = n * dtype_size(type);
    if (!wide && (uintptr_t)w->data % dtype_size(type) == 0) return true;
    void *copy = arena_alloc(memory, bytes + 1);
    if (!copy) return error_memory(e, w->name, bytes);
    if (wide)
        convert_to_float(copy, w->data, w->type, n);
    else
        memcpy(copy, w->data, bytes);
    w->data = copy;
    w->type = type;
    return true;
}

static void find_surplus(loader *l)
{
    size_t number = 0;
    for (size_t i = 0; i < l->files->count; i++)
        for (size_t k = 0; k < l->files->file[i].count; k++, number++) {
            const char *name = l->files->file[i].entry[k].name;
            if (!l->taken[number] && !naming_ignores(l->names, name))
                complain(&l->report.surplus, "%.200s", name);
        }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const weight *)a)->name, ((const weight *)b)->name);
}

static bool name_weights(weight_set *set, arena *names, const graph *expected, error *e)
{
    for (size_t i = 0; i < set->count; i++) {
        set->item[i].name = arena_strdup(names, graph_weight_at(expected, i)->name);
        if (!set->item[i].name) return error_memory(e, "the names of weights", NAME_LENGTH);
    }
    return true;
}

bool weights_load(weight_set *out, weight_files *files, const naming *names, const graph *expected,
                  const char *where, error *e)
{
    size_t count = graph_weight_count(expected), entries = entry_count(files);
    *out = (weight_set){0};
    weight_storage *storage = calloc(1, sizeof *storage);
    weight *item = calloc(count + 1, sizeof *item);
    loader l = {.files = files, .names = names, .taken = calloc(entries + 1, sizeof(bool))};
    bool ok = storage && item && l.taken;
    if (!ok) error_memory(e, "the list of weights", count * sizeof *item);
    if (ok) {
        weight_set set = {item, count, storage, storage_free, storage_drop, NULL};
        ok = name_weights(&set, &storage->names, expected, e);
        for (size_t i = 0; ok && i < count; i++)
            load_one(&l, graph_weight_at(expected, i), &item[i]);
        if (ok) {
            find_surplus(&l);
            ok = report_to(&l.report, where, e);
        }
        for (size_t i = 0; ok && i < count; i++) ok = make_readable(&item[i], &storage->names, e);
        if (ok) {
            qsort(item, count, sizeof *item, by_name);
            storage->files = files;
            files->shares++;
            *out = set;
        }
    }
    free(l.taken);
    if (!ok) {
        free(item);
        if (storage) storage_free(storage);
    }
    return ok;
}

/* ---- NaN and infinity ---- */

/* True where a number of the type has an exponent of all ones. 8 bytes at a time: with the
 * exponent's bits inverted, such a lane is zero, and adding the mask carries into the lane's top
 * bit unless it is. */
static bool has_non_finite(const void *data, dtype type, size_t n)
{
    uint64_t mask = type == DTYPE_F32   ? 0x7f8000007f800000u
                    : type == DTYPE_F16 ? 0x7c007c007c007c00u
                                        : 0x7f807f807f807f80u;
    uint64_t top = type == DTYPE_F32 ? 0x8000000080000000u : 0x8000800080008000u;
    size_t bytes = n * dtype_size(type), done = 0;
    const uint8_t *p = data;
    enum { CHUNK = 4096 };
    uint64_t all = top;
    for (; done + CHUNK <= bytes; done += CHUNK) {
        uint64_t chunk = top;
        for (int i = 0; i < CHUNK; i += 8) {
            uint64_t v;
            memcpy(&v, p + done + i, 8);
            chunk &= (~v & mask) + mask;
        }
        all &= chunk;
    }
    for (; done < bytes; done += 8) {
        uint64_t v = 0;
        memcpy(&v, p + done, bytes - done < 8 ? bytes - done : 8);
        all &= (~v & mask) + mask;
    }
    return (all & top) != top;
}

/* The scan touches every page of the files: it gives them back as it goes, so that they do not add
 * up. */
enum { SCAN_AT_ONCE = 128 << 20 };

typedef struct scan {
    const weight_set *set;
    size_t begin;
    atomic_size_t bad; /* the first that is not finite; SIZE_MAX: none so far */
} scan;

static void scan_one(void *context, int piece, int worker)
{
    (void)worker;
    scan *s = context;
    size_t i = s->begin + (size_t)piece, bad = atomic_load(&s->bad);
    const weight *w = &s->set->item[i];
    if (i > bad || !has_non_finite(w->data, w->type, weight_elements(w))) return;
    while (i < bad && !atomic_compare_exchange_weak(&s->bad, &bad, i))
        ;
}

bool weights_check_finite(const weight_set *set, const char *where, thread_pool *pool,
                          const work_watch *watch, error *e)
{
    scan s = {.set = set, .bad = SIZE_MAX};
    for (size_t end; s.begin < set->count && atomic_load(&s.bad) == SIZE_MAX; s.begin = end) {
        size_t bytes = 0;
        for (end = s.begin; end < set->count && bytes < SCAN_AT_ONCE; end++)
            bytes += weight_elements(&set->item[end]) * dtype_size(set->item[end].type);
        if (!work_goes_on(watch, (int64_t)s.begin, (int64_t)set->count, e)) return false;
        thread_pool_run(pool, (int)(end - s.begin), scan_one, &s);
        if (set->storage_drop) set->storage_drop(set->storage);
    }
    size_t bad = atomic_load(&s.bad);
    return bad == SIZE_MAX ||
           error_set(e, ERROR_NUMERIC,
                     "%s: tensor %s holds a NaN or an infinity; the file is damaged, "
                     "take another copy",
                     where, set->item[bad].name);
}

/* ---- a component's folder ---- */

/* The files of a shard index: every different value of weight_map. */
static bool open_shards(weight_files **out, const char *folder, const char *index, error *e)
{
    fields f;
    if (!fields_open(&f, index, 64 << 20, e)) return false;
    json_t *map = field(&f, "weight_map");
    size_t most = json_object_size(map), count = 0;
    char **paths = calloc(most + 1, sizeof *paths);
    bool ok = paths || error_memory(e, index, most * sizeof *paths);
    if (ok && !most) ok = error_set(e, ERROR_FORMAT, "%s: has no \"weight_map\"", index);
    for (void *i = json_object_iter(map); ok && i; i = json_object_iter_next(map, i)) {
        const char *name = json_string_value(json_object_iter_value(i));
        if (!name || !*name || strchr(name, '/') || count >= 1000) {
            ok = error_set(e, ERROR_FORMAT, "%s: \"weight_map\" names no valid file for %.200s",
                           index, json_object_iter_key(i));
            break;
        }
        char *path = path_join(folder, name);
        bool known = false;
        for (size_t k = 0; path && k < count; k++) known = known || !strcmp(paths[k], path);
        if (!path)
            ok = error_memory(e, index, strlen(name));
        else if (known)
            free(path);
        else
            paths[count++] = path;
    }
    ok = ok && weight_files_open(out, paths, count, e);
    for (size_t k = 0; k < count; k++) free(paths[k]);
    free(paths);
    fields_close(&f);
    return ok;
}

/* The name of a file in the folder that may hold weights, in `out`; false where there is none. */
static bool find_other(const char *folder, char out[NAME_LENGTH])
{
    static const char *const endings[] = {".bin",     ".ckpt", ".pt",  ".pth",
                                          ".msgpack", ".h5",   ".onnx"};
    DIR *dir = opendir(folder);
    bool found = false;
    for (struct dirent *entry; dir && !found && (entry = readdir(dir));)
        for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
            size_t length = strlen(entry->d_name), end = strlen(endings[i]);
            if (length > end && !strcmp(entry->d_name + length - end, endings[i])) {
                snprintf(out, NAME_LENGTH, "%.200s", entry->d_name);
                found = true;
            }
        }
    if (dir) closedir(dir);
    return found;
}

/* Opens folder/name, which may be a list of shards, if it is there. */
static bool open_form(weight_files **out, const char *folder, const char *name, bool *there,
                      error *e)
{
    char *path = path_join(folder, name);
    if (!path) return error_memory(e, folder, NAME_LENGTH);
    bool ok = true;
    *there = path_is_file(path);
    if (*there)
        ok = strstr(name, ".json") ? open_shards(out, folder, path, e)
                                   : weight_files_open(out, &path, 1, e);
    free(path);
    return ok;
}

bool component_open(weight_files **out, const char *folder, const char *base, error *e)
{
    /* The plain form first, then the variants people publish; the index's two spellings of a
     * variant. transformers calls its torch files otherwise. */
    static const char *const forms[] = {"%s.safetensors",
                                        "%s.safetensors.index.json",
                                        "%s.fp16.safetensors",
                                        "%s.safetensors.index.fp16.json",
                                        "%s.fp16.safetensors.index.json",
                                        "%s.bf16.safetensors",
                                        "%s.safetensors.index.bf16.json",
                                        "%s.bf16.safetensors.index.json",
                                        "%s.fp32.safetensors",
                                        "%s.non_ema.safetensors",
                                        "%s.bin",
                                        "%s.bin.index.json",
                                        "%s.fp16.bin",
                                        "%s.bf16.bin",
                                        "%s.fp32.bin",
                                        "%s.non_ema.bin"};
    const char *torch = strcmp(base, "model") ? base : "pytorch_model";
    char name[NAME_LENGTH], other[NAME_LENGTH];
    *out = NULL;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        const char *rest = forms[i] + 2;
        bool there = false;
        snprintf(name, sizeof name, "%s%s", strstr(rest, ".bin") ? torch : base, rest);
        if (!open_form(out, folder, name, &there, e)) return false;
        if (there) return true;
    }
    if (find_other(folder, other))
        return error_set(e, ERROR_MODEL,
                         "%s: has its weights only as %s; they are looked for as %s.safetensors or "
                         "%s.bin",
                         folder, other, base, torch);
    return error_set(e, ERROR_FILE, "%s: no weights there (%s.safetensors)", folder, base);
}
