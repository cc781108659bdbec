/* SPDX-License-Identifier: Apache-2.0
 *
 * pickle: a stack, a memo and a table of opcodes. A mark on the stack is a NULL. What a hostile
 * file can cost is bounded by the numbers of values and of stacked ones; no step takes longer than
 * what it takes off the stack. */
#include "file/pickle.h"

#include <stdlib.h>
#include <string.h>

enum {
    VALUES_MAX = 1 << 21, /* values and items; a full checkpoint with its optimizer has 30,000 */
    STACK_MAX = 1 << 20,
    NAME_MAX_BYTES = 256, /* of a module or what is in it */
    PROTOCOL_MAX = 5,
};

typedef struct machine {
    const uint8_t *at, *end;
    arena *memory;
    pickle_value **stack, **memo;
    size_t depth, stack_room, memo_room, memo_count, values;
    pickle_value *storages;
    bool done;
    const char *path;
    error *e;
} machine;

static bool broken(machine *m, const char *what)
{
    return error_set(m->e, ERROR_FORMAT, "%s: its pickle is damaged: %s; fetch the file again",
                     m->path, what);
}

/* ---- values ---- */

/* One more value or item; false with an error. */
static bool count_one(machine *m)
{
    return ++m->values <= VALUES_MAX ||
           error_set(m->e, ERROR_FORMAT,
                     "%s: its pickle has more than %d values; no checkpoint of weights has as many",
                     m->path, VALUES_MAX);
}

static pickle_value *make(machine *m, pickle_kind kind)
{
    if (!count_one(m)) return NULL;
    pickle_value *v = arena_alloc(m->memory, sizeof *v);
    if (!v)
        error_memory(m->e, m->path, sizeof *v);
    else
        v->kind = kind;
    return v;
}

static bool add_item(machine *m, pickle_value *to, pickle_value *key, pickle_value *value)
{
    if (!count_one(m)) return false;
    pickle_item *item = arena_alloc(m->memory, sizeof *item);
    if (!item) return error_memory(m->e, m->path, sizeof *item);
    *item = (pickle_item){.key = key, .value = value};
    if (to->items.last)
        to->items.last->next = item;
    else
        to->items.first = item;
    to->items.last = item;
    to->items.count++;
    return true;
}

static bool text_is(pickle_text t, const char *wanted)
{
    size_t n = strlen(wanted);
    return t.length == n && !memcmp(t.at, wanted, n);
}

bool pickle_is(const pickle_value *text, const char *wanted)
{
    return text && text->kind == PICKLE_TEXT && text_is(text->text, wanted);
}

pickle_value *pickle_get(const pickle_value *dict, const char *key)
{
    if (!dict || dict->kind != PICKLE_DICT) return NULL;
    for (const pickle_item *i = dict->items.first; i; i = i->next)
        if (pickle_is(i->key, key)) return i->value;
    return NULL;
}

/* ---- the stack ---- */

/* Room for one more of *list, whose room doubles. */
static bool grow(machine *m, pickle_value ***list, size_t *room, size_t needed)
{
    if (needed <= *room) return true;
    size_t larger = *room ? *room : 256;
    while (larger < needed) larger *= 2;
    pickle_value **fresh = realloc(*list, larger * sizeof *fresh);
    if (!fresh) return error_memory(m->e, m->path, larger * sizeof *fresh);
    memset(fresh + *room, 0, (larger - *room) * sizeof *fresh);
    *list = fresh;
    *room = larger;
    return true;
}

/* v NULL: a mark */
static bool stack_put(machine *m, pickle_value *v)
{
    if (m->depth >= STACK_MAX) return broken(m, "its stack grows without end");
    if (!grow(m, &m->stack, &m->stack_room, m->depth + 1)) return false;
    m->stack[m->depth++] = v;
    return true;
}

static bool push(machine *m, pickle_value *v) { return v && stack_put(m, v); }

/* The uppermost value, taken off; NULL with an error where there is none. */
static pickle_value *pop(machine *m)
{
    if (m->depth && m->stack[m->depth - 1]) return m->stack[--m->depth];
    broken(m, "a value is missing on its stack");
    return NULL;
}

