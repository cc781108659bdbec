/* SPDX-License-Identifier: Apache-2.0
 *
 * class_images: the pictures of the class that prior preservation trains on beside the subject. The
 * missing ones are made by the base model; manifest.json beside them says how, so that pictures of
 * another model or prompt are noticed. */
#ifndef LIKENESS_TRAIN_CLASS_IMAGES_H
#define LIKENESS_TRAIN_CLASS_IMAGES_H

#include <jansson.h>

#include "file/image.h"
#include "model/model.h"
#include "train/watch.h"

/* A picture that is wanted of a model. progress: before the first step and after each; true: stop
 * (ERROR_CANCELLED). */
typedef struct image_order {
    const model *model;
    const char *prompt;
    uint64_t seed;
    bool (*progress)(void *user, int step, int steps);
    void *user;
} image_order;

/* Makes one picture; settings: its "parameters" text, malloc'ed. Supplied from above, since
 * train/ does not include generate/. */
typedef struct image_maker {
    bool (*make)(void *user, const image_order *order, image *out, char **settings, error *e);
    void *user;
} image_maker;

typedef struct class_request {
    const char *folder, *prompt;
    int wanted;             /* --num_class_images */
    uint64_t seed;          /* of the run; picture k of the folder is seeded seed + k */
    const char *model_hash; /* model_hash of the base */
    /* Of pictures made here before, only those count as the request's whose settings hold these
     * words
     * ("Steps: 25, Sampler: DDIM, CFG scale: 5"), and the precision ("no", "fp16", "bf16"). NULL:
     * all do. */
    const char *maker, *precision;
    const train_watch *watch; /* NULL, or told before each picture that is looked at or made */
    /* NULL, or told of every step of a picture in the making; true: stop (ERROR_CANCELLED). */
    bool (*step)(void *user, int step, int steps);
    void *user;
} class_request;

/* Looks at the pictures of the folder: *missing is how many class_images_make would make. One that
 * cannot be decoded is an error; so is a folder that pictures are missing in and that cannot be
 * written to. */
bool class_images_check(const class_request *r, int *missing, error *e);
/* Makes the shortfall (PNG, class-0000.png and on, never over an existing file, settings inside),
 * and keeps manifest.json (one entry a picture made here: file, prompt, seed, model hash, settings,
 * sha256; written anew before each picture gets its name, so that a kill loses at most the one in
 * the making). *made: how many, also on failure. *warning (malloc'ed or NULL): one line where the
 * manifest says that pictures come from another model or another prompt, or where pictures have no
 * entry ("12 of 50 class pictures were not made by this model: ..."). */
bool class_images_make(const class_request *r, const model *m, const image_maker *maker, int *made,
                       char **warning, error *e);

/* The pictures among the first `wanted` of the folder that class_images_make would not have made
 * for this request, as the bytes of their names and their hashes: a list of [name, sha256], for
 * json_decref. NULL in model_hash: it has made none yet. */
bool class_images_foreign(const class_request *r, json_t **out, error *e);

#endif
