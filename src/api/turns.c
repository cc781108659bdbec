/* SPDX-License-Identifier: Apache-2.0
 *
 * turns: one picture by one model or several that take turns: what lk_generate and lk_generate_mixed have in
 * common. */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

#include "generate/parameters.h"

/* ---- opening ---- */

static generator *first_of(const turns *t)
{
    return t->generators[t->schedule ? t->mix.step[0].model[0] : 0];
}

static const mix *mix_of(const turns *t) { return t->schedule ? &t->mix : NULL; }

static bool open_generators(turns *t, error *e)
{
    t->generators = calloc((size_t)t->count + 1, sizeof *t->generators);
    if (!t->generators) return error_memory(e, "a list of models", (size_t)t->count * sizeof *t->generators);
    for (int i = 0; i < t->count; i++)
        if (!(t->generators[i] = session_generator(t->session, t->model[i], e))) return false;
    return true;
}

static bool latents_fit(const turns *t, error *e)
{
    const lk_latents *from = t->o.latents;
    int shape[3];
    generator_latents(first_of(t), t->o.width, t->o.height, shape);
    if (from && memcmp(from->shape, shape, sizeof shape) != 0)
        return error_set(e, ERROR_USAGE,
                         "the initial latents are [1, %d, %d, %d]; a picture of this size needs "
                         "[1, %d, %d, %d]",
                         from->shape[0], from->shape[1], from->shape[2], shape[0], shape[1], shape[2]);
    size_t count = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2];
    return !t->o.from || t->o.from->state.numbers == count ||
           error_set(e, ERROR_USAGE, "the run to go on from made a picture of another size");
}

/* The session is ours from here to turns_close. */
static bool turns_open(turns *t, error *e)
{
    t->entered = session_enter(t->session, e);
    if (!t->entered || !generate_options_take(&t->o, t->given, e)) return false;
    if (t->count < 1) return error_set(e, ERROR_USAGE, "a picture of %d models", t->count);
    if (t->schedule && (!names_check(t->name, t->count, e) ||
                        !mix_parse(&t->mix, t->schedule, t->name, t->count, t->o.steps, e)))
        return false;
    if (!open_generators(t, e) || !latents_fit(t, e)) return false;
    t->in = api_options_in(&t->o);
    t->in.from = t->o.from ? &t->o.from->state : NULL;
    return true;
}

static void turns_close(turns *t)
{
    mix_close(&t->mix);
    free(t->generators);
    if (t->entered) session_leave(t->session);
}

/* ---- what is told ---- */

static bool on_progress(void *user, int step, int steps)
{
    turns *t = user;
    return api_watch_tell(&t->watch, step, steps);
}

static void on_reached(void *user, const generate_snapshot *state)
{
    const turns *t = user;
    lk_snapshot now = {*state};
    t->o.reached(t->o.user, &now);
}

/* ---- the three uses ---- */

bool turns_check(turns *t, char **notes, error *e)
{
    if (notes) *notes = NULL;
    bool ok = turns_open(t, e) &&
              (t->schedule ? generator_check_mixed(t->generators, t->count, &t->mix, &t->in, notes, e)
                           : generator_check(t->generators[0], &t->in, notes, e));
    turns_close(t);
    return ok;
}

bool turns_settings(char **text, turns *t, error *e)
{
    *text = NULL;
    bool ok = turns_open(t, e);
    if (ok) {
        int width, height, multiple;
        picture_job job = {t->generators, t->name, t->count, mix_of(t), &t->in};
        generator_size(first_of(t), &width, &height, &multiple);
        image size = {.width = t->o.width ? t->o.width : width, .height = t->o.height ? t->o.height : height};
        ok = parameters_text(text, &job, &size, e);
    }
    turns_close(t);
    return ok;
}

static bool run(lk_picture *out, turns *t, error *e)
{
    generate_result made;
    api_watch_start(&t->watch, t->o.progress, t->o.user, t->session);
    t->watch.picture = t->o.picture;
    t->watch.pictures = t->o.pictures;
    t->in.progress = on_progress;
    t->in.reached = t->o.reached ? on_reached : NULL;
    t->in.user = t;
    if (!generator_run_mixed(t->generators, t->count, mix_of(t), &t->in, &made, e)) return false;
    const int shape[3] = {made.channels, made.height, made.width};
    picture_job job = {t->generators, t->name, t->count, mix_of(t), &t->in};
    out->image = made.picture;
    out->initial.data = made.initial;
    out->final.data = made.final;
    memcpy(out->initial.shape, shape, sizeof shape);
    memcpy(out->final.shape, shape, sizeof shape);
    return parameters_text(&out->settings, &job, &out->image, e);
}

bool turns_run(lk_picture **out, turns *t, error *e)
{
    *out = calloc(1, sizeof **out);
    bool ok = (*out || error_memory(e, "a picture", sizeof **out)) && turns_open(t, e) && run(*out, t, e);
    if (*out) turns_close(t);
    if (!ok) lk_picture_close(out);
    return ok;
}
