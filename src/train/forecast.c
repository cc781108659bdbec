/* SPDX-License-Identifier: Apache-2.0
 *
 * forecast: see forecast.h. */
#include "train/forecast.h"

#include "pipeline/fit.h"
#include "train/checkpoint.h"

enum {
    SLOW_UPDATES = 2,   /* the first ones: memory is touched for the first time */
    PICTURE_STEPS = 50, /* of a validation picture, before one was made */
};

static const double small_files =
    4 << 20; /* bytes of a model's configurations and tokenizer, at most */
static const double bytes_per_second = 3e8; /* of a disk, before a checkpoint was written */
static const double forwards = 3.5; /* that an update takes the time of: backward, optimizer */

void forecast_update(forecast *f, const train_report *r, double seconds)
{
    f->network = r->network_seconds;
    if (++f->seen <= SLOW_UPDATES) {
        f->steps = seconds;
        return;
    }
    f->steps = f->counted ? f->steps + seconds : seconds;
    f->counted++;
}

void forecast_checkpoint(forecast *f, double seconds)
{
    f->checkpoints++;
    f->checkpoint_seconds += seconds;
}

void forecast_image(forecast *f, double seconds)
{
    f->pictures++;
    f->image_seconds += seconds;
}

double forecast_step(const forecast *f)
{
    return f->counted ? f->steps / (double)f->counted : f->steps;
}

/* Of samples in a batch, class pictures included. */
static double samples_of(const trainer *t)
{
    const train_settings *s = &t->settings;
    return (double)s->train_batch_size * (s->with_prior_preservation || s->prior_from_base ? 2 : 1);
}

static double image_seconds(const forecast *f, const trainer *t)
{
    if (f->pictures) return f->image_seconds / (double)f->pictures;
    double samples = samples_of(t) * t->settings.gradient_accumulation_steps;
    return PICTURE_STEPS * f->network / 3 * 2 / samples;
}

static double checkpoint_seconds(const forecast *f, const trainer *t)
{
    return f->checkpoints ? f->checkpoint_seconds / (double)f->checkpoints
                          : checkpoint_bytes(t) / bytes_per_second;
}

static double result_seconds(const forecast *f, const trainer *t)
{
    double written = (double)f->checkpoints * checkpoint_bytes(t);
    double each = written > 0 ? f->checkpoint_seconds / written : 1 / bytes_per_second;
    return forecast_result(t) * each;
}

/* How often something happens between the updates done and the last. */
static double times(const trainer *t, int64_t every)
{
    return (double)(t->total / every - t->done / every);
}

double forecast_left(const forecast *f, const trainer *t)
{
    const train_settings *s = &t->settings;
    if (!f->seen) return 0;
    double left = forecast_step(f) * (double)(t->total - t->done);
    left += times(t, s->checkpointing_steps) * checkpoint_seconds(f, t);
    if (s->validation_prompt)
        left += times(t, s->validation_steps) * s->num_validation_images * image_seconds(f, t);
    return left + result_seconds(f, t);
}

double forecast_guess(const trainer *t, double evaluation)
{
    const train_settings *s = &t->settings;
    double own = t->model->unet.sample_size * fit_factor(t->model);
    double size = s->resolution / own;
    return (double)t->total * s->gradient_accumulation_steps * forwards * evaluation *
           samples_of(t) / 2 * size * size;
}

static double elements(const weight_set *set)
{
    double sum = 0;
    for (size_t i = 0; i < set->count; i++) sum += (double)weight_elements(&set->item[i]);
    return sum;
}

static double bytes_of(const weight_set *set)
{
    double sum = 0;
    for (size_t i = 0; i < set->count; i++)
        sum += (double)weight_elements(&set->item[i]) * (double)dtype_size(set->item[i].type);
    return sum;
}

double forecast_result(const trainer *t)
{
    const model *m = t->model;
    const train_settings *s = &t->settings;
    if (s->textual_inversion)
        return (double)parameters_sizes(&(weight_set){0}, &t->inversion.begins, s).weights +
               small_files;
    if (s->lora_rank)
        return (s->output_kohya_format ? 2 : 1) *
                   (double)parameters_sizes(&t->lora.unet, &t->lora.clip, s).weights +
               small_files;
    double size = s->optimizer == OPTIMIZER_ADAMW_F16 ? 2 : 4;
    return elements(&m->unet_weights) * size + bytes_of(&m->vae_weights) +
           (s->train_text_encoder ? elements(&m->clip_weights) * size
                                  : bytes_of(&m->clip_weights)) +
           small_files;
}
