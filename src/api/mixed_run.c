/* SPDX-License-Identifier: Apache-2.0
 *
 * mixed_run: pictures by one model or several that take turns: what lk_generate, lk_generate_mixed
 * and lk_generate_many have in common. */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

#include "generate/parameters.h"

struct mixed_image {
    mixed *mixed;
    int k;
    lk_generate_options o;
    control *controls; /* of o; NULL: none */
    api_watch watch;
};

/* ---- opening ---- */

static generator *first_of(const mixed *t)
{
    return t->generators[t->schedule ? t->mix.step[0].model[0] : 0];
}

static const mix *mix_of(const mixed *t) { return t->schedule ? &t->mix : NULL; }

static bool open_generators(mixed *t, error *e)
{
    t->generators = calloc((size_t)t->count + 1, sizeof *t->generators);
    if (!t->generators)
        return error_memory(e, "a list of models", (size_t)t->count * sizeof *t->generators);
    for (int i = 0; i < t->count; i++)
        if (!(t->generators[i] = session_generator(t->session, t->model[i], e))) return false;
    return true;
}

static bool latents_fit(const mixed *t, const lk_generate_options *o, const generate_options *in,
                        error *e)
{
    const lk_latents *from = o->latents;
    int shape[3];
    generator_latents(first_of(t), in->width, in->height, shape);
    if (from && memcmp(from->shape, shape, sizeof shape) != 0)
        return error_set(e, ERROR_USAGE,
                         "the initial latents are [1, %d, %d, %d]; a picture of this size needs "
                         "[1, %d, %d, %d]",
                         from->shape[0], from->shape[1], from->shape[2], shape[0], shape[1],
                         shape[2]);
    size_t count = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2];
    return !o->from || o->from->state.numbers == count ||
           error_set(e, ERROR_USAGE, "the run to go on from made a picture of another size");
}

static bool open_images(mixed *t, error *e)
{
    size_t n = (size_t)t->pictures;
    t->picture = calloc(n, sizeof *t->picture);
    t->in = calloc(n, sizeof *t->in);
    if (!t->picture || !t->in) return error_memory(e, "pictures", n * sizeof *t->picture);
    for (int k = 0; k < t->pictures; k++) {
        struct mixed_image *p = &t->picture[k];
        p->mixed = t;
        p->k = k;
        if (!generate_options_take(&p->o, t->given[k], e)) return false;
        if (!api_options_all(&t->in[k], &p->controls, &p->o, e)) return false;
        if (!generate_strength_check(&t->in[k], e)) return false;
    }
    return true;
}

/* The sampler that the first model names, where no other is asked for. */
static bool choose_samplers(mixed *t, error *e)
{
    const model *first = generator_model(t->generators[t->schedule ? t->mix.step[0].model[0] : 0]);
    for (int k = 0; k < t->pictures; k++) {
        sampler_kind *kind = &t->in[k].sampler.kind;
        if (*kind == SAMPLER_MODEL && !sampler_of_model(kind, &first->scheduler, e)) return false;
    }
    return true;
}

static void choose_sizes(mixed *t)
{
    for (int k = 0; k < t->pictures; k++)
        generator_size_of(first_of(t), &t->in[k], &t->in[k].width, &t->in[k].height);
}

/* The session is ours from here to mixed_close. */
static bool mixed_open(mixed *t, error *e)
{
    t->entered = session_enter(t->session, e);
    if (!t->entered || !open_images(t, e)) return false;
    if (t->count < 1) return error_set(e, ERROR_USAGE, "a picture of %d models", t->count);
    if (t->schedule &&
        (!names_check(t->name, t->count, e) ||
         !mix_parse(&t->mix, t->schedule, t->name, t->count, generate_steps(&t->in[0]), e)))
        return false;
    bool ok = open_generators(t, e) && choose_samplers(t, e);
    if (ok) choose_sizes(t);
    for (int k = 0; ok && k < t->pictures; k++) ok = latents_fit(t, &t->picture[k].o, &t->in[k], e);
    return ok;
}

static void mixed_close(mixed *t)
{
    mix_close(&t->mix);
    free(t->generators);
    for (int k = 0; t->picture && k < t->pictures; k++) free(t->picture[k].controls);
    free(t->picture);
    free(t->in);
    if (t->entered) session_leave(t->session);
}

