/* SPDX-License-Identifier: Apache-2.0
 *
 * generate: lk_generate and what it can tell before it. */
#include "api/api.h"

#include <strings.h>

#include <stddef.h>

#include "generate/hires.h"
#include "generate/samplers/sigma_text.h"

_Static_assert((int)LK_DDPM == (int)SAMPLER_DDPM, "samplers are the same");
_Static_assert((int)LK_SAMPLER_MODEL == (int)SAMPLER_MODEL, "samplers are the same");
_Static_assert((int)LK_VARIANCE_LEARNED_RANGE == (int)VARIANCE_LEARNED_RANGE + 1,
               "the model's is first");
_Static_assert((int)LK_PROMPT_A1111 == (int)PROMPT_A1111, "syntaxes are the same");
_Static_assert((int)LK_SPACING_LINSPACE == (int)SPACING_LINSPACE + 1, "the model's is first");

bool lk_sampler_parse(lk_sampler *out, const char *name) { return sampler_kind_parse(out, name); }

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

int lk_sampler_count(void) { return sampler_kind_count(); }

bool lk_sampler_draws(lk_sampler s, float eta)
{
    return sampler_kind_known(s) && sampler_kind_draws(s, eta);
}

bool lk_sampler_has_eta(lk_sampler s) { return sampler_kind_known(s) && sampler_kind_has_eta(s); }

bool lk_sampler_has_sigmas(lk_sampler s)
{
    return sampler_kind_known(s) && sampler_kind_has_sigmas(s);
}

int lk_sampler_evaluations(lk_sampler s)
{
    return sampler_kind_known(s) ? sampler_kind_evaluations(s) : 0;
}

bool lk_sigmas_check(const char *sigmas, int *steps, lk_error *caller)
{
    error e = {0};
    sigma_kind kind;
    int own;
    return api_report(sigmas_read(sigmas, &kind, steps ? steps : &own, &e), &e, caller);
}

const char *lk_sigmas_name(const char *sigmas) { return sigmas_name(sigmas); }
const char *lk_sigmas_label(const char *sigmas) { return sigmas_label(sigmas); }

const char *lk_upscaler_name(const char *name, lk_error *caller)
{
    error e = {0};
    latent_upscaler how;
    return api_report(upscaler_parse(&how, name, &e), &e, caller) ? upscaler_name(how) : NULL;
}

bool lk_sampler_choose(lk_generate_options *o, const char *name, lk_error *caller)
{
    error e = {0};
    sampler_options s = {.kind = SAMPLER_MODEL};
    const char *nearest = NULL;
    bool ok = sampler_choose(&s, name);
    if (!ok) nearest = sampler_nearest(name);
    if (!ok)
        error_set(&e, ERROR_USAGE, "there is no sampler \"%.60s\"%s%s%s %s", name,
                  nearest ? "; did you mean " : "", nearest ? nearest : "",
                  nearest ? "? There are" : "; there are", sampler_kind_choices().text);
    if (ok) o->sampler = s.kind;
    if (s.sigmas && o->size >= offsetof(lk_generate_options, sigmas) + sizeof o->sigmas)
        o->sigmas = s.sigmas;
    return api_report(ok, &e, caller);
}

bool lk_sampler_has_variance(lk_sampler s)
{
    return sampler_kind_known(s) && sampler_kind_has_variance(s);
}

const char *lk_sampler_label(lk_sampler s)
{
    return sampler_kind_known(s) ? sampler_kind_label(s) : NULL;
}

const char *lk_sampler_name(lk_sampler s)
{
    return sampler_kind_known(s) ? sampler_kind_name(s) : NULL;
}

const char *lk_variance_name(lk_variance v)
{
    return v > LK_VARIANCE_MODEL && v <= LK_VARIANCE_LEARNED_RANGE
               ? variance_name((variance)((int)v - 1))
               : NULL;
}

const char *lk_spacing_name(lk_spacing s)
{
    return s > LK_SPACING_MODEL && s <= LK_SPACING_LINSPACE ? spacing_name((spacing)((int)s - 1))
                                                            : NULL;
}

bool lk_prompt_syntax_parse(lk_prompt_syntax *out, const char *name)
{
    prompt_syntax found;
    if (!prompt_syntax_parse(&found, name)) return false;
    *out = (lk_prompt_syntax)found;
    return true;
}

const char *lk_prompt_syntax_name(lk_prompt_syntax s)
{
    return prompt_syntax_name((prompt_syntax)s);
}

static const struct {
    const char *name;
    lk_rng rng;
} rngs[] = {{"cpu", LK_RNG_CPU},
            {"cuda", LK_RNG_CUDA},
            {"a1111", LK_RNG_A1111},
            {"nv", LK_RNG_A1111},
            {"gpu", LK_RNG_A1111}};

bool lk_rng_parse(lk_rng *out, const char *name)
{
    for (size_t i = 0; i < sizeof rngs / sizeof *rngs; i++)
        if (!strcasecmp(name, rngs[i].name)) {
            *out = rngs[i].rng;
            return true;
        }
    return false;
}

