/* SPDX-License-Identifier: Apache-2.0
 *
 * parameters: the "parameters" text of a picture, written here and nowhere else: by the same keys
 * whether it was generated, made for a class, in a training, or in a study. A picture that a
 * command makes again has the same text. */
#ifndef LIKENESS_GENERATE_PARAMETERS_H
#define LIKENESS_GENERATE_PARAMETERS_H

#include "generate/generate.h"

/* What a run of generator_run (names and mix NULL, count 1) or generator_run_mixed is given. */
typedef struct image_job {
    generator *const *models;
    const char *const *names; /* of the models in the mix */
    int count;
    const mix *mix;
    const generate_options *options;
} image_job;

/* The text for the picture that the job made, malloc'ed. Hashes the models, once each. */
bool parameters_text(char **out, const image_job *job, const image *made, error *e);

#endif