static pickle_value *top(machine *m)
{
    if (m->depth && m->stack[m->depth - 1]) return m->stack[m->depth - 1];
    broken(m, "a value is missing on its stack");
    return NULL;
}

/* Takes off all down to the last mark, and it: they lie at *first, `count` of them, until something
 * is put. */
static bool pop_to_mark(machine *m, pickle_value ***first, size_t *count)
{
    size_t at = m->depth;
    while (at && m->stack[at - 1]) at--;
    if (!at) return broken(m, "a mark is missing on its stack");
    *first = m->stack + at;
    *count = m->depth - at;
    m->depth = at - 1;
    return true;
}

static const uint8_t *take(machine *m, uint64_t bytes)
{
    if (bytes > (uint64_t)(m->end - m->at)) {
        error_set(m->e, ERROR_FORMAT,
                  "%s: its pickle ends too early; the file is cut short or damaged, fetch it again",
                  m->path);
        return NULL;
    }
    const uint8_t *data = m->at;
    m->at += bytes;
    return data;
}

/* ---- opcodes: plain values ---- */

static bool op_none(machine *m, uint64_t unused)
{
    (void)unused;
    return push(m, make(m, PICKLE_NONE));
}

static bool op_integer(machine *m, uint64_t value)
{
    pickle_value *v = make(m, PICKLE_INT);
    if (v) v->integer = (int64_t)value;
    return push(m, v);
}

static bool op_signed(machine *m, uint64_t value)
{
    return op_integer(m, (uint64_t)(int64_t)(int32_t)(uint32_t)value);
}

static bool op_float(machine *m, uint64_t unused)
{
    (void)unused;
    return push(m, make(m, PICKLE_OTHER));
}

static bool put_bytes(machine *m, pickle_kind kind, uint64_t length)
{
    const uint8_t *data = take(m, length);
    pickle_value *v = data ? make(m, kind) : NULL;
    if (v) v->text = (pickle_text){(const char *)data, (size_t)length};
    return push(m, v);
}

static bool op_text(machine *m, uint64_t length) { return put_bytes(m, PICKLE_TEXT, length); }

static bool op_bytes(machine *m, uint64_t length) { return put_bytes(m, PICKLE_BYTES, length); }

/* An integer of any length, two's complement. */
static bool op_long(machine *m, uint64_t length)
{
    if (length > 8) return op_bytes(m, length);
    const uint8_t *data = take(m, length);
    if (!data) return false;
    uint64_t value = length && data[length - 1] & 0x80 ? UINT64_MAX : 0;
    for (uint64_t i = length; i-- > 0;) value = value << 8 | data[i];
    return op_integer(m, value);
}

/* ---- opcodes: containers ---- */

static bool op_mark(machine *m, uint64_t unused)
{
    (void)unused;
    return stack_put(m, NULL);
}

static bool op_empty(machine *m, uint64_t kind) { return push(m, make(m, (pickle_kind)kind)); }

static bool put_tuple(machine *m, pickle_value **value, size_t count)
{
    pickle_value *tuple = make(m, PICKLE_TUPLE);
    for (size_t i = 0; tuple && i < count; i++)
        if (!add_item(m, tuple, NULL, value[i])) return false;
    return push(m, tuple);
}

static bool op_tuple(machine *m, uint64_t unused)
{
    pickle_value **first;
    size_t count;
    (void)unused;
    return pop_to_mark(m, &first, &count) && put_tuple(m, first, count);
}

static bool op_short_tuple(machine *m, uint64_t count)
{
    pickle_value *value[3];
    for (size_t i = count; i-- > 0;)
        if (!(value[i] = pop(m))) return false;
    return put_tuple(m, value, (size_t)count);
}

static bool append(machine *m, pickle_value *const *value, size_t count)
{
    pickle_value *list = top(m);
    if (!list) return false;
    if (list->kind == PICKLE_OTHER) return true; /* a set */
    if (list->kind != PICKLE_LIST) return broken(m, "an item for what is no list");
    for (size_t i = 0; i < count; i++)
        if (!add_item(m, list, NULL, value[i])) return false;
    return true;
}

