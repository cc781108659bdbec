/* SPDX-License-Identifier: Apache-2.0
 *
 * hires: see hires.h. */
#include "generate/hires.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"
#include "generate/prompts/prompt.h"
#include "generate/samplers/sigma_text.h"
#include "pipeline/fit.h"

static const double MOST_STRENGTH = 0.999, MOST = 16;

int hires_steps(const generate_options *o)
{
    if (!(o->hires > 0)) return 0;
    return o->hires_steps ? o->hires_steps : o->sampler.steps;
}

/* int(width * scale) // 8 latents, as AUTOMATIC1111 cuts it. */
static int grown(int side, double scale, int multiple)
{
    int whole = (int)(side * scale);
    return whole - whole % multiple;
}

static bool check_list(const generate_options *o, error *e)
{
    const char *sigmas = o->sampler.sigmas;
    return !sigmas || sigmas_name(sigmas) ||
           error_set(e, ERROR_USAGE,
                     "a list of sigmas is for one pass, and --hires makes two; give --sigmas a "
                     "name");
}

bool hires_check(const generate_options *o, const model *m, error *e)
{
    latent_upscaler how;
    if (o->hires == 0) return true;
    if (!fit_conditional(m))
        return error_set(e, ERROR_USAGE,
                         "%s is an unconditional model: it has no latents that --hires could "
                         "enlarge",
                         m->path);
    if (!(o->hires > 1 && o->hires <= MOST))
        return error_set(e, ERROR_USAGE, "hires is %s; give a number above 1, and at most %s",
                         number_exact(o->hires).text, number_exact(MOST).text);
    if (o->init)
        return error_set(e, ERROR_USAGE,
                         "--hires is for pictures from text; with --init-image give the larger "
                         "size with -W and -H");
    if (!(o->hires_strength > 0 && o->hires_strength <= 1))
        return error_set(e, ERROR_USAGE, "hires strength is %s; give a number above 0, up to 1",
                         number_exact(o->hires_strength).text);
    if (o->hires_steps < 0)
        return error_set(e, ERROR_USAGE,
                         "hires steps is %d; give 1 or more, or 0: as many as steps",
                         o->hires_steps);
    double all = floor(hires_steps(o) / fmin(o->hires_strength, MOST_STRENGTH));
    if (all > m->scheduler.train_steps)
        return error_set(
            e, ERROR_USAGE,
            "%d hires steps at hires strength %s are the last of %s, but the model was "
            "trained with %d timesteps; give fewer, or a greater strength",
            hires_steps(o), number_exact(o->hires_strength).text, number_rounded(all, 10).text,
            m->scheduler.train_steps);
    return upscaler_parse(&how, o->hires_upscaler, e) && check_list(o, e);
}

bool hires_size(int size[2], const generate_options *o, const model *m)
{
    int own[2], multiple;
    fit_size(m, &own[0], &own[1], &multiple);
    const int first[] = {o->width ? o->width : own[0], o->height ? o->height : own[1]};
    for (int i = 0; i < 2; i++) size[i] = grown(first[i], o->hires, multiple);
    return size[0] != (int)(first[0] * o->hires) || size[1] != (int)(first[1] * o->hires);
}

bool hires_notes(char **notes, const generate_options *o, const model *m, error *e)
{
    int size[2];
    if (!hires_size(size, o, m)) return true;
    return prompt_note_line(notes,
                            string_format("hires %s makes this %dx%d: as much as is whole latents",
                                          number_exact(o->hires).text, size[0], size[1]),
                            e);
}

bool hires_second(generate_options *out, mix *turns, const mix *m, const generate_options *o,
                  const model *first, error *e)
{
    int size[2], made = hires_steps(o);
    *turns = (mix){0};
    if (!hires_check(o, first, e)) return false;
    hires_size(size, o, first);
    *out = *o;
    out->hires = 0;
    out->width = size[0];
    out->height = size[1];
    /* so many that the share of them is what is made: setup_img2img_steps */
    out->sampler.steps = (int)(made / fmin(o->hires_strength, MOST_STRENGTH));
    out->last_steps = made;
    out->first_steps = o->sampler.steps;
    out->latents = NULL;
    out->from = NULL;
    out->reached = NULL;
    if (!m) return true;
    turns->step = malloc((size_t)made * sizeof *turns->step);
    if (!turns->step) return error_memory(e, "a schedule", (size_t)made * sizeof *turns->step);
    for (; turns->count < made; turns->count++) turns->step[turns->count] = m->step[m->count - 1];
    return true;
}

