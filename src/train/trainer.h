/* SPDX-License-Identifier: Apache-2.0
 *
 * trainer: the state of a DreamBooth run and its step: draws, latents, noise, the graph, the guard
 * against NaN, clipping, the optimizer. Everything that a checkpoint must hold is in `parameters`,
 * `draws`, `done`, `skipped` and `scaler`. */
#ifndef LIKENESS_TRAIN_TRAINER_H
#define LIKENESS_TRAIN_TRAINER_H

#include "model/schedule.h"
#include "train/draws.h"
#include "train/inversion.h"
#include "train/latents.h"
#include "train/lora.h"
#include "train/parameters.h"
#include "train/scaler.h"
#include "train/step.h"
#include "train/text.h"

/* Of every batch size that occurs (a whole batch, an epoch's rest) one. */
enum { TRAINER_STEPS = 2 };

typedef struct trainer {
    device *device;
    const model *model;
    train_settings settings;
    photo_set instances, classes; /* classes.count 0: no class pictures */
    draws draws;
    latents *latents;
    noise_schedule schedule;
    lora_sets lora;      /* what is trained in place of the model's weights; empty: they are */
    inversion inversion; /* or this */
    parameters parameters;
    device_weights *base;      /* the base's UNet, beside a LoRA or an inversion, or for
                                  prior_from_base; else NULL */
    device_weights *base_clip; /* its text encoder, beside a LoRA of it or an inversion; else
                                  NULL */
    prompt_text instance_text, class_text;
    step_graph steps[TRAINER_STEPS];
    step_graph priors[TRAINER_STEPS]; /* prior_from_base: the base's prediction */
    step_graph *active;               /* whose memory is taken; NULL: none's */
    int64_t done, total;              /* updates, skipped ones among them */
    int64_t skipped;                  /* which changed nothing, for a gradient was not finite */
    loss_scaler scaler;               /* in half precision; else off */
    int batches;                      /* since the last update */
    double rate;                      /* learning_rate, scaled */
    struct trainer_buffers *buffers;
    void *mark; /* the draws as they were after the last update; NULL: as they are */
    size_t mark_size;
    const train_watch *watch;
} trainer;

/* One batch's outcome. */
typedef struct train_report {
    float loss, instance_loss, prior_loss; /* loss = instance + prior_loss_weight * prior; not
                                              finite at most where the update is skipped */
    bool updated;           /* this batch ended in an update; the rest is filled then alone */
    int64_t step;           /* 1: the first update */
    bool skipped;           /* a gradient was not finite: nothing was changed, the scale is less */
    float loss_scale;       /* that this update was made with; 0: none */
    double rate, norm;      /* the gradient's norm before clipping, without the scale */
    double network_seconds; /* of this update's batches: forward and backward together */
    double optimizer_seconds;
} train_report;

/* Bytes of the device's memory; of the host's, where that is another: what a checkpoint passes
 * through. */
typedef struct train_needs {
    double weights; /* with moments, sums and copies, and the base's where it is asked */
    double gradients_and_activations, encoder;
    double pictures; /* for validation: the model again, and a decoder's widest maps */
    double total, host;
} train_needs;

/* All that needs no class pictures, so that what is wrong is found before they are made: settings,
 * photos, prompts, the graph, whether memory will do (with advice). Model and watch (may be NULL)
 * are borrowed. Nothing is written anywhere. */
bool trainer_open(trainer *t, device *d, const model *m, const train_settings *s,
                  const train_watch *watch, error *e);
/* The class pictures; encodes what can be kept, copies the weights. t is to be closed in any case.
 */
bool trainer_start(trainer *t, error *e);
void trainer_close(trainer *t);
train_needs trainer_needs(const trainer *t);
/* One batch, and the update where one is due. On ERROR_NUMERIC the trained weights are those of the
 * last good update (t->done), if trainer_finite says so. */
bool trainer_batch(trainer *t, train_report *r, error *e);
/* Forgets the batches since the last update: the state is that of t->done again. */
bool trainer_rewind(trainer *t, error *e);
/* Whether every trained weight and moment is finite; else the first that is not, in e. */
bool trainer_finite(const trainer *t, error *e);
/* What is trained of the UNet or the text encoder as it begins: its weights or a LoRA's; count 0:
 * nothing is. */
const weight_set *trainer_begins(const trainer *t, bool is_clip);
/* The model that has been trained so far, a LoRA merged into it: a view of t's parameters, which
 * are shown from here on until it is closed. */
bool trainer_model_open(model *m, trainer *t, error *e);
void trainer_model_close(model *m, trainer *t);

#endif
