/* SPDX-License-Identifier: Apache-2.0
 *
 * class_pictures: the pictures of the class that prior preservation trains on beside the subject. The
 * missing ones are made by the base model; manifest.json beside them says how, so that pictures of
 * another model or prompt are noticed. */
#ifndef LIKENESS_TRAIN_CLASS_PICTURES_H
#define LIKENESS_TRAIN_CLASS_PICTURES_H

#include <jansson.h>

#include "file/image.h"
#include "model/model.h"

/* Makes one picture with a model; settings: its "parameters" text, malloc'ed. Supplied from
 * above, since train/ does not include generate/. */
typedef struct picture_maker {
    bool (*make)(void *user, const model *m, const char *prompt, uint64_t seed, image *out,
                 char **settings, error *e);
    void *user;
} picture_maker;

typedef struct class_request {
    const char *folder, *prompt;
    int wanted;                 /* --num_class_images */
    uint64_t seed;              /* of the run; picture k of the folder is seeded seed + k */
    const char *model_hash;     /* model_hash of the base */
    /* NULL, or told before each picture is made that `done` of the `total` missing ones are; true:
     * stop (ERROR_CANCELLED). */
    bool (*progress)(void *user, int done, int total);
    void *user;
} class_request;

/* Counts the pictures of the folder that can be decoded, makes the shortfall (PNG, class-0000.png and
 * on, never over an existing file, settings inside), and keeps manifest.json (one entry a picture made
 * here: file, prompt, seed, model hash, settings, sha256; written anew before each picture gets its name,
 * so that a kill loses at most the one in the making). *made: how many, also on failure. *warning (malloc'ed or NULL): one line where
 * the manifest says that pictures come from another model or another prompt, or where pictures have no
 * entry ("12 of 50 class pictures were not made by this model: ..."). */
bool class_pictures_make(const class_request *r, const model *m, const picture_maker *maker, int *made,
                         char **warning, error *e);

/* The pictures among the first `wanted` of the folder that class_pictures_make would not have made for
 * this request, as the bytes of their names and their hashes: a list of [name, sha256], for json_decref.
 * NULL in model_hash: it has made none yet. */
bool class_pictures_foreign(const class_request *r, json_t **out, error *e);

#endif
