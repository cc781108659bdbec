/* SPDX-License-Identifier: Apache-2.0
 *
 * read: what the readers of a study's plan share: the place in hand, messages that name it,
 * and values of a JSON object by their types. */
#ifndef LIKENESS_STUDY_PLAN_READ_H
#define LIKENESS_STUDY_PLAN_READ_H

#include <jansson.h>

#include "file/fields.h"
#include "plan.h"

enum {
    FILE_LIMIT = 16 << 20,
    MAX_CELLS = 20000,
    MAX_STEPS = 10000,       /* of one cell */
    MAX_ALL_STEPS = 5000000, /* of all cells: each is a mix_step in memory */
    MAX_SIZE = 16384,        /* of a picture's side */
    MAX_NAME = 64,
    PLACE = 1400,
};

typedef struct plan_reader {
    study_plan *plan;
    const char *path, *root;
    const char *folder;   /* the plan's own */
    char where[PLACE];    /* file and place, for messages */
    size_t file_length;   /* of the file's part of it */
    int64_t cells, steps; /* of all sections so far */
    error *e;
} plan_reader;

/* "FILE: PLACE: what is wrong" into the reader's error; returns false. */
bool plan_wrong(const plan_reader *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool plan_no_memory(const plan_reader *r);
/* Makes the place more exact; plan_leave takes what this returns. */
size_t plan_enter(plan_reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
void plan_leave(plan_reader *r, size_t before);

/* The plan's models, for messages; the index of one, or -1; and what is said of a name that none
 * has. */
const char *plan_list_models(const plan_reader *r, char *out, size_t size);
int plan_find_model(const study_plan *p, const char *name);
bool plan_unknown_model(const plan_reader *r, const char *key, const char *name);

bool plan_is_object(const plan_reader *r, const json_t *value, const char *what);
/* Whether every key of an object stands in the list, which ends with NULL. */
bool plan_keys_known(const plan_reader *r, json_t *object, const char *const *known);
/* The text of a field, the plan's own. Needed and empty is an error; else absent gives fallback. */
bool plan_read_text(plan_reader *r, json_t *object, const char *key, bool needed,
                    const char *fallback, const char **out);
/* 42, or "42" for what is past JSON's whole numbers. */
bool plan_read_seed(plan_reader *r, const json_t *value, uint64_t *out);
/* A number from 0 to high. */
bool plan_read_share(plan_reader *r, fields *f, const char *key, double high, float *out);
/* A path of the plan: as it is, below the plan's folder, or below root; the first that exists.
 * Where none does, an error, or (may_miss) the one below the plan's folder. Made absolute, in the
 * object too. */
bool plan_read_path(plan_reader *r, json_t *object, const char *key, bool needed, bool may_miss,
                    const char **out);

bool plan_read_models(plan_reader *r, json_t *root); /* models.c */

/* The picture at a path that an object has to have, the plan's own. */
bool plan_read_picture(plan_reader *r, json_t *object, const char *key, const study_picture **out);
void plan_close_pictures(study_plan *p);
void plan_close_nets(study_plan *p); /* plan_controls.c */

/* study_plan_read of JSON that is read already; its relative paths become absolute ones. `path` is
 * for messages, `folder` is where relative paths start from. */
bool plan_read_json(study_plan *out, json_t *json, const char *path, const char *folder,
                    const char *root, error *e);

#endif
