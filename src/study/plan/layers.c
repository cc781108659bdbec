/* SPDX-License-Identifier: Apache-2.0
 *
 * layers: one layer, read from an object, laid over another. */
#include "layers.h"

#include <stdio.h>
#include <string.h>

#define PART(member) offsetof(study_cell, member), sizeof(((study_cell *)0)->member)

/* A model alone is a schedule too: both fill the same slot. */
const setting_name layer_keys[KEYS] = {
    [KEY_PROMPT] = {"prompt", PART(prompt), KEY_PROMPT},
    [KEY_NEGATIVE] = {"negative", PART(negative), KEY_NEGATIVE},
    [KEY_SEED] = {"seed", PART(seed), KEY_SEED},
    [KEY_SAMPLER] = {"sampler", PART(sampler), KEY_SAMPLER},
    [KEY_SIGMAS] = {"sigmas", PART(sigmas), KEY_SIGMAS},
    [KEY_STEPS] = {"steps", PART(steps), KEY_STEPS},
    [KEY_GUIDANCE] = {"guidance", PART(guidance), KEY_GUIDANCE},
    [KEY_RESCALE] = {"guidance_rescale", PART(guidance_rescale), KEY_RESCALE},
    [KEY_ETA] = {"eta", PART(eta), KEY_ETA},
    [KEY_VARIANCE] = {"variance", PART(variance), KEY_VARIANCE},
    [KEY_SPACING] = {"spacing", PART(spacing), KEY_SPACING},
    [KEY_WIDTH] = {"width", PART(width), KEY_WIDTH},
    [KEY_HEIGHT] = {"height", PART(height), KEY_HEIGHT},
    [KEY_CLIP_SKIP] = {"clip_skip", PART(clip_skip), KEY_CLIP_SKIP},
    [KEY_DEEP_CACHE] = {"deep_cache", PART(deep_cache), KEY_DEEP_CACHE},
    [KEY_PROMPT_SYNTAX] = {"prompt_syntax", PART(prompt_syntax), KEY_PROMPT_SYNTAX},
    [KEY_RNG] = {"rng", PART(rng), KEY_RNG},
    [KEY_INIT_IMAGE] = {"init_image", PART(init), KEY_INIT_IMAGE},
    [KEY_STRENGTH] = {"strength", PART(strength), KEY_STRENGTH},
    [KEY_MASK] = {"mask", PART(mask), KEY_MASK},
    [KEY_HIRES] = {"hires", PART(hires), KEY_HIRES},
    [KEY_HIRES_STEPS] = {"hires_steps", PART(hires_steps), KEY_HIRES_STEPS},
    [KEY_HIRES_STRENGTH] = {"hires_strength", PART(hires_strength), KEY_HIRES_STRENGTH},
    [KEY_HIRES_UPSCALER] = {"hires_upscaler", PART(hires_upscaler), KEY_HIRES_UPSCALER},
    [KEY_TILE] = {"tile", PART(tile), KEY_TILE},
    [KEY_CONTROL] = {"control", PART(control), KEY_CONTROL},
    [KEY_MODEL] = {"model", PART(schedule), KEY_SCHEDULE},
    [KEY_SCHEDULE] = {"schedule", PART(schedule), KEY_SCHEDULE},
};

bool layer_has(const layer *l, setting_key slot) { return l->given >> slot & 1u; }

/* A sampler, and its sigmas where the name says them. */
static bool read_sampler(plan_reader *r, const char *word, study_cell *c)
{
    lk_generate_options o;
    lk_error why = {0};
    lk_generate_defaults(&o);
    if (!lk_sampler_choose(&o, word, &why)) return plan_wrong(r, "\"sampler\": %.400s", why.text);
    c->sampler = o.sampler;
    c->sigmas = o.sigmas;
    return true;
}

static bool read_sigmas(plan_reader *r, json_t *object, study_cell *c)
{
    lk_error why = {0};
    if (!plan_read_text(r, object, "sigmas", true, NULL, &c->sigmas)) return false;
    if (!lk_sigmas_check(c->sigmas, NULL, &why)) return plan_wrong(r, "%.400s", why.text);
    const char *name = lk_sigmas_name(c->sigmas);
    if (name) c->sigmas = name;
    return true;
}

/* A word out of a few. */
static bool read_word(plan_reader *r, fields *f, setting_key k, study_cell *c)
{
    const char *word = field_text(f, layer_keys[k].name, ""), *list;
    bool ok;
    if (!f->ok) return false;
    if (k == KEY_SAMPLER) return read_sampler(r, word, c);
    if (k == KEY_VARIANCE) {
        ok = lk_variance_parse(&c->variance, word);
        list =
            "fixed_small, fixed_small_log, fixed_large, fixed_large_log, learned or learned_range";
    } else if (k == KEY_PROMPT_SYNTAX) {
        ok = lk_prompt_syntax_parse(&c->prompt_syntax, word);
        list = "plain or a1111";
    } else if (k == KEY_RNG) {
        ok = lk_rng_parse(&c->rng, word);
        list = "cpu, cuda or a1111 (also called nv or gpu)";
    } else {
        ok = lk_spacing_parse(&c->spacing, word);
        list = "leading, trailing or linspace";
    }
    return ok ||
           plan_wrong(r, "\"%s\" is \"%.60s\"; it should be %s", layer_keys[k].name, word, list);
}