const char *lk_rng_name(lk_rng r)
{
    return r >= LK_RNG_CPU && r <= LK_RNG_A1111 ? rngs[r].name : NULL;
}

static const lk_generate_options generate_defaults = {.size = sizeof(lk_generate_options),
                                                      .sampler = LK_SAMPLER_MODEL,
                                                      .steps = 50,
                                                      .guidance = 7.5f,
                                                      .picture = 1,
                                                      .strength = 0.8,
                                                      .hires_strength = 0.7,
                                                      .pictures = 1};

void lk_generate_defaults_sized(lk_generate_options *o, size_t size)
{
    options_give(o, size, &generate_defaults, sizeof generate_defaults);
}

bool generate_options_take(lk_generate_options *own, const lk_generate_options *given, error *e)
{
    *own = generate_defaults;
    return api_options(own, sizeof *own, given, "lk_generate_options", e) &&
           (own->sampler == LK_SAMPLER_MODEL || lk_sampler_name(own->sampler) ||
            error_set(e, ERROR_USAGE, "sampler %d: there is none of this number",
                      (int)own->sampler)) &&
           ((own->variance >= LK_VARIANCE_MODEL && own->variance <= LK_VARIANCE_LEARNED_RANGE) ||
            error_set(e, ERROR_USAGE, "variance %d: there is none of this number",
                      (int)own->variance)) &&
           (lk_prompt_syntax_name(own->prompt_syntax) ||
            error_set(e, ERROR_USAGE, "prompt syntax %d: there is none of this number",
                      (int)own->prompt_syntax)) &&
           ((own->rng >= LK_RNG_CPU && own->rng <= LK_RNG_A1111) ||
            error_set(e, ERROR_USAGE, "rng %d: there is none of this number", (int)own->rng)) &&
           ((own->spacing >= LK_SPACING_MODEL && own->spacing <= LK_SPACING_LINSPACE) ||
            error_set(e, ERROR_USAGE, "spacing %d: there is none of this number",
                      (int)own->spacing));
}

generate_options api_options_in(const lk_generate_options *o)
{
    return (generate_options){
        .prompt = o->prompt,
        .negative = o->negative,
        .seed = o->seed,
        .width = o->width,
        .height = o->height,
        .guidance = o->guidance,
        .guidance_rescale = o->guidance_rescale,
        .clip_skip = o->clip_skip,
        .deep_cache = o->deep_cache == 1 ? 0 : o->deep_cache,
        .syntax = (prompt_syntax)o->prompt_syntax,
        .noise = (noise_source)o->rng,
        .noise_delta = o->noise_seed_delta,
        .latents = o->latents ? o->latents->data : NULL,
        .init = o->init_image ? &o->init_image->image : NULL,
        .strength = o->strength,
        .tile = o->tile,
        .hires = o->hires,
        .hires_steps = o->hires_steps,
        .hires_strength = o->hires_strength,
        .hires_upscaler = o->hires_upscaler,
        .mask = o->mask ? &o->mask->image : NULL,
        .sampler =
            {
                .kind = o->sampler,
                .steps = o->steps,
                .eta = o->eta,
                .has_variance = o->variance != LK_VARIANCE_MODEL,
                .variance = o->variance ? (variance)((int)o->variance - 1) : VARIANCE_FIXED_SMALL,
                .has_spacing = o->spacing != LK_SPACING_MODEL,
                .spacing = o->spacing ? (spacing)((int)o->spacing - 1) : SPACING_LEADING,
                .sigmas = o->sigmas,
            },
    };
}

int lk_generate_steps(const lk_generate_options *given)
{
    lk_generate_options own;
    if (!generate_options_take(&own, given, NULL)) return 0;
    generate_options o = api_options_in(&own);
    return generate_steps(&o);
}

bool lk_generate_check(lk_session *s, lk_model *m, const lk_generate_options *o, char **notes,
                       lk_error *caller)
{
    return lk_generate_check_mixed(s, &m, NULL, 1, NULL, o, notes, caller);
}

bool lk_generate_settings(char **text, lk_session *s, lk_model *m, const lk_generate_options *o,
                          lk_error *caller)
{
    return lk_generate_settings_mixed(text, s, &m, NULL, 1, NULL, o, caller);
}

bool lk_generate(lk_image **out, lk_session *s, lk_model *m, const lk_generate_options *o,
                 lk_error *caller)
{
    return lk_generate_mixed(out, s, &m, NULL, 1, NULL, o, caller);
}

int lk_generate_sessions(lk_session *s, lk_model *m, const lk_generate_options *given)
{
    mixed t = {.session = s, .model = &m, .count = 1, .given = &given, .pictures = 1};
    int threads = lk_session_threads(s), together;
    bool small = false;
    return threads > 1 && mixed_size(&t, &together, &small, NULL) && small
               ? session_room(s, threads)
               : 1;
}
