/* SPDX-License-Identifier: Apache-2.0
 *
 * pickle: Python's pickles as far as torch.save uses them for weights. A pickle is a program; this
 * machine knows the few opcodes that lay out data, and of all callables those that make tensors and
 * ordered dictionaries. Nothing is ever executed: whatever else a file wants to run is refused by
 * its name. */
#ifndef LIKENESS_FILE_PICKLE_H
#define LIKENESS_FILE_PICKLE_H

#include "base/arena.h"
#include "base/error.h"
#include "base/types.h"

enum { PICKLE_MAX_RANK = 8 };

typedef enum pickle_kind {
    PICKLE_NONE,
    PICKLE_INT,   /* booleans too */
    PICKLE_OTHER, /* a number or an object that nobody here asks for; what it was given is `state`
                   */
    PICKLE_TEXT,
    PICKLE_BYTES, /* and integers of more than eight bytes */
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,
    PICKLE_NAME, /* module.name of something in Python; it is not called */
    PICKLE_STORAGE,
    PICKLE_TENSOR,
} pickle_kind;

typedef struct pickle_value pickle_value;

typedef struct pickle_text {
    const char *at; /* in the file, without a NUL behind it */
    size_t length;
} pickle_text;

typedef struct pickle_item {
    pickle_value *key; /* NULL in lists and tuples */
    pickle_value *value;
    struct pickle_item *next;
} pickle_item;

/* Numbers in a block of the file that the pickle only names. */
typedef struct pickle_storage {
    pickle_text key;
    dtype type;
    uint64_t elements;
    const uint8_t *data; /* NULL; for whoever finds them */
    pickle_value *next;  /* the storage named before this one */
} pickle_storage;

typedef struct pickle_tensor {
    pickle_storage *storage;
    int rank;
    int64_t offset, dim[PICKLE_MAX_RANK], stride[PICKLE_MAX_RANK]; /* none is negative */
} pickle_tensor;

struct pickle_value {
    pickle_kind kind;
    bool walked; /* for whoever walks: a value may be in many places, in itself too */
    union {
        int64_t integer;
        pickle_text text;
        struct {
            pickle_item *first, *last;
            size_t count;
        } items;
        struct {
            pickle_text module, name;
        } name;
        pickle_value *state;
        pickle_storage storage;
        pickle_tensor *tensor;
    };
};

bool pickle_is(const pickle_value *text, const char *wanted); /* a text, and this one */
/* What a dictionary has under a text; NULL: nothing, or it is no dictionary. */
pickle_value *pickle_get(const pickle_value *dict, const char *key);

/* Reads the pickle that `data` begins with; *used of its bytes are it. Values lie in `memory`,
 * their texts in `data`. storages: the one named last, a list over storage.next. path: for
 * messages. */
bool pickle_read(pickle_value **out, pickle_value **storages, const uint8_t *data, size_t size,
                 size_t *used, arena *memory, const char *path, error *e);

#endif
