/* SPDX-License-Identifier: Apache-2.0
 *
 * draws: everything random in a run, in the order in which train_dreambooth.py with accelerate
 * draws it from PyTorch's default CPU generator (NUMERICS.md, 6): at an epoch's beginning two
 * 64-bit seeds; the sampler's permutation from its own generator; crops, fetched one batch ahead;
 * then, by the caller through `random`, a step's posterior noise, noise, offset noise and
 * timesteps. */
#ifndef LIKENESS_TRAIN_DRAWS_H
#define LIKENESS_TRAIN_DRAWS_H

#include "base/error.h"
#include "base/random.h"
#include "train/photos.h"

typedef struct example {
    uint32_t instance, class_image; /* indices into the photo sets */
    crop instance_crop, class_crop;
    uint32_t prompt; /* a textual inversion's: of how many draws.prompts says */
} example;

/* All of its state is in `random`, the numbers and the two arrays, so that a checkpoint can hold
 * it. */
typedef struct draws {
    rng random; /* the run's generator; between draws_next calls the step's draws come
                   from it */
    const photo_set *instances, *classes; /* classes NULL: no prior preservation */
    bool center_crop;
    uint32_t prompts;       /* draws_repeat: that one is chosen of; else 0 */
    rng python;             /* the choice's own generator */
    uint32_t length, batch; /* examples of an epoch: max(instances, classes); a batch */
    uint32_t *order;        /* [length] this epoch's permutation */
    uint32_t fetched;       /* examples of this epoch loaded so far */
    uint32_t given;         /* examples of this epoch given out so far */
    int64_t epoch;          /* -1: none has begun */
    example *ahead;         /* [2 * batch] loaded, not given out */
    uint32_t ahead_count;
} draws;

/* The photo sets are borrowed. */
bool draws_open(draws *d, uint64_t seed, const photo_set *instances, const photo_set *classes,
                bool center_crop, uint32_t batch, error *e);
/* Before the first draw, as textual_inversion.py: every picture so often in an epoch, mirrored or
 * not, under one of so many prompts. Instances are mirrored ones too. */
bool draws_repeat(draws *d, uint64_t seed, uint32_t repeats, uint32_t prompts, error *e);
/* Whether that is not too much. */
bool draws_can_repeat(const photo_set *instances, uint32_t repeats, error *e);
void draws_close(draws *d);
/* Gives the next batch (out: [batch]); *count is smaller than batch at an epoch's end. *last: this
 * is the epoch's last batch (it always synchronises). Begins epochs by itself. The order of draws
 * is the script's: call it at the beginning of each micro-step, before that step's noise. */
void draws_next(draws *d, example *out, uint32_t *count, bool *last);

/* The state as bytes for a checkpoint (malloc'ed), and back into an open draws of the same photo
 * sets and batch; false where the bytes do not fit them (what is wrong: in e). */
bool draws_save(const draws *d, void **data, size_t *size, error *e);
bool draws_load(draws *d, const void *data, size_t size, error *e);

#endif
