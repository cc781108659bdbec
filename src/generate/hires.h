/* SPDX-License-Identifier: Apache-2.0
 *
 * hires: a second pass over a larger picture, as AUTOMATIC1111 makes it: the first one's latents
 * grow, are noised anew by the same seed, and the last steps of a run are made again. */
#ifndef LIKENESS_GENERATE_HIRES_H
#define LIKENESS_GENERATE_HIRES_H

#include "generate/generate.h"

/* How latents grow: torch's interpolate. */
typedef enum latent_upscaler {
    UPSCALE_BILINEAR,
    UPSCALE_BILINEAR_ANTIALIASED,
    UPSCALE_BICUBIC,
    UPSCALE_BICUBIC_ANTIALIASED,
    UPSCALE_NEAREST,
    UPSCALE_NEAREST_EXACT,
    UPSCALERS,
} latent_upscaler;

/* "latent", or NULL, "latent-antialiased", or as AUTOMATIC1111 writes it: "Latent (antialiased)".
 */
bool upscaler_parse(latent_upscaler *out, const char *name, error *e);
const char *upscaler_name(latent_upscaler u);
const char *upscaler_label(latent_upscaler u); /* as AUTOMATIC1111 writes it */
/* planes [channels,height,width] -> [channels,to_height,to_width], none smaller. */
bool upscale(float *out, const float *in, int channels, int height, int width, int to_height,
             int to_width, latent_upscaler how, error *e);

int hires_steps(const generate_options *o); /* of the second pass; 0: there is none */
/* The second pass's size; true where whole latents made it smaller than the factor says. */
bool hires_size(int size[2], const generate_options *o, const model *m);
/* A line where it did. */
bool hires_notes(char **notes, const generate_options *o, const model *m, error *e);
bool hires_check(const generate_options *o, const model *m, error *e);
/* The second pass's options but for its latents, and its mix (NULL: none), which mix_close frees.
 */
bool hires_second(generate_options *out, mix *turns, const mix *m, const generate_options *o,
                  const model *first, error *e);
/* generator_run_together of options that have a second pass. */
bool hires_run(generator *const *models, int count, const mix *m, const generate_options *o,
               int pictures, generate_result *out, error *e);

#endif