static bool op_append(machine *m, uint64_t unused)
{
    (void)unused;
    pickle_value *value = pop(m);
    return value && append(m, &value, 1);
}

static bool op_appends(machine *m, uint64_t unused)
{
    pickle_value **first;
    size_t count;
    (void)unused;
    return pop_to_mark(m, &first, &count) && append(m, first, count);
}

static bool set_items(machine *m, pickle_value *const *pair, size_t count)
{
    pickle_value *dict = top(m);
    if (!dict) return false;
    if (dict->kind == PICKLE_OTHER) return true;
    if (dict->kind != PICKLE_DICT || count % 2) return broken(m, "a pair for what is no dict");
    for (size_t i = 0; i < count; i += 2)
        if (!add_item(m, dict, pair[i], pair[i + 1])) return false;
    return true;
}

static bool op_set_item(machine *m, uint64_t unused)
{
    (void)unused;
    pickle_value *pair[2];
    pair[1] = pop(m);
    pair[0] = pair[1] ? pop(m) : NULL;
    return pair[0] && set_items(m, pair, 2);
}

static bool op_set_items(machine *m, uint64_t unused)
{
    pickle_value **first;
    size_t count;
    (void)unused;
    return pop_to_mark(m, &first, &count) && set_items(m, first, count);
}

static bool op_pop(machine *m, uint64_t unused)
{
    (void)unused;
    if (!m->depth) return broken(m, "a value is missing on its stack");
    m->depth--;
    return true;
}

static bool op_pop_mark(machine *m, uint64_t unused)
{
    pickle_value **first;
    size_t count;
    (void)unused;
    return pop_to_mark(m, &first, &count);
}

/* ---- opcodes: the memo ---- */

static bool op_put(machine *m, uint64_t index)
{
    pickle_value *v = top(m);
    if (!v) return false;
    if (index >= VALUES_MAX) return broken(m, "its memo has no such place");
    if (!grow(m, &m->memo, &m->memo_room, (size_t)index + 1)) return false;
    if (!m->memo[index]) m->memo_count++;
    m->memo[index] = v;
    return true;
}

static bool op_memoize(machine *m, uint64_t unused)
{
    (void)unused;
    return op_put(m, m->memo_count);
}

static bool op_get(machine *m, uint64_t index)
{
    if (index >= m->memo_room || !m->memo[index])
        return broken(m, "its memo has nothing at a place that is asked for");
    return push(m, m->memo[index]);
}

/* ---- opcodes: names and what is made by them ---- */

static bool put_name(machine *m, pickle_text module, pickle_text name)
{
    if (module.length > NAME_MAX_BYTES || name.length > NAME_MAX_BYTES)
        return broken(m, "a name in it has no end");
    pickle_value *v = make(m, PICKLE_NAME);
    if (v) {
        v->name.module = module;
        v->name.name = name;
    }
    return push(m, v);
}

static bool take_line(machine *m, pickle_text *out)
{
    const uint8_t *end = memchr(m->at, '\n', (size_t)(m->end - m->at));
    if (!end) return take(m, UINT64_MAX) != NULL;
    *out = (pickle_text){(const char *)m->at, (size_t)(end - m->at)};
    m->at = end + 1;
    return true;
}

static bool op_global(machine *m, uint64_t unused)
{
    pickle_text module, name;
    (void)unused;
    return take_line(m, &module) && take_line(m, &name) && put_name(m, module, name);
}

static bool op_stack_global(machine *m, uint64_t unused)
{
    (void)unused;
    const pickle_value *name = pop(m), *module = name ? pop(m) : NULL;
    if (!module) return false;
    if (name->kind != PICKLE_TEXT || module->kind != PICKLE_TEXT)
        return broken(m, "a name in it is no text");
    return put_name(m, module->text, name->text);
}

/* "module.name" without what a terminal would obey. */
static void show_name(const pickle_value *v, char out[2 * NAME_MAX_BYTES + 2])
{
    const pickle_text part[] = {v->name.module, v->name.name};
    size_t n = 0;
    for (int p = 0; p < 2; p++) {
        if (p) out[n++] = '.';
        for (size_t i = 0; i < part[p].length; i++) {
            unsigned char c = (unsigned char)part[p].at[i];
            out[n++] = c < ' ' || c > '~' ? '?' : (char)c;
        }
    }
    out[n] = 0;
}