/* ---- what is told ---- */

static bool on_progress(void *user, int step, int steps)
{
    struct mixed_image *p = user;
    const mixed *t = p->mixed;
    return t->stepped ? t->stepped(t->user, p->k, step, steps)
                      : api_watch_tell(&p->watch, step, steps);
}

static void on_reached(void *user, const generate_snapshot *state)
{
    const struct mixed_image *p = user;
    lk_snapshot now = {*state};
    p->o.reached(p->o.user, &now);
}

static void on_preview(void *user, const image *picture)
{
    const struct mixed_image *p = user;
    lk_image now = {.image = *picture};
    p->o.preview(p->o.user, &now);
    free(now.settings);
}

static void listen(mixed *t)
{
    for (int k = 0; k < t->pictures; k++) {
        struct mixed_image *p = &t->picture[k];
        api_watch_start(&p->watch, p->o.progress, p->o.user, t->session);
        p->watch.picture = p->o.picture;
        p->watch.pictures = p->o.pictures;
        t->in[k].progress = on_progress;
        t->in[k].reached = p->o.reached ? on_reached : NULL;
        t->in[k].preview = p->o.preview && p->o.preview_steps > 0 ? on_preview : NULL;
        t->in[k].preview_steps = p->o.preview_steps;
        t->in[k].user = p;
    }
}

/* ---- the uses ---- */

bool mixed_check(mixed *t, char **notes, error *e)
{
    if (notes) *notes = NULL;
    bool ok = mixed_open(t, e) &&
              (t->schedule
                   ? generator_check_mixed(t->generators, t->count, &t->mix, t->in, notes, e)
                   : generator_check(t->generators[0], t->in, notes, e));
    mixed_close(t);
    return ok;
}

bool mixed_settings(char **text, mixed *t, error *e)
{
    *text = NULL;
    bool ok = mixed_open(t, e);
    if (ok) {
        image_job job = {t->generators, t->name, t->count, mix_of(t), t->in};
        image size = {.width = t->in[0].width, .height = t->in[0].height};
        ok = parameters_text(text, &job, &size, e);
    }
    mixed_close(t);
    return ok;
}

bool mixed_size(mixed *t, int *together, bool *small, error *e)
{
    bool ok = mixed_open(t, e);
    if (ok) {
        *together = generator_together(t->generators, t->count, mix_of(t), t->in);
        *small = generator_is_small(t->generators, t->count, mix_of(t), t->in);
    }
    mixed_close(t);
    return ok;
}

static bool keep(lk_image **out, const mixed *t, int k, generate_result *made, error *e)
{
    const int shape[3] = {made->channels, made->height, made->width};
    const int begun[3] = {made->channels, made->begun_height, made->begun_width};
    image_job job = {t->generators, t->name, t->count, mix_of(t), &t->in[k]};
    lk_image *p = *out = calloc(1, sizeof *p);
    if (!p) return error_memory(e, "a picture", sizeof *p);
    p->image = made->picture;
    p->initial.data = made->initial;
    p->final.data = made->final;
    *made = (generate_result){0};
    memcpy(p->initial.shape, begun, sizeof begun);
    memcpy(p->final.shape, shape, sizeof shape);
    return parameters_text(&p->settings, &job, &p->image, e);
}

static bool run(lk_image **out, mixed *t, error *e)
{
    generate_result *made = calloc((size_t)t->pictures, sizeof *made);
    if (!made) return error_memory(e, "pictures", (size_t)t->pictures * sizeof *made);
    listen(t);
    bool ok = generator_run_together(t->generators, t->count, mix_of(t), t->in, t->pictures, made,
                                     e);
    for (int k = 0; ok && k < t->pictures; k++) ok = keep(&out[k], t, k, &made[k], e);
    for (int k = 0; k < t->pictures; k++) generate_result_free(&made[k]);
    free(made);
    return ok;
}

bool mixed_run(lk_image **out, mixed *t, error *e)
{
    for (int k = 0; k < t->pictures; k++) out[k] = NULL;
    bool ok = mixed_open(t, e) && run(out, t, e);
    mixed_close(t);
    for (int k = 0; !ok && k < t->pictures; k++) lk_image_close(&out[k]);
    return ok;
}
