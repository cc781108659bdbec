/* SPDX-License-Identifier: Apache-2.0
 *
 * generate: lk_generate and what it can tell before it. */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "generate/parameters.h"

_Static_assert((int)LK_DDPM == (int)SAMPLER_DDPM, "samplers are the same");
_Static_assert((int)LK_VARIANCE_LEARNED_RANGE == (int)VARIANCE_LEARNED_RANGE + 1,
               "the model's is first");
_Static_assert((int)LK_SPACING_LINSPACE == (int)SPACING_LINSPACE + 1, "the model's is first");

bool lk_sampler_parse(lk_sampler *out, const char *name)
{
    sampler_kind kind;
    if (!sampler_kind_parse(&kind, name)) return false;
    *out = (lk_sampler)kind;
    return true;
}

bool lk_variance_parse(lk_variance *out, const char *name)
{
    variance found;
    if (!variance_parse(&found, name)) return false;
    *out = (lk_variance)((int)found + 1);
    return true;
}

bool lk_spacing_parse(lk_spacing *out, const char *name)
{
    spacing found;
    if (!spacing_parse(&found, name)) return false;
    *out = (lk_spacing)((int)found + 1);
    return true;
}

const char *lk_sampler_name(lk_sampler s) { return sampler_kind_name((sampler_kind)s); }

void lk_generate_defaults(lk_generate_options *o)
{
    memset(o, 0, sizeof *o);
    o->steps = 50;
    o->guidance = 7.5f;
    o->picture = o->pictures = 1;
}

/* What the callback below needs to know. */
typedef struct watch {
    const lk_generate_options *o;
    double start;
} watch;

static bool on_progress(void *user, int step, int steps)
{
    watch *w = user;
    if (step == 0) w->start = clock_seconds();
    lk_progress p = {w->o->picture, w->o->pictures, step, steps, clock_seconds() - w->start};
    return w->o->progress(w->o->user, &p) != 0;
}

generate_options api_options_in(const lk_generate_options *o)
{
    return (generate_options){
        .prompt = o->prompt, .negative = o->negative, .seed = o->seed, .width = o->width,
        .height = o->height, .guidance = o->guidance, .guidance_rescale = o->guidance_rescale,
        .clip_skip = o->clip_skip, .latents = o->latents ? o->latents->data : NULL,
        .sampler = {
            .kind = (sampler_kind)o->sampler, .steps = o->steps, .eta = o->eta,
            .has_variance = o->variance != LK_VARIANCE_MODEL,
            .variance = o->variance ? (variance)((int)o->variance - 1) : VARIANCE_FIXED_SMALL,
            .has_spacing = o->spacing != LK_SPACING_MODEL,
            .spacing = o->spacing ? (spacing)((int)o->spacing - 1) : SPACING_LEADING,
        },
    };
}

bool api_latents_fit(const lk_model *m, const lk_generate_options *o, error *e)
{
    int shape[3];
    if (!o->latents) return true;
    generator_latents(m->generator, o->width, o->height, shape);
    const int *have = o->latents->shape;
    return memcmp(have, shape, sizeof shape) == 0 ||
           error_set(e, ERROR_USAGE,
                     "the initial latents are [1, %d, %d, %d]; a picture of this size needs "
                     "[1, %d, %d, %d]",
                     have[0], have[1], have[2], shape[0], shape[1], shape[2]);
}

bool lk_generate_check(lk_model *m, const lk_generate_options *o, char **notes, lk_error *caller)
{
    error e = {0};
    generate_options options = api_options_in(o);
    if (notes) *notes = NULL;
    return api_report(api_latents_fit(m, o, &e) && generator_check(m->generator, &options, notes, &e), &e,
                  caller);
}

lk_model *turns_first(const turns *t)
{
    return t->model[t->mix ? t->mix->step[0].model[0] : 0];
}

generator **turns_generators(const turns *t, error *e)
{
    generator **out = calloc((size_t)t->count + 1, sizeof *out);
    if (!out) error_memory(e, "a list of models", (size_t)t->count * sizeof *out);
    for (int i = 0; out && i < t->count; i++) out[i] = t->model[i]->generator;
    return out;
}

bool turns_run(lk_picture **out, const turns *t, const lk_generate_options *o, error *e)
{
    watch w = {.o = o};
    generate_options options = api_options_in(o);
    generator **generators = turns_generators(t, e);
    if (o->progress) {
        options.progress = on_progress;
        options.user = &w;
    }
    *out = calloc(1, sizeof **out);
    bool ok = generators && (*out || error_memory(e, "a picture", sizeof **out)) &&
              api_latents_fit(turns_first(t), o, e) &&
              generator_run_mixed(generators, t->count, t->mix, &options, &(*out)->latents, e);
    if (ok) {
        (*out)->image = (*out)->latents.picture;
        (*out)->latents.picture = (image){0};
    }
    picture_job job = {generators, t->name, t->count, t->mix, &options};
    ok = ok && parameters_text(&(*out)->settings, &job, &(*out)->image, e);
    free(generators);
    if (!ok) lk_picture_close(out);
    return ok;
}

bool turns_settings(char **text, const turns *t, const lk_generate_options *o, error *e)
{
    int width, height, multiple;
    generate_options options = api_options_in(o);
    generator **generators = turns_generators(t, e);
    picture_job job = {generators, t->name, t->count, t->mix, &options};
    generator_size(turns_first(t)->generator, &width, &height, &multiple);
    image size = {.width = o->width ? o->width : width, .height = o->height ? o->height : height};
    bool ok =
        generators && api_latents_fit(turns_first(t), o, e) && parameters_text(text, &job, &size, e);
    free(generators);
    return ok;
}

bool lk_generate_settings(char **text, lk_model *m, const lk_generate_options *o, lk_error *caller)
{
    error e = {0};
    turns t = {.model = &m, .count = 1};
    *text = NULL;
    return api_report(turns_settings(text, &t, o, &e), &e, caller);
}

bool lk_generate(lk_picture **out, lk_model *m, const lk_generate_options *o, lk_error *caller)
{
    error e = {0};
    turns t = {.model = &m, .count = 1};
    return api_report(turns_run(out, &t, o, &e), &e, caller);
}