/* `count` numbers of a tuple, none negative. */
static bool read_numbers(const pickle_value *tuple, int64_t *out, int *count)
{
    if (tuple->kind != PICKLE_TUPLE || tuple->items.count > PICKLE_MAX_RANK) return false;
    *count = 0;
    for (const pickle_item *i = tuple->items.first; i; i = i->next) {
        if (i->value->kind != PICKLE_INT || i->value->integer < 0) return false;
        out[(*count)++] = i->value->integer;
    }
    return true;
}

/* The first `wanted` of a call's arguments; further ones (gradients, hooks) are of no use here. */
static bool read_arguments(const pickle_value *args, pickle_value **out, int wanted)
{
    const pickle_item *i = args->items.first;
    for (int k = 0; k < wanted; k++, i = i->next) {
        if (!i) return false;
        out[k] = i->value;
    }
    return true;
}

/* torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...) */
static pickle_value *make_tensor(machine *m, const pickle_value *args)
{
    pickle_value *a[4], *v = make(m, PICKLE_TENSOR);
    pickle_tensor *t = v ? arena_alloc(m->memory, sizeof *t) : NULL;
    int strides;
    if (!t) {
        if (v) error_memory(m->e, m->path, sizeof *t);
        return NULL;
    }
    if (!read_arguments(args, a, 4) || a[0]->kind != PICKLE_STORAGE || a[1]->kind != PICKLE_INT ||
        a[1]->integer < 0 || !read_numbers(a[2], t->dim, &t->rank) ||
        !read_numbers(a[3], t->stride, &strides) || strides != t->rank) {
        broken(m, "a tensor is described by what is no storage, shape and strides");
        return NULL;
    }
    t->storage = &a[0]->storage;
    t->offset = a[1]->integer;
    v->tensor = t;
    return v;
}

/* torch._utils._rebuild_parameter(tensor, ...) */
static pickle_value *make_parameter(machine *m, const pickle_value *args)
{
    pickle_value *tensor;
    if (read_arguments(args, &tensor, 1) && tensor->kind == PICKLE_TENSOR) return tensor;
    broken(m, "a parameter is no tensor");
    return NULL;
}

/* collections.OrderedDict(), filled by what follows; Python 2 gives its pairs at once. */
static pickle_value *make_dict(machine *m, const pickle_value *args)
{
    pickle_value *dict = make(m, PICKLE_DICT), *pairs;
    if (!dict || !read_arguments(args, &pairs, 1)) return dict;
    if (pairs->kind == PICKLE_LIST)
        for (const pickle_item *i = pairs->items.first; i; i = i->next) {
            const pickle_value *p = i->value;
            if ((p->kind != PICKLE_LIST && p->kind != PICKLE_TUPLE) || p->items.count != 2) {
                broken(m, "an ordered dict of what are no pairs");
                return NULL;
            }
            const pickle_item *first = p->items.first;
            if (!add_item(m, dict, first->value, first->next->value)) return NULL;
        }
    return dict;
}

/* What is in checkpoints beside weights, and harmless: nothing is made but a place for its state.
 */
static pickle_value *make_other(machine *m, const pickle_value *args)
{
    (void)args;
    return make(m, PICKLE_OTHER);
}

static const struct callable {
    const char *module, *name;
    pickle_value *(*make)(machine *m, const pickle_value *args);
} callables[] = {
    {"torch._utils", "_rebuild_tensor_v2", make_tensor},
    {"torch._utils", "_rebuild_tensor", make_tensor},
    {"torch._utils", "_rebuild_parameter", make_parameter},
    {"collections", "OrderedDict", make_dict},
    {"torch", "Size", make_other},
    {"torch", "device", make_other},
    {"torch.nn.modules.container", "ParameterDict", make_other}, /* textual inversions */
    {"numpy.core.multiarray", "scalar", make_other},             /* Lightning's best score */
    {"numpy._core.multiarray", "scalar", make_other},
    {"numpy", "dtype", make_other},
    {"_codecs", "encode", make_other},
    {"builtins", "set", make_other},
    {"__builtin__", "set", make_other},
    {"argparse", "Namespace", make_other},
};

