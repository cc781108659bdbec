/* SPDX-License-Identifier: Apache-2.0
 *
 * fit: see fit.h. */
#include "pipeline/fit.h"

#include <string.h>

#include "model/taesd.h"

bool fit_conditional(const model *m) { return m->kind == MODEL_STABLE_DIFFUSION; }

int fit_factor(const model *m) { return fit_conditional(m) ? 1 << (m->vae.blocks - 1) : 1; }

void fit_size(const model *m, int *width, int *height, int *multiple)
{
    *width = *height = m->unet.sample_size * fit_factor(m);
    /* Any latent size runs in a Stable Diffusion UNet (it upsamples to its skips' sizes);
     * UNet2DModel needs sides that halve evenly all the way down. */
    *multiple = fit_conditional(m) ? fit_factor(m) : 1 << (m->unet.blocks - 1);
}

void fit_latents(const model *m, int width, int height, int shape[3])
{
    int own_width, own_height, multiple;
    fit_size(m, &own_width, &own_height, &multiple);
    shape[0] = fit_conditional(m) ? m->vae.latent_channels : m->unet.in_channels;
    shape[1] = (height ? height : own_height) / fit_factor(m);
    shape[2] = (width ? width : own_width) / fit_factor(m);
}

double fit_least_bytes(const model *m, int width, int height)
{
    int channels = m->tiny              ? m->tiny->config.channels
                   : fit_conditional(m) ? m->vae.channels[0]
                                        : m->unet.channels[0];
    return (double)width * height * channels * 2 * sizeof(float);
}

bool fit_model(const model *m, error *e)
{
    return fit_conditional(m) || m->unet.in_channels == 3 ||
           error_set(e, ERROR_MODEL, "%s: the network makes %d channels; a picture has 3", m->path,
                     m->unet.in_channels);
}

static bool same_noise(const scheduler_config *a, const scheduler_config *b)
{
    size_t n = (size_t)a->train_steps;
    return a->train_steps == b->train_steps && a->beta_start == b->beta_start &&
           a->beta_end == b->beta_end && a->betas == b->betas && a->zero_snr == b->zero_snr &&
           !a->trained_betas == !b->trained_betas &&
           (!a->trained_betas ||
            memcmp(a->trained_betas, b->trained_betas, n * sizeof *a->trained_betas) == 0);
}

bool fit_pair(const model *a, const model *b, error *e)
{
    if (a->kind != b->kind)
        return error_set(e, ERROR_USAGE,
                         "%s and %s cannot take turns: one makes pictures from a prompt, "
                         "the other without",
                         a->path, b->path);
    if (a->unet.in_channels != b->unet.in_channels ||
        a->unet.out_channels != b->unet.out_channels || fit_factor(a) != fit_factor(b) ||
        (fit_conditional(b) && a->vae.scaling_factor != b->vae.scaling_factor))
        return error_set(e, ERROR_USAGE, "%s and %s cannot take turns: their latents differ",
                         a->path, b->path);
    if (a->scheduler.predicts != b->scheduler.predicts)
        return error_set(e, ERROR_USAGE,
                         "%s and %s cannot take turns: one predicts noise, the other "
                         "velocity",
                         a->path, b->path);
    return same_noise(&a->scheduler, &b->scheduler) ||
           error_set(e, ERROR_USAGE,
                     "%s and %s cannot take turns: they were trained with other noise "
                     "(scheduler_config.json)",
                     a->path, b->path);
}
