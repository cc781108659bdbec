/* SPDX-License-Identifier: Apache-2.0
 *
 * api: what the files of the public interface share: what its opaque types are, and the translation of
 * errors and options. Each file is one group of include/likeness.h; none owns anything but types. */
#ifndef LIKENESS_API_API_H
#define LIKENESS_API_API_H

#include "generate/generate.h"
#include "likeness.h"

struct lk_context { device *device; };

struct lk_model {
    device *device;
    model *model;
    generator *generator;
};

struct lk_picture {
    image image;
    char *settings;         /* NULL: none */
    generate_result latents; /* its picture is empty: it moved to image */
};

struct lk_latents {
    int shape[3];           /* C, h, w */
    float *data;
};

/* Hands a failure to the caller, who keeps his first one; returns ok. */
bool api_report(bool ok, const error *e, lk_error *out);

/* latents are not looked at: api_latents_fit. */
generate_options api_options_in(const lk_generate_options *o);
bool api_latents_fit(const lk_model *m, const lk_generate_options *o, error *e);

/* The models of one picture, which take turns. mix NULL: the first alone. */
typedef struct turns {
    lk_model *const *model;
    const char *const *name;
    int count;
    const mix *mix;
} turns;
lk_model *turns_first(const turns *t);
generator **turns_generators(const turns *t, error *e); /* malloc'ed; NULL on failure */
bool turns_run(lk_picture **out, const turns *t, const lk_generate_options *o, error *e);
/* Of a picture that is not made yet. */
bool turns_settings(char **text, const turns *t, const lk_generate_options *o, error *e);
/* Each model of a picture has its own name. */
bool names_check(const char *const *names, int count, error *e);

#endif