/* callable, arguments -> what it makes */
static bool op_call(machine *m, uint64_t unused)
{
    (void)unused;
    const pickle_value *args = pop(m), *name = args ? pop(m) : NULL;
    if (!name) return false;
    if (name->kind != PICKLE_NAME || args->kind != PICKLE_TUPLE)
        return broken(m, "it calls what is no name");
    for (size_t i = 0; i < sizeof callables / sizeof *callables; i++)
        if (text_is(name->name.module, callables[i].module) &&
            text_is(name->name.name, callables[i].name))
            return push(m, callables[i].make(m, args));
    char shown[2 * NAME_MAX_BYTES + 2];
    show_name(name, shown);
    return error_set(m->e, ERROR_FORMAT,
                     "%s: wants to run %s: not read; weights alone have no need of it", m->path,
                     shown);
}

/* An object's state. Of a dict it is _metadata, the versions of a network's layers. */
static bool op_build(machine *m, uint64_t unused)
{
    (void)unused;
    pickle_value *state = pop(m), *object = state ? top(m) : NULL;
    if (!object) return false;
    if (object->kind == PICKLE_OTHER)
        object->state = state;
    else if (object->kind != PICKLE_DICT && object->kind != PICKLE_TENSOR)
        return broken(m, "a state for what has none");
    return true;
}

static bool storage_type(const pickle_value *name, dtype *out)
{
    static const struct {
        const char *name;
        dtype type;
    } types[] = {{"FloatStorage", DTYPE_F32},     {"HalfStorage", DTYPE_F16},
                 {"BFloat16Storage", DTYPE_BF16}, {"DoubleStorage", DTYPE_F64},
                 {"LongStorage", DTYPE_I64},      {"IntStorage", DTYPE_I32},
                 {"ShortStorage", DTYPE_I16},     {"CharStorage", DTYPE_I8},
                 {"ByteStorage", DTYPE_U8},       {"BoolStorage", DTYPE_BOOL}};
    if (!text_is(name->name.module, "torch") && !text_is(name->name.module, "torch.cuda"))
        return false;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (text_is(name->name.name, types[i].name)) {
            *out = types[i].type;
            return true;
        }
    return false;
}

/* ("storage", torch.FloatStorage, key, device, elements[, a view of another in old files]) */
static bool op_persistent(machine *m, uint64_t unused)
{
    (void)unused;
    pickle_value *id = pop(m), *a[5], *v;
    if (!id) return false;
    if (id->kind != PICKLE_TUPLE || !read_arguments(id, a, 5) || !pickle_is(a[0], "storage") ||
        a[1]->kind != PICKLE_NAME || a[2]->kind != PICKLE_TEXT || a[4]->kind != PICKLE_INT ||
        a[4]->integer < 0)
        return broken(m, "it names what is no storage of numbers");
    pickle_value *part[6];
    if (read_arguments(id, part, 6) && part[5]->kind != PICKLE_NONE)
        return error_set(
            m->e, ERROR_FORMAT,
            "%s: holds parts of storages as torch before 0.4 wrote them; save it again "
            "with a later one",
            m->path);
    dtype type;
    if (!storage_type(a[1], &type)) {
        char shown[2 * NAME_MAX_BYTES + 2];
        show_name(a[1], shown);
        return error_set(m->e, ERROR_FORMAT, "%s: holds numbers as %s, which is not known", m->path,
                         shown);
    }
    if (!(v = make(m, PICKLE_STORAGE))) return false;
    v->storage = (pickle_storage){
        .key = a[2]->text, .type = type, .elements = (uint64_t)a[4]->integer, .next = m->storages};
    m->storages = v;
    return push(m, v);
}

/* ---- the machine ---- */

static bool op_protocol(machine *m, uint64_t protocol)
{
    return protocol <= PROTOCOL_MAX || broken(m, "its protocol is not known");
}

