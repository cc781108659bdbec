/* SPDX-License-Identifier: Apache-2.0
 *
 * generate: from a prompt and a seed to a picture: text -> embeddings -> denoise -> decode. A
 * generator borrows a device and a model and keeps what is costly between pictures: the planned
 * graphs and the cross-attention's keys and values of the last prompt. Activation blocks are held
 * only while their phase runs. */
#ifndef LIKENESS_GENERATE_GENERATE_H
#define LIKENESS_GENERATE_GENERATE_H

#include "file/image.h"
#include "generate/mix.h"
#include "generate/samplers/sampler.h"
#include "generate/prompts/script.h"
#include "model/model.h"
#include "pipeline/control.h"

typedef struct generator generator;

/* Called before the first step (step 0) and after each; true asks to stop. */
typedef bool (*generate_progress)(void *user, int step, int steps);

/* Whose noise a seed gives. The last two differ in what begins with a picture: diffusers draws its
 * latents first, and then the noise; AUTOMATIC1111 and stable-diffusion.cpp's noise is the first
 * draw, whatever the latents took. */
typedef enum noise_source { NOISE_CPU, NOISE_CUDA, NOISE_A1111 } noise_source;

/* A run after some of its steps: what the rest follows from. */
typedef struct generate_snapshot {
    int step;            /* steps that are done */
    const float *latent; /* [C,h,w]: numbers of them */
    size_t numbers;
    const rng *random;   /* the state of the picture's generator */
    const void *sampler; /* what the sampler remembers of its steps; size 0: nothing */
    size_t sampler_size;
    sampler_kind kind; /* of the run, which the rest of it must be of too: */
    int steps;
    uint64_t seed;
    char begun[65];     /* the hash of what was given to begin with: a picture, its mask, latents */
    double strength;    /* of that picture; else 0 */
    noise_source noise; /* generate_options', as these: */
    uint64_t noise_delta;
    int deep_cache;
    const void *deep; /* the deep features in force (generate/deep.h); size 0: none */
    size_t deep_size;
} generate_snapshot;

/* A copy in one block of its own, to be freed with free(); NULL when memory is out. */
generate_snapshot *generate_snapshot_copy(const generate_snapshot *s);

typedef struct generate_options {
    const char *prompt, *negative; /* UTF-8; NULL: empty */
    uint64_t seed;
    noise_source noise;
    uint64_t noise_delta; /* the sampler's noise is of seed + this (AUTOMATIC1111's ENSD); 0: off */
    int width, height;    /* 0: the model's own */
    sampler_options sampler;
    float guidance; /* off at 1 and below */
    float guidance_rescale;
    int clip_skip;           /* layers left out at the end, as in diffusers */
    const control *controls; /* ControlNets */
    int control_count;
    int deep_cache; /* the whole network every so many evaluations; 0, 1: always */
    prompt_syntax syntax;
    const float *latents;          /* the noise to start from, [C,h,w]; NULL: drawn from the seed */
    const generate_snapshot *from; /* NULL: from the noise; else the run goes on from there */
    generate_progress progress;    /* NULL: none */
    /* NULL, or told the state after each step; what it points to is gone afterwards. */
    void (*reached)(void *user, const generate_snapshot *state);
    void *user;
    /* NULL, or told the growing picture after every so many steps but the last; it is gone after.
     */
    void (*preview)(void *user, const image *picture);
    int preview_steps;
    const image *init; /* NULL: none; else the run begins with this picture, noised by: */
    double strength;   /* 0 to 1: this share of the steps is made, the last ones */
    const image *mask; /* NULL: none; else of init's size, and white is what is made anew */
    bool tile;         /* pictures that are larger than a tile are decoded and encoded in tiles */
    /* A second pass (hires.h): its size by this one's, 0: none; its steps, 0: as many; what share
     * of a run they are; how latents grow, NULL: "latent". */
    double hires, hires_strength;
    int hires_steps;
    const char *hires_upscaler;
    /* hires.c's: the second pass's latents, how many of its steps are made (0: it is none), and
     * the first one's steps; whether nothing is decoded. */
    const float *clean;
    int last_steps, first_steps;
    bool undecoded;
} generate_options;

typedef struct generate_result {
    image picture;
    int channels, height, width;   /* of the latents */
    int begun_height, begun_width; /* of the first ones: smaller where there was a second pass */
    float *initial, *final;        /* latents [C,h,w] before the first and after the last step */
} generate_result;

/* Both are borrowed and must outlive the generator. */
bool generator_open(generator **out, device *d, const model *m, error *e);
void generator_close(generator **g);

const model *generator_model(const generator *g);
device *generator_device(const generator *g);
/* The size of pictures that the model was trained on, and what both sides must be multiples of. */
void generator_size(const generator *g, int *width, int *height, int *multiple);
/* The size of the picture that is made with these options. */
void generator_size_of(const generator *g, const generate_options *o, int *width, int *height);
/* The shape [C,h,w] of the latents of a picture of this size (0: the model's own). */
void generator_latents(const generator *g, int width, int height, int shape[3]);

/* How many of its steps a picture really makes: fewer where it begins with a picture. */
int generate_steps(const generate_options *o);
bool generate_strength_check(const generate_options *o, error *e); /* whether it makes any */
/* All that can be found wrong before the work begins: sizes, steps, the prompts' text, memory.
 * *notes (may be NULL): lines about what the model will not read as it may be meant
 * (prompts/prompt.h), malloc'ed, or NULL. */
bool generator_check(generator *g, const generate_options *o, char **notes, error *e);
/* Makes one picture. On failure nothing is in out. */
bool generator_run(generator *g, const generate_options *o, generate_result *out, error *e);
/* As generator_run, the models (of one size and kind) taking turns as the mix says; m->count must
 * be the number of steps. Each model has its own text encoder's reading of the prompts; the last in
 * force decodes. */
bool generator_run_mixed(generator *const *models, int count, const mix *m,
                         const generate_options *o, generate_result *out, error *e);
/* Whether two pictures of the same models can take their steps together: size, guided or not, clip
 * skip, deep cache, ControlNets, sampler, steps and spacing, how prompts are read, and the step
 * that they go on from, are the same; the prompts themselves where their syntax lets them differ in
 * length and parts. */
bool generate_alike(const generate_options *a, const generate_options *b);
/* Pictures that are alike, in one evaluation a step: o and out [pictures]. Each has the bytes that
 * it has alone where the device promises so (batches_alike). Each one's progress is told. All fail
 * if one does. */
bool generator_run_together(generator *const *models, int count, const mix *m,
                            const generate_options *o, int pictures, generate_result *out,
                            error *e);
/* Whether an evaluation is so small that several processors are not kept busy by one: then as many
 * sessions, each with one thread, are faster. */
bool generator_is_small(generator *const *models, int count, const mix *m,
                        const generate_options *o);
/* How many pictures like this one make good use of an evaluation: of a small network, whose weights
 * and small maps keep no processor busy, some; of a large one 1. Never more than have the same
 * bytes as alone. */
int generator_together(generator *const *models, int count, const mix *m,
                       const generate_options *o);
/* As generator_check, for all the models that the mix asks: whether they fit each other, too. */
bool generator_check_mixed(generator *const *models, int count, const mix *m,
                           const generate_options *o, char **notes, error *e);
void generate_result_free(generate_result *r);

#endif
