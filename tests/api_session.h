/* SPDX-License-Identifier: Apache-2.0
 *
 * api_session: a toy opened in a session, as the tests of the library have it. */
#ifndef LIKENESS_TESTS_API_SESSION_H
#define LIKENESS_TESTS_API_SESSION_H

#include "likeness.h"
#include "support.h"
#include "toy.h"

enum { STEPS = 4 };

extern char folder[256], toy[300];
extern lk_context *context;
extern lk_session *session;
extern lk_model *opened;

void api_open(void);
void api_close(void);
lk_generate_options options_for(uint64_t seed); /* STEPS of DDPM, which draws in every one */
lk_image *make(lk_session *s, const lk_generate_options *o);
size_t bytes_of(const lk_image *p);
void check_same(const lk_image *a, const lk_image *b);

/* lk_generate_options as a program knew it that was built before `guidance` was there. */
typedef struct older_options {
    size_t size;
    const char *prompt, *negative;
    uint64_t seed;
    int width, height;
    lk_sampler sampler;
    int steps;
} older_options;

/* What a run reached after two steps, kept. */
typedef struct keeper {
    lk_snapshot *kept;
    int told;
} keeper;
void keep(void *user, const lk_snapshot *s);

#endif