static bool op_nothing(machine *m, uint64_t unused)
{
    (void)m;
    (void)unused;
    return true;
}

static bool op_stop(machine *m, uint64_t unused)
{
    (void)unused;
    m->done = true;
    return true;
}

/* The opcode's argument is the number in the `bytes` behind it; where there are none, `fixed`. */
static const struct opcode {
    bool (*run)(machine *m, uint64_t argument);
    uint8_t bytes, fixed;
} opcodes[256] = {
    [0x80] = {op_protocol, 1, 0},
    [0x95] = {op_nothing, 8, 0}, /* a frame */
    ['.'] = {op_stop, 0, 0},
    ['N'] = {op_none, 0, 0},
    [0x88] = {op_integer, 0, 1},
    [0x89] = {op_integer, 0, 0},
    ['K'] = {op_integer, 1, 0},
    ['M'] = {op_integer, 2, 0},
    ['J'] = {op_signed, 4, 0},
    [0x8a] = {op_long, 1, 0},
    ['G'] = {op_float, 8, 0},
    ['X'] = {op_text, 4, 0},
    [0x8c] = {op_text, 1, 0},
    [0x8d] = {op_text, 8, 0},
    ['U'] = {op_text, 1, 0},
    ['T'] = {op_text, 4, 0},
    ['C'] = {op_bytes, 1, 0},
    ['B'] = {op_bytes, 4, 0},
    [0x8e] = {op_bytes, 8, 0},
    ['('] = {op_mark, 0, 0},
    [')'] = {op_empty, 0, PICKLE_TUPLE},
    [']'] = {op_empty, 0, PICKLE_LIST},
    ['}'] = {op_empty, 0, PICKLE_DICT},
    [0x8f] = {op_empty, 0, PICKLE_OTHER}, /* a set */
    ['t'] = {op_tuple, 0, 0},
    [0x85] = {op_short_tuple, 0, 1},
    [0x86] = {op_short_tuple, 0, 2},
    [0x87] = {op_short_tuple, 0, 3},
    ['a'] = {op_append, 0, 0},
    ['e'] = {op_appends, 0, 0},
    [0x90] = {op_appends, 0, 0}, /* to a set */
    ['s'] = {op_set_item, 0, 0},
    ['u'] = {op_set_items, 0, 0},
    ['0'] = {op_pop, 0, 0},
    ['1'] = {op_pop_mark, 0, 0},
    ['q'] = {op_put, 1, 0},
    ['r'] = {op_put, 4, 0},
    [0x94] = {op_memoize, 0, 0},
    ['h'] = {op_get, 1, 0},
    ['j'] = {op_get, 4, 0},
    ['c'] = {op_global, 0, 0},
    [0x93] = {op_stack_global, 0, 0},
    ['R'] = {op_call, 0, 0},
    [0x81] = {op_call, 0, 0}, /* a new object */
    ['b'] = {op_build, 0, 0},
    ['Q'] = {op_persistent, 0, 0},
};

static bool step(machine *m)
{
    const uint8_t *code = take(m, 1);
    if (!code) return false;
    const struct opcode *o = &opcodes[*code];
    if (!o->run)
        return error_set(m->e, ERROR_FORMAT,
                         "%s: its pickle has the opcode 0x%02x: not read; weights alone have no "
                         "need of it",
                         m->path, *code);
    uint64_t argument = o->fixed;
    if (o->bytes) {
        const uint8_t *p = take(m, o->bytes);
        if (!p) return false;
        argument = 0;
        for (int i = o->bytes; i-- > 0;) argument = argument << 8 | p[i];
    }
    return o->run(m, argument);
}

bool pickle_read(pickle_value **out, pickle_value **storages, const uint8_t *data, size_t size,
                 size_t *used, arena *memory, const char *path, error *e)
{
    machine m = {.at = data, .end = data + size, .memory = memory, .path = path, .e = e};
    bool ok = true;
    while (ok && !m.done) ok = step(&m);
    *out = ok ? pop(&m) : NULL;
    *storages = m.storages;
    *used = (size_t)(m.at - data);
    free(m.stack);
    free(m.memo);
    return *out != NULL;
}
