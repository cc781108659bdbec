/* SPDX-License-Identifier: Apache-2.0
 *
 * axes: rows and columns: labelled settings, lists of values, switches, and products of them.
 */
#include "layers.h"

#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/seeds.h"

static bool axis_alloc(plan_reader *r, axis *out, size_t count)
{
    if (count > MAX_CELLS)
        return plan_wrong(r, "more than %d entries; make the study smaller or split it", MAX_CELLS);
    out->count = (int)count;
    out->label = arena_alloc(&r->plan->memory, (count + 1) * sizeof *out->label);
    out->entry = arena_alloc(&r->plan->memory, (count + 1) * sizeof *out->entry);
    out->levels = 1; /* until it has parts, its labels are those */
    out->part = out->label;
    return (out->label && out->entry) || plan_no_memory(r);
}

/* Room for the parts of labels that have several. */
static bool axis_levels(plan_reader *r, axis *out, int levels)
{
    out->levels = levels;
    out->part = arena_alloc(&r->plan->memory,
                            (size_t)levels * (size_t)(out->count + 1) * sizeof *out->part);
    return out->part || plan_no_memory(r);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* What a shorthand's entry is called. */
static bool name_entry(plan_reader *r, setting_key k, const study_cell *c, const char **out)
{
    arena *a = &r->plan->memory;
    switch (k) {
    case KEY_PROMPT: *out = arena_strdup(a, *c->prompt ? c->prompt : "no prompt"); break;
    case KEY_NEGATIVE:
        *out = arena_format(a, "negative: %s", *c->negative ? c->negative : "none");
        break;
    case KEY_SEED: *out = arena_format(a, "seed %llu", (unsigned long long)c->seed); break;
    case KEY_SAMPLER:
        *out = c->sigmas ? arena_format(a, "%s %s", lk_sampler_label(c->sampler),
                                        lk_sigmas_label(c->sigmas))
                         : lk_sampler_label(c->sampler);
        break;
    case KEY_SIGMAS:
        *out = lk_sigmas_label(c->sigmas);
        if (!*out) *out = arena_format(a, "sigmas %s", c->sigmas);
        break;
    case KEY_STEPS: *out = arena_format(a, "%d step%s", c->steps, c->steps == 1 ? "" : "s"); break;
    case KEY_GUIDANCE:
        *out = arena_format(a, "guidance %s", number_exact_float(c->guidance).text);
        break;
    case KEY_RESCALE:
        *out = arena_format(a, "guidance rescale %s", number_exact_float(c->guidance_rescale).text);
        break;
    case KEY_ETA: *out = arena_format(a, "eta %s", number_exact_float(c->eta).text); break;
    case KEY_VARIANCE: *out = lk_variance_name(c->variance); break;
    case KEY_SPACING: *out = lk_spacing_name(c->spacing); break;
    case KEY_WIDTH: *out = arena_format(a, "width %d", c->width); break;
    case KEY_HEIGHT: *out = arena_format(a, "height %d", c->height); break;
    case KEY_CLIP_SKIP: *out = arena_format(a, "clip skip %d", c->clip_skip); break;
    case KEY_DEEP_CACHE:
        *out = c->deep_cache ? arena_format(a, "deep cache %d", c->deep_cache) : "no deep cache";
        break;
    case KEY_PROMPT_SYNTAX:
        *out = arena_format(a, "prompts as %s", lk_prompt_syntax_name(c->prompt_syntax));
        break;
    case KEY_INIT_IMAGE: *out = base_name(c->init->path); break;
    case KEY_STRENGTH: *out = arena_format(a, "strength %s", number_exact(c->strength).text); break;
    case KEY_MASK: *out = arena_format(a, "mask %s", base_name(c->mask->path)); break;
    case KEY_HIRES:
        *out = c->hires ? arena_format(a, "hires %s", number_exact(c->hires).text) : "no hires";
        break;
    case KEY_HIRES_STEPS: *out = arena_format(a, "hires steps %d", c->hires_steps); break;
    case KEY_HIRES_STRENGTH:
        *out = arena_format(a, "hires strength %s", number_exact(c->hires_strength).text);
        break;
    case KEY_HIRES_UPSCALER: *out = c->hires_upscaler ? c->hires_upscaler : "latent"; break;
    case KEY_TILE: *out = c->tile ? "in tiles" : "not in tiles"; break;
    case KEY_CONTROL: return plan_name_controls(r, c, out);
    case KEY_RNG: *out = arena_format(a, "noise of %s", lk_rng_name(c->rng)); break;
    default: *out = c->schedule; break;
    }
    return *out || plan_no_memory(r);
}

/* {"prompt": ["a", "b"]}: the list of key k. */
static bool read_values(plan_reader *r, setting_key k, json_t *list, axis *out)
{
    if (!json_is_array(list)) return plan_wrong(r, "should be a list: [...]");
    if (!json_array_size(list)) return plan_wrong(r, "is empty; give at least one value");
    json_t *one = json_object();
    bool ok = one ? axis_alloc(r, out, json_array_size(list)) : plan_no_memory(r);
    for (int i = 0; ok && i < out->count; i++) {
        size_t place = plan_enter(r, "[%d]", i);
        json_t *value = json_array_get(list, (size_t)i);
        ok = !json_is_null(value) || plan_wrong(r, "null is no value");
        ok = ok && (json_object_set(one, layer_keys[k].name, value) == 0 || plan_no_memory(r));
        ok = ok && layer_read(r, one, false, &out->entry[i]) &&
             name_entry(r, k, &out->entry[i].value, &out->label[i]);
        /* a path is whole now */
        ok = ok &&
             (json_array_set(list, (size_t)i, json_object_get(one, layer_keys[k].name)) == 0 ||
              plan_no_memory(r));
        if (ok) plan_leave(r, place);
    }
    json_decref(one);
    return ok;
}

/* {"seed": "42-45"} */
static bool read_seeds(plan_reader *r, const char *text, axis *out)
{
    uint64_t *list;
    size_t count;
    error why = {0};
    if (!seeds_parse(&list, &count, text, false, &why))
        return why.code == ERROR_MEMORY ? plan_no_memory(r) : plan_wrong(r, "%.400s", why.text);
    bool ok = axis_alloc(r, out, count);
    for (int i = 0; ok && i < out->count; i++) {
        out->entry[i].given = 1u << KEY_SEED;
        out->entry[i].value.seed = list[i];
        ok = name_entry(r, KEY_SEED, &out->entry[i].value, &out->label[i]);
    }
    free(list);
    return ok;
}

/* {"switch": {"from": "base", "to": "tuned", "at": [0, 5, 10]}} */
static bool read_switch(plan_reader *r, json_t *object, axis *out)
{
    static const char *const known[] = {"from", "to", "at", NULL};
    const char *name[2];
    if (!json_is_object(object))
        return plan_wrong(
            r, "should be an object such as {\"from\": \"base\", \"to\": \"tuned\", \"at\": "
               "[0, 5, 10]}");
    if (!plan_keys_known(r, object, known)) return false;
    for (int i = 0; i < 2; i++) {
        if (!plan_read_text(r, object, known[i], true, NULL, &name[i])) return false;
        if (plan_find_model(r->plan, name[i]) < 0) return plan_unknown_model(r, known[i], name[i]);
    }
    const json_t *at = json_object_get(object, "at");
    if (!json_is_array(at) || !json_array_size(at))
        return plan_wrong(r, "\"at\" should be a list of steps: [0, 5, 10]");
    if (!axis_alloc(r, out, json_array_size(at)) || !axis_levels(r, out, 2)) return false;
    for (int i = 0; i < out->count; i++) {
        const json_t *value = json_array_get(at, (size_t)i);
        long long step = json_is_integer(value) ? (long long)json_integer_value(value) : -1;
        if (step < 0 || step > MAX_STEPS)
            return plan_wrong(r, "\"at\"[%d] should be a whole number from 0 to %d", i, MAX_STEPS);
        layer *l = &out->entry[i];
        arena *a = &r->plan->memory;
        l->given = 1u << KEY_SCHEDULE;
        l->value.schedule = arena_format(a, "%s x%lld, %s rest", name[0], step, name[1]);
        const char *direction = arena_format(a, "%s, then %s", name[0], name[1]);
        const char *point = arena_format(a, "after %lld", step);
        out->label[i] = arena_format(a, "%s, then %s after %lld", name[0], name[1], step);
        out->part[i] = direction;
        out->part[out->count + i] = point;
        if (!l->value.schedule || !out->label[i] || !direction || !point) return plan_no_memory(r);
    }
    return true;
}

/* An object with one key. */
static bool read_shorthand(plan_reader *r, json_t *object, axis *out)
{
    if (!json_is_object(object))
        return plan_wrong(
            r, "should be an object such as {\"seed\": [42, 43]}, or one with a \"label\"");
    if (json_object_size(object) != 1)
        return plan_wrong(
            r,
            "has %zu keys; a list of values has one, such as {\"seed\": [42, 43]}, and "
            "anything else needs a \"label\"",
            json_object_size(object));
    const char *key = json_object_iter_key(json_object_iter(object));
    json_t *value = json_object_get(object, key);
    size_t place = plan_enter(r, ".%.60s", key);
    bool ok;
    int k = 0;
    while (k < KEYS && strcmp(layer_keys[k].name, key) != 0) k++;
    if (strcmp(key, "switch") == 0)
        ok = read_switch(r, value, out);
    else if (k == KEYS)
        ok = plan_wrong(
            r,
            "unknown key \"%.60s\"; there are switch and the settings of a cell, such as "
            "prompt, seed, sampler, steps, guidance, model, schedule",
            key);
    else if (k == KEY_SEED && json_is_string(value))
        ok = read_seeds(r, json_string_value(value), out);
    else
        ok = read_values(r, (setting_key)k, value, out);
    if (ok) plan_leave(r, place);
    return ok;
}

/* Every entry of a with every one of b; b turns faster. */
static bool multiply(plan_reader *r, const axis *a, const axis *b, axis *out)
{
    unsigned both = a->entry[0].given & b->entry[0].given;
    for (int k = 0; k < KEYS; k++)
        if (both >> k & 1u)
            return plan_wrong(r, "gives \"%s\" twice; put its values into one list",
                              k == KEY_SCHEDULE ? "model, schedule or switch" : layer_keys[k].name);
    if (!axis_alloc(r, out, (size_t)a->count * (size_t)b->count) ||
        !axis_levels(r, out, a->levels + b->levels))
        return false;
    for (int i = 0; i < out->count; i++) {
        int x = i / b->count, y = i % b->count;
        for (int k = 0; k < a->levels; k++)
            out->part[k * out->count + i] = a->part[k * a->count + x];
        for (int k = 0; k < b->levels; k++)
            out->part[(a->levels + k) * out->count + i] = b->part[k * b->count + y];
        out->entry[i] = a->entry[x];
        layer_lay(&out->entry[i], &b->entry[y]);
        out->entry[i].meant |= a->entry[x].meant;
        out->label[i] = arena_format(&r->plan->memory, "%s, %s", a->label[x], b->label[y]);
        if (!out->label[i]) return plan_no_memory(r);
    }
    return true;
}

static bool read_product(plan_reader *r, json_t *list, axis *out)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        axis next, before = *out;
        size_t place = plan_enter(r, "[%zu]", i);
        if (!read_shorthand(r, json_array_get(list, i), i ? &next : out)) return false;
        if (i && !multiply(r, &before, &next, out)) return false;
        plan_leave(r, place);
    }
    return true;
}