/* ---- both passes ---- */

/* One picture's. */
typedef struct both {
    const generate_options *o;
    int before, all;
    float *latents; /* of the second pass */
} both;

static bool tell(void *user, int step, int steps)
{
    const both *b = user;
    (void)steps;
    return b->o->progress(b->o->user, b->before + step, b->all);
}

static void tell_reached(void *user, const generate_snapshot *state)
{
    const both *b = user;
    b->o->reached(b->o->user, state);
}

static void tell_preview(void *user, const image *picture)
{
    const both *b = user;
    b->o->preview(b->o->user, picture);
}

static void listen(generate_options *pass, both *b)
{
    if (pass->progress) pass->progress = tell;
    if (pass->reached) pass->reached = tell_reached;
    if (pass->preview) pass->preview = tell_preview;
    pass->user = b;
}

static bool grow(both *b, const generate_result *r, const generate_options *second, const model *m,
                 error *e)
{
    int shape[3];
    latent_upscaler how;
    upscaler_parse(&how, b->o->hires_upscaler, NULL);
    fit_latents(m, second->width, second->height, shape);
    size_t bytes = sizeof(float) * (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2];
    b->latents = malloc(bytes);
    return (b->latents || error_memory(e, "latents", bytes)) &&
           upscale(b->latents, r->final, r->channels, r->height, r->width, shape[1], shape[2], how,
                   e);
}

/* The first pass's noise is what the picture began with. */
static void keep_beginning(generate_result *out, generate_result *first)
{
    free(out->initial);
    out->initial = first->initial;
    out->begun_height = first->height;
    out->begun_width = first->width;
    first->initial = NULL;
}

static bool run(generator *const *models, int count, const mix *m, generate_options *pass, both *b,
                int pictures, generate_result *first, generate_result *out, error *e)
{
    mix turns = {0};
    const model *opened = generator_model(models[m ? m->step[0].model[0] : 0]);
    for (int k = 0; k < pictures; k++) {
        b[k].all = generate_steps(b[k].o) + hires_steps(b[k].o);
        pass[k] = *b[k].o;
        pass[k].hires = 0;
        pass[k].undecoded = true;
        listen(&pass[k], &b[k]);
    }
    if (!generator_run_together(models, count, m, pass, pictures, first, e)) return false;
    bool ok = true;
    for (int k = 0; ok && k < pictures; k++) {
        mix_close(&turns);
        ok = hires_second(&pass[k], &turns, m, b[k].o, opened, e) &&
             grow(&b[k], &first[k], &pass[k], opened, e);
        b[k].before = generate_steps(b[k].o);
        pass[k].clean = b[k].latents;
        listen(&pass[k], &b[k]);
    }
    ok = ok && generator_run_together(models, count, m ? &turns : NULL, pass, pictures, out, e);
    for (int k = 0; ok && k < pictures; k++) keep_beginning(&out[k], &first[k]);
    mix_close(&turns);
    return ok;
}

bool hires_run(generator *const *models, int count, const mix *m, const generate_options *o,
               int pictures, generate_result *out, error *e)
{
    size_t n = (size_t)pictures;
    both *b = calloc(n, sizeof *b);
    generate_options *pass = calloc(n, sizeof *pass);
    generate_result *first = calloc(n, sizeof *first);
    const model *opened = generator_model(models[m ? m->step[0].model[0] : 0]);
    memset(out, 0, n * sizeof *out);
    bool ok = (b && pass && first) || error_memory(e, "pictures", n * sizeof *pass);
    for (int k = 0; ok && k < pictures; k++) {
        b[k].o = &o[k];
        ok = hires_check(&o[k], opened, e);
    }
    ok = ok && run(models, count, m, pass, b, pictures, first, out, e);
    for (int k = 0; k < pictures; k++) {
        if (first) generate_result_free(&first[k]);
        if (b) free(b[k].latents);
    }
    free(b);
    free(pass);
    free(first);
    return ok;
}