/* 1 is none, as no key is. */
static bool read_deep_cache(fields *f, study_cell *c)
{
    c->deep_cache = field_int(f, "deep_cache", 0, 1, MAX_STEPS);
    if (c->deep_cache == 1) c->deep_cache = 0;
    return f->ok;
}

/* One setting of an object, which has it. */
static bool read_setting(plan_reader *r, json_t *object, setting_key k, study_cell *c)
{
    fields f = {object, r->where, r->e, true};
    const char *name = layer_keys[k].name;
    switch (k) {
    case KEY_PROMPT: return plan_read_text(r, object, name, false, "", &c->prompt);
    case KEY_NEGATIVE: return plan_read_text(r, object, name, false, "", &c->negative);
    case KEY_SEED: return plan_read_seed(r, json_object_get(object, name), &c->seed);
    case KEY_STEPS: c->steps = field_int(&f, name, 0, 1, MAX_STEPS); return f.ok;
    case KEY_GUIDANCE: return plan_read_share(r, &f, name, 1e6, &c->guidance);
    case KEY_RESCALE: return plan_read_share(r, &f, name, 1, &c->guidance_rescale);
    case KEY_ETA: return plan_read_share(r, &f, name, 1, &c->eta);
    case KEY_WIDTH: c->width = field_int(&f, name, 0, 1, MAX_SIZE); return f.ok;
    case KEY_HEIGHT: c->height = field_int(&f, name, 0, 1, MAX_SIZE); return f.ok;
    case KEY_CLIP_SKIP: c->clip_skip = field_int(&f, name, 0, 0, 1000); return f.ok;
    case KEY_CONTROL: return plan_read_controls(r, object, c);
    case KEY_TILE: c->tile = field_bool(&f, name, false); return f.ok;
    case KEY_DEEP_CACHE: return read_deep_cache(&f, c);
    case KEY_MODEL:
        if (!plan_read_text(r, object, name, true, NULL, &c->schedule)) return false;
        return plan_find_model(r->plan, c->schedule) >= 0 ||
               plan_unknown_model(r, name, c->schedule);
    case KEY_INIT_IMAGE:
    case KEY_STRENGTH:
    case KEY_MASK:
    case KEY_HIRES:
    case KEY_HIRES_STEPS:
    case KEY_HIRES_STRENGTH:
    case KEY_HIRES_UPSCALER: return plan_read_pass(r, object, k, c);
    case KEY_SIGMAS: return read_sigmas(r, object, c);
    case KEY_SCHEDULE: return plan_read_text(r, object, name, true, NULL, &c->schedule);
    default: return read_word(r, &f, k, c);
    }
}

bool layer_read(plan_reader *r, json_t *object, bool labelled, layer *out)
{
    const char *known[KEYS + 2] = {0};
    int count = 0;
    if (labelled) known[count++] = "label";
    for (int k = 0; k < KEYS; k++) known[count++] = layer_keys[k].name;
    *out = (layer){0};
    if (!plan_keys_known(r, object, known)) return false;
    for (int k = 0; k < KEYS; k++) {
        const json_t *value = json_object_get(object, layer_keys[k].name);
        if (!value || json_is_null(value)) continue;
        if (k != KEY_SIGMAS && layer_has(out, layer_keys[k].slot))
            return plan_wrong(r, "gives both \"model\" and \"schedule\"; leave one out");
        if (!read_setting(r, object, (setting_key)k, &out->value)) return false;
        out->given |= 1u << layer_keys[k].slot;
        if (k == KEY_SAMPLER && out->value.sigmas) out->given |= 1u << KEY_SIGMAS;
    }
    out->meant = out->given & (1u << KEY_SIGMAS | 1u << KEY_ETA | 1u << KEY_VARIANCE);
    return true;
}

void layer_lay(layer *below, const layer *above)
{
    for (int k = 0; k < KEYS; k++)
        if (layer_keys[k].slot == (setting_key)k && layer_has(above, (setting_key)k))
            memcpy((char *)&below->value + layer_keys[k].at,
                   (const char *)&above->value + layer_keys[k].at, layer_keys[k].size);
    below->meant = (layer_has(above, KEY_SAMPLER) ? 0 : below->meant) | above->meant;
    below->given |= above->given;
}

bool layer_equal(const layer *a, const layer *b, setting_key k)
{
    const char *x = (const char *)&a->value + layer_keys[k].at,
               *y = (const char *)&b->value + layer_keys[k].at;
    if (k != KEY_PROMPT && k != KEY_NEGATIVE && k != KEY_SIGMAS && k != KEY_SCHEDULE)
        return !memcmp(x, y, layer_keys[k].size);
    const char *s, *t;
    memcpy(&s, x, sizeof s);
    memcpy(&t, y, sizeof t);
    return strcmp(s, t) == 0;
}