static bool read_labelled(plan_reader *r, json_t *list, axis *out)
{
    if (!axis_alloc(r, out, json_array_size(list))) return false;
    for (int i = 0; i < out->count; i++) {
        json_t *object = json_array_get(list, (size_t)i);
        size_t place = plan_enter(r, "[%d]", i);
        if (!json_object_get(object, "label"))
            return plan_wrong(r, "has no \"label\", and others of the list have one");
        if (!plan_read_text(r, object, "label", true, NULL, &out->label[i]) ||
            !layer_read(r, object, true, &out->entry[i]))
            return false;
        plan_leave(r, place);
    }
    return true;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool labels_differ(plan_reader *r, const axis *a)
{
    size_t bytes = (size_t)a->count * sizeof *a->label;
    const char **sorted = arena_alloc(&r->plan->memory, bytes);
    if (!sorted) return plan_no_memory(r);
    memcpy(sorted, a->label, bytes);
    qsort(sorted, (size_t)a->count, sizeof *sorted, compare_texts);
    for (int i = 1; i < a->count; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            return plan_wrong(r, "two entries are labelled \"%.80s\"; give each its own label",
                              sorted[i]);
    return true;
}

bool axis_read(plan_reader *r, json_t *section, const char *name, axis *out)
{
    json_t *value = json_object_get(section, name);
    bool labelled = false, ok;
    if (!value) return plan_wrong(r, "\"%s\" is missing", name);
    size_t place = plan_enter(r, ".%s", name);
    *out = (axis){0};
    if (json_is_object(value)) {
        ok = json_object_get(value, "label")
                 ? plan_wrong(r, "should be a list of labelled settings: [{\"label\": ...}, ...]")
                 : read_shorthand(r, value, out);
    } else if (!json_is_array(value)) {
        ok = plan_wrong(
            r, "should be a list of labelled settings, or an object such as {\"seed\": [42, "
               "43]}");
    } else if (!json_array_size(value)) {
        ok = plan_wrong(r, "is empty; give at least one entry");
    } else {
        for (size_t i = 0; i < json_array_size(value); i++)
            labelled |= json_object_get(json_array_get(value, i), "label") != NULL;
        ok = labelled ? read_labelled(r, value, out) : read_product(r, value, out);
    }
    ok = ok && labels_differ(r, out);
    if (ok) plan_leave(r, place);
    return ok;
}
