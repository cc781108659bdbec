/* SPDX-License-Identifier: Apache-2.0
 *
 * plan: reads a study from JSON. Settings of a cell come in layers (built in, defaults, section, column,
 * row), each a half-filled study_cell with a note of what it gives; a cell is the layers laid over each
 * other. Everything wrong is told with its place: "report.json: sections[2].rows[1]: ...". */
#include "study/plan.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/platform.h"
#include "generate/plan.h"
#include "model/fields.h"

enum {
    FILE_LIMIT = 16 << 20,
    MAX_CELLS = 20000,
    MAX_STEPS = 10000,           /* of one cell */
    MAX_ALL_STEPS = 5000000,     /* of all cells: each is a mix_step in memory */
    MAX_SIZE = 16384,            /* of a picture's side */
    MAX_NAME = 64,
    PLACE = 1400,
};

typedef struct reader {
    study_plan *plan;
    const char *path, *root;
    char *folder;                /* the plan's own; malloc'ed */
    char where[PLACE];           /* file and place, for messages */
    size_t file_length;          /* of the file's part of it */
    int64_t cells, steps;        /* of all sections so far */
    error *e;
} reader;

/* ---- places and messages -------------------------------------------------------------------- */

static bool wrong(const reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "FILE: PLACE: what is wrong"; returns false. */
static bool wrong(const reader *r, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return error_set(r->e, ERROR_FORMAT, "%s: %s", r->where, text);
}

static bool no_memory(const reader *r) { return error_memory(r->e, r->path, sizeof(study_cell)); }

static size_t place_enter(reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Makes the place more exact; place_leave takes what this returns. */
static size_t place_enter(reader *r, const char *format, ...)
{
    size_t before = strlen(r->where), used = before;
    va_list args;
    if (before == r->file_length) used += (size_t)snprintf(r->where + used, PLACE - used, ": ");
    va_start(args, format);
    vsnprintf(r->where + used, PLACE - used, format, args);
    va_end(args);
    return before;
}

static void place_leave(reader *r, size_t before) { r->where[before] = '\0'; }

/* The plan's models, for messages. */
static const char *list_models(const reader *r, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < r->plan->models && used < size; i++) {
        int n = snprintf(out + used, size - used, "%s%s", i ? ", " : "", r->plan->model_name[i]);
        used += n > 0 ? (size_t)n : 0;
    }
    return out;
}

static int find_model(const study_plan *p, const char *name)
{
    for (int i = 0; i < p->models; i++)
        if (strcmp(p->model_name[i], name) == 0) return i;
    return -1;
}

static bool unknown_model(const reader *r, const char *key, const char *name)
{
    char list[512];
    return wrong(r, "\"%s\" names \"%.60s\", and no model has that name; there are %s", key, name,
                 list_models(r, list, sizeof list));
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static bool is_object(const reader *r, const json_t *value, const char *what)
{
    if (!value) return wrong(r, "\"%s\" is missing", what);
    return json_is_object(value) || wrong(r, "\"%s\" should be an object: {...}", what);
}

/* Whether every key of an object stands in the list, which ends with NULL. */
static bool keys_known(const reader *r, json_t *object, const char *const *known)
{
    const char *key;
    json_t *value;
    char list[800] = "";
    json_object_foreach(object, key, value) {
        size_t i = 0;
        while (known[i] && strcmp(known[i], key) != 0) i++;
        if (known[i]) continue;
        for (size_t used = 0, k = 0; known[k] && used < sizeof list; k++)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", k ? ", " : "", known[k]);
        return wrong(r, "unknown key \"%.60s\"; there are %s", key, list);
    }
    return true;
}

/* The text of a field, the plan's own. Needed and empty is an error; else absent gives fallback. */
static bool read_text(reader *r, json_t *object, const char *key, bool needed, const char *fallback,
                      const char **out)
{
    fields f = {object, r->where, r->e, true};
    const char *text = field_text(&f, key, needed ? NULL : fallback);
    if (!f.ok) return false;
    if (needed && (!text || !*text)) return wrong(r, "\"%s\" is %s", key, text ? "empty" : "missing");
    *out = text ? arena_strdup(&r->plan->memory, text) : NULL;
    return !text || *out || no_memory(r);
}

/* ---- settings of a cell --------------------------------------------------------------------- */

typedef enum setting_key {
    KEY_PROMPT, KEY_NEGATIVE, KEY_SEED, KEY_SAMPLER, KEY_STEPS, KEY_GUIDANCE, KEY_RESCALE, KEY_ETA,
    KEY_VARIANCE, KEY_SPACING, KEY_WIDTH, KEY_HEIGHT, KEY_CLIP_SKIP, KEY_MODEL, KEY_SCHEDULE,
} setting_key;

enum { KEYS = KEY_SCHEDULE + 1 };

#define PART(member) offsetof(study_cell, member), sizeof(((study_cell *)0)->member)

/* A model alone is a schedule too: both fill the same slot. */
static const struct {
    const char *name;
    size_t at, size;
    setting_key slot;
} keys[KEYS] = {
    [KEY_PROMPT] = {"prompt", PART(prompt), KEY_PROMPT},
    [KEY_NEGATIVE] = {"negative", PART(negative), KEY_NEGATIVE},
    [KEY_SEED] = {"seed", PART(seed), KEY_SEED},
    [KEY_SAMPLER] = {"sampler", PART(sampler.kind), KEY_SAMPLER},
    [KEY_STEPS] = {"steps", PART(sampler.steps), KEY_STEPS},
    [KEY_GUIDANCE] = {"guidance", PART(guidance), KEY_GUIDANCE},
    [KEY_RESCALE] = {"guidance_rescale", PART(guidance_rescale), KEY_RESCALE},
    [KEY_ETA] = {"eta", PART(sampler.eta), KEY_ETA},
    [KEY_VARIANCE] = {"variance", PART(sampler.variance), KEY_VARIANCE},
    [KEY_SPACING] = {"spacing", PART(sampler.spacing), KEY_SPACING},
    [KEY_WIDTH] = {"width", PART(width), KEY_WIDTH},
    [KEY_HEIGHT] = {"height", PART(height), KEY_HEIGHT},
    [KEY_CLIP_SKIP] = {"clip_skip", PART(clip_skip), KEY_CLIP_SKIP},
    [KEY_MODEL] = {"model", PART(schedule), KEY_SCHEDULE},
    [KEY_SCHEDULE] = {"schedule", PART(schedule), KEY_SCHEDULE},
};

/* One layer: what it gives, as bits of slots, and the values. */
typedef struct layer {
    unsigned given;
    study_cell value;
} layer;

static bool is_given(const layer *l, setting_key slot) { return l->given >> slot & 1u; }

/* 42, or "42" for what is past JSON's whole numbers. */
static bool read_seed(reader *r, const json_t *value, uint64_t *out)
{
    if (json_is_integer(value)) {
        if (json_integer_value(value) < 0)
            return wrong(r, "\"seed\" is negative; seeds are 0 to 18446744073709551615");
        *out = (uint64_t)json_integer_value(value);
        return true;
    }
    if (!json_is_string(value)) return wrong(r, "\"seed\" should be a whole number");
    uint64_t *list;
    size_t count;
    error why = {0};
    if (!seeds_parse(&list, &count, json_string_value(value), &why))
        return why.code == ERROR_MEMORY ? no_memory(r) : wrong(r, "%.400s", why.text);
    *out = list[0];
    free(list);
    return count == 1 || wrong(r, "\"seed\" should be one seed; lists of them belong in rows and "
                                  "columns, as {\"seed\": \"42-45\"}");
}

static bool read_share(reader *r, fields *f, const char *key, double high, float *out)
{
    *out = field_float(f, key, 0);
    if (!f->ok) return false;
    return ((double)*out >= 0 && (double)*out <= high) ||
           wrong(r, "\"%s\" is %g; it should be a number from 0 to %g", key, (double)*out, high);
}

/* A word out of a few. */
static bool read_word(reader *r, fields *f, setting_key k, study_cell *c)
{
    const char *word = field_text(f, keys[k].name, ""), *list;
    bool ok;
    if (!f->ok) return false;
    if (k == KEY_SAMPLER) {
        ok = sampler_kind_parse(&c->sampler.kind, word);
        list = "ddim or ddpm";
    } else if (k == KEY_VARIANCE) {
        ok = variance_parse(&c->sampler.variance, word);
        list = "fixed_small, fixed_small_log, fixed_large, fixed_large_log, learned or learned_range";
    } else {
        ok = spacing_parse(&c->sampler.spacing, word);
        list = "leading, trailing or linspace";
    }
    return ok || wrong(r, "\"%s\" is \"%.60s\"; it should be %s", keys[k].name, word, list);
}

/* One setting of an object, which has it. */
static bool read_setting(reader *r, json_t *object, setting_key k, study_cell *c)
{
    fields f = {object, r->where, r->e, true};
    const char *name = keys[k].name;
    switch (k) {
    case KEY_PROMPT: return read_text(r, object, name, false, "", &c->prompt);
    case KEY_NEGATIVE: return read_text(r, object, name, false, "", &c->negative);
    case KEY_SEED: return read_seed(r, json_object_get(object, name), &c->seed);
    case KEY_STEPS: c->sampler.steps = field_int(&f, name, 0, 1, MAX_STEPS); return f.ok;
    case KEY_GUIDANCE: return read_share(r, &f, name, 1e6, &c->guidance);
    case KEY_RESCALE: return read_share(r, &f, name, 1, &c->guidance_rescale);
    case KEY_ETA: return read_share(r, &f, name, 1, &c->sampler.eta);
    case KEY_WIDTH: c->width = field_int(&f, name, 0, 1, MAX_SIZE); return f.ok;
    case KEY_HEIGHT: c->height = field_int(&f, name, 0, 1, MAX_SIZE); return f.ok;
    case KEY_CLIP_SKIP: c->clip_skip = field_int(&f, name, 0, 0, 1000); return f.ok;
    case KEY_MODEL:
        if (!read_text(r, object, name, true, NULL, &c->schedule)) return false;
        return find_model(r->plan, c->schedule) >= 0 || unknown_model(r, name, c->schedule);
    case KEY_SCHEDULE: return read_text(r, object, name, true, NULL, &c->schedule);
    default: return read_word(r, &f, k, c);
    }
}

/* All settings of an object; a labelled one may have "label" besides. */
static bool read_layer(reader *r, json_t *object, bool labelled, layer *out)
{
    const char *known[KEYS + 2] = {0};
    int count = 0;
    if (labelled) known[count++] = "label";
    for (int k = 0; k < KEYS; k++) known[count++] = keys[k].name;
    *out = (layer){0};
    if (!keys_known(r, object, known)) return false;
    for (int k = 0; k < KEYS; k++) {
        const json_t *value = json_object_get(object, keys[k].name);
        if (!value || json_is_null(value)) continue;
        if (is_given(out, keys[k].slot))
            return wrong(r, "gives both \"model\" and \"schedule\"; leave one out");
        if (!read_setting(r, object, (setting_key)k, &out->value)) return false;
        out->given |= 1u << keys[k].slot;
    }
    return true;
}

static void lay_over(layer *below, const layer *above)
{
    for (int k = 0; k < KEYS; k++)
        if (keys[k].slot == (setting_key)k && is_given(above, (setting_key)k))
            memcpy((char *)&below->value + keys[k].at, (const char *)&above->value + keys[k].at,
                   keys[k].size);
    below->given |= above->given;
}

static bool value_equal(const layer *a, const layer *b, setting_key k)
{
    const char *x = (const char *)&a->value + keys[k].at, *y = (const char *)&b->value + keys[k].at;
    if (k != KEY_PROMPT && k != KEY_NEGATIVE && k != KEY_SCHEDULE) return !memcmp(x, y, keys[k].size);
    const char *s, *t;
    memcpy(&s, x, sizeof s);
    memcpy(&t, y, sizeof t);
    return strcmp(s, t) == 0;
}

/* ---- axes ----------------------------------------------------------------------------------- */

/* Rows or columns: labels and settings, in the plan's memory. */
typedef struct axis {
    int count;
    const char **label;
    layer *entry;
} axis;

static bool axis_alloc(reader *r, axis *out, size_t count)
{
    if (count > MAX_CELLS)
        return wrong(r, "more than %d entries; make the study smaller or split it", MAX_CELLS);
    out->count = (int)count;
    out->label = arena_alloc(&r->plan->memory, (count + 1) * sizeof *out->label);
    out->entry = arena_alloc(&r->plan->memory, (count + 1) * sizeof *out->entry);
    return (out->label && out->entry) || no_memory(r);
}

/* What a shorthand's entry is called. */
static bool name_entry(reader *r, setting_key k, const study_cell *c, const char **out)
{
    arena *a = &r->plan->memory;
    const sampler_options *s = &c->sampler;
    switch (k) {
    case KEY_PROMPT: *out = arena_strdup(a, *c->prompt ? c->prompt : "no prompt"); break;
    case KEY_NEGATIVE:
        *out = arena_format(a, "negative: %s", *c->negative ? c->negative : "none");
        break;
    case KEY_SEED: *out = arena_format(a, "seed %llu", (unsigned long long)c->seed); break;
    case KEY_SAMPLER: *out = s->kind == SAMPLER_DDIM ? "DDIM" : "DDPM"; break;
    case KEY_STEPS: *out = arena_format(a, "%d step%s", s->steps, s->steps == 1 ? "" : "s"); break;
    case KEY_GUIDANCE: *out = arena_format(a, "guidance %g", (double)c->guidance); break;
    case KEY_RESCALE: *out = arena_format(a, "guidance rescale %g", (double)c->guidance_rescale); break;
    case KEY_ETA: *out = arena_format(a, "eta %g", (double)s->eta); break;
    case KEY_VARIANCE: *out = variance_name(s->variance); break;
    case KEY_SPACING: *out = spacing_name(s->spacing); break;
    case KEY_WIDTH: *out = arena_format(a, "width %d", c->width); break;
    case KEY_HEIGHT: *out = arena_format(a, "height %d", c->height); break;
    case KEY_CLIP_SKIP: *out = arena_format(a, "clip skip %d", c->clip_skip); break;
    default: *out = c->schedule; break;
    }
    return *out || no_memory(r);
}

/* {"prompt": ["a", "b"]}: the list of key k. */
static bool read_values(reader *r, setting_key k, json_t *list, axis *out)
{
    if (!json_is_array(list)) return wrong(r, "should be a list: [...]");
    if (!json_array_size(list)) return wrong(r, "is empty; give at least one value");
    json_t *one = json_object();
    bool ok = one ? axis_alloc(r, out, json_array_size(list)) : no_memory(r);
    for (int i = 0; ok && i < out->count; i++) {
        size_t place = place_enter(r, "[%d]", i);
        json_t *value = json_array_get(list, (size_t)i);
        ok = !json_is_null(value) || wrong(r, "null is no value");
        ok = ok && (json_object_set(one, keys[k].name, value) == 0 || no_memory(r));
        ok = ok && read_layer(r, one, false, &out->entry[i]) &&
             name_entry(r, k, &out->entry[i].value, &out->label[i]);
        if (ok) place_leave(r, place);
    }
    json_decref(one);
    return ok;
}

/* {"seed": "42-45"} */
static bool read_seeds(reader *r, const char *text, axis *out)
{
    uint64_t *list;
    size_t count;
    error why = {0};
    if (!seeds_parse(&list, &count, text, &why))
        return why.code == ERROR_MEMORY ? no_memory(r) : wrong(r, "%.400s", why.text);
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
static bool read_switch(reader *r, json_t *object, axis *out)
{
    static const char *const known[] = {"from", "to", "at", NULL};
    const char *name[2];
    if (!json_is_object(object))
        return wrong(r, "should be an object such as {\"from\": \"base\", \"to\": \"tuned\", \"at\": "
                        "[0, 5, 10]}");
    if (!keys_known(r, object, known)) return false;
    for (int i = 0; i < 2; i++) {
        if (!read_text(r, object, known[i], true, NULL, &name[i])) return false;
        if (find_model(r->plan, name[i]) < 0) return unknown_model(r, known[i], name[i]);
    }
    const json_t *at = json_object_get(object, "at");
    if (!json_is_array(at) || !json_array_size(at))
        return wrong(r, "\"at\" should be a list of steps: [0, 5, 10]");
    if (!axis_alloc(r, out, json_array_size(at))) return false;
    for (int i = 0; i < out->count; i++) {
        const json_t *value = json_array_get(at, (size_t)i);
        long long step = json_is_integer(value) ? (long long)json_integer_value(value) : -1;
        if (step < 0 || step > MAX_STEPS)
            return wrong(r, "\"at\"[%d] should be a whole number from 0 to %d", i, MAX_STEPS);
        layer *l = &out->entry[i];
        arena *a = &r->plan->memory;
        l->given = 1u << KEY_SCHEDULE;
        l->value.schedule = arena_format(a, "%s x%lld, %s rest", name[0], step, name[1]);
        out->label[i] = arena_format(a, "%s, then %s after %lld", name[0], name[1], step);
        if (!l->value.schedule || !out->label[i]) return no_memory(r);
    }
    return true;
}

/* An object with one key. */
static bool read_shorthand(reader *r, json_t *object, axis *out)
{
    if (!json_is_object(object))
        return wrong(r, "should be an object such as {\"seed\": [42, 43]}, or one with a \"label\"");
    if (json_object_size(object) != 1)
        return wrong(r, "has %zu keys; a list of values has one, such as {\"seed\": [42, 43]}, and "
                        "anything else needs a \"label\"", json_object_size(object));
    const char *key = json_object_iter_key(json_object_iter(object));
    json_t *value = json_object_get(object, key);
    size_t place = place_enter(r, ".%.60s", key);
    bool ok;
    int k = 0;
    while (k < KEYS && strcmp(keys[k].name, key) != 0) k++;
    if (strcmp(key, "switch") == 0)
        ok = read_switch(r, value, out);
    else if (k == KEYS)
        ok = wrong(r, "unknown key \"%.60s\"; there are switch and the settings of a cell, such as "
                      "prompt, seed, sampler, steps, guidance, model, schedule", key);
    else if (k == KEY_SEED && json_is_string(value))
        ok = read_seeds(r, json_string_value(value), out);
    else
        ok = read_values(r, (setting_key)k, value, out);
    if (ok) place_leave(r, place);
    return ok;
}

/* Every entry of a with every one of b; b turns faster. */
static bool multiply(reader *r, const axis *a, const axis *b, axis *out)
{
    unsigned both = a->entry[0].given & b->entry[0].given;
    for (int k = 0; k < KEYS; k++)
        if (both >> k & 1u)
            return wrong(r, "gives \"%s\" twice; put its values into one list",
                         k == KEY_SCHEDULE ? "model, schedule or switch" : keys[k].name);
    if (!axis_alloc(r, out, (size_t)a->count * (size_t)b->count)) return false;
    for (int i = 0; i < out->count; i++) {
        int x = i / b->count, y = i % b->count;
        out->entry[i] = a->entry[x];
        lay_over(&out->entry[i], &b->entry[y]);
        out->label[i] = arena_format(&r->plan->memory, "%s, %s", a->label[x], b->label[y]);
        if (!out->label[i]) return no_memory(r);
    }
    return true;
}

static bool read_product(reader *r, json_t *list, axis *out)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        axis next, before = *out;
        size_t place = place_enter(r, "[%zu]", i);
        if (!read_shorthand(r, json_array_get(list, i), i ? &next : out)) return false;
        if (i && !multiply(r, &before, &next, out)) return false;
        place_leave(r, place);
    }
    return true;
}

static bool read_labelled(reader *r, json_t *list, axis *out)
{
    if (!axis_alloc(r, out, json_array_size(list))) return false;
    for (int i = 0; i < out->count; i++) {
        json_t *object = json_array_get(list, (size_t)i);
        size_t place = place_enter(r, "[%d]", i);
        if (!json_object_get(object, "label"))
            return wrong(r, "has no \"label\", and others of the list have one");
        if (!read_text(r, object, "label", true, NULL, &out->label[i]) ||
            !read_layer(r, object, true, &out->entry[i]))
            return false;
        place_leave(r, place);
    }
    return true;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool labels_differ(reader *r, const axis *a)
{
    size_t bytes = (size_t)a->count * sizeof *a->label;
    const char **sorted = arena_alloc(&r->plan->memory, bytes);
    if (!sorted) return no_memory(r);
    memcpy(sorted, a->label, bytes);
    qsort(sorted, (size_t)a->count, sizeof *sorted, compare_texts);
    for (int i = 1; i < a->count; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            return wrong(r, "two entries are labelled \"%.80s\"; give each its own label", sorted[i]);
    return true;
}

/* Rows or columns of a section. */
static bool read_axis(reader *r, json_t *section, const char *name, axis *out)
{
    json_t *value = json_object_get(section, name);
    bool labelled = false, ok;
    if (!value) return wrong(r, "\"%s\" is missing", name);
    size_t place = place_enter(r, ".%s", name);
    *out = (axis){0};
    if (json_is_object(value)) {
        ok = json_object_get(value, "label")
                 ? wrong(r, "should be a list of labelled settings: [{\"label\": ...}, ...]")
                 : read_shorthand(r, value, out);
    } else if (!json_is_array(value)) {
        ok = wrong(r, "should be a list of labelled settings, or an object such as {\"seed\": [42, "
                      "43]}");
    } else if (!json_array_size(value)) {
        ok = wrong(r, "is empty; give at least one entry");
    } else {
        for (size_t i = 0; i < json_array_size(value); i++)
            labelled |= json_object_get(json_array_get(value, i), "label") != NULL;
        ok = labelled ? read_labelled(r, value, out) : read_product(r, value, out);
    }
    ok = ok && labels_differ(r, out);
    if (ok) place_leave(r, place);
    return ok;
}

/* ---- cells ---------------------------------------------------------------------------------- */

/* What mix_parse said, its advice on flags replaced by the plan's models. */
static bool wrong_schedule(const reader *r, error *why)
{
    char list[512];
    if (why->code == ERROR_MEMORY) return no_memory(r);
    char *advice = strstr(why->text, "; give it with -m");
    if (!advice) return wrong(r, "%.600s", why->text);
    *advice = '\0';
    return wrong(r, "%.400s; there are %s", why->text, list_models(r, list, sizeof list));
}

/* The mix and its normal text: the model's name where it is alone. */
static bool make_mix(reader *r, study_cell *c)
{
    const study_plan *p = r->plan;
    error why = {0};
    if (!mix_parse(&c->mix, c->schedule, p->model_name, p->models, c->sampler.steps, &why))
        return wrong_schedule(r, &why);
    int alone = cell_model(c);
    if (alone >= 0) {
        c->schedule = p->model_name[alone];
        return true;
    }
    char *text = mix_text(&c->mix, p->model_name);
    c->schedule = text ? arena_strdup(&r->plan->memory, text) : NULL;
    free(text);
    return c->schedule || no_memory(r);
}

static bool make_cell(reader *r, const layer *base, const layer *column, const layer *row,
                      study_cell *out)
{
    layer all = *base;
    for (int k = 0; k < KEYS; k++)
        if (is_given(column, (setting_key)k) && is_given(row, (setting_key)k) &&
            !value_equal(column, row, (setting_key)k))
            return wrong(r, "row and column both give \"%s\", and differ; leave it to one of them",
                         k == KEY_SCHEDULE ? "model or schedule" : keys[k].name);
    lay_over(&all, column);
    lay_over(&all, row);
    if (!is_given(&all, KEY_PROMPT))
        return wrong(r, "has no \"prompt\"; give it in the row, the column, the section's settings or "
                        "the plan's defaults");
    if (!is_given(&all, KEY_SCHEDULE)) {
        if (r->plan->models > 1) return wrong(r, "has no \"model\" and no \"schedule\"; give one");
        all.value.schedule = r->plan->model_name[0];
    }
    /* What its sampler does not look at must not make a picture another one. */
    sampler_options *s = &all.value.sampler;
    s->has_spacing = is_given(&all, KEY_SPACING);
    s->has_variance = is_given(&all, KEY_VARIANCE) && s->kind == SAMPLER_DDPM;
    if (!s->has_variance) s->variance = (variance)0;
    if (s->kind == SAMPLER_DDPM) s->eta = 0;
    r->steps += s->steps;
    if (r->steps > MAX_ALL_STEPS)
        return wrong(r, "more than %d steps in all; make the study smaller or split it", MAX_ALL_STEPS);
    *out = all.value;
    return make_mix(r, out);
}

static bool make_cells(reader *r, const layer *base, const axis *rows, const axis *columns,
                       study_section *s)
{
    int64_t count = (int64_t)rows->count * columns->count;
    r->cells += count;
    if (r->cells > MAX_CELLS)
        return wrong(r, "its %d x %d pictures are more than the %d that a study may have; make it "
                        "smaller or split it", rows->count, columns->count, MAX_CELLS);
    s->cell = arena_alloc(&r->plan->memory, (size_t)count * sizeof *s->cell);
    if (!s->cell) return no_memory(r);
    s->rows = rows->count; /* from here on study_plan_close finds the mixes */
    s->columns = columns->count;
    s->row_label = rows->label;
    s->column_label = columns->label;
    for (int i = 0; i < (int)count; i++) {
        int row = i / s->columns, column = i % s->columns;
        size_t place = place_enter(r, ".rows[%d] x columns[%d]", row, column);
        if (!make_cell(r, base, &columns->entry[column], &rows->entry[row], &s->cell[i])) return false;
        place_leave(r, place);
    }
    return true;
}

/* ---- sections ------------------------------------------------------------------------------- */

static bool id_check(reader *r, int index)
{
    const char *id = r->plan->section[index].id;
    if (id[strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-")] || strlen(id) > MAX_NAME)
        return wrong(r, "\"id\" is \"%.80s\"; it should be at most %d of a-z, 0-9 and -", id, MAX_NAME);
    for (int i = 0; i < index; i++)
        if (strcmp(r->plan->section[i].id, id) == 0)
            return wrong(r, "\"id\" is \"%.80s\", as that of sections[%d]; give it its own", id, i);
    return true;
}

static bool read_section(reader *r, json_t *object, const layer *defaults, int index)
{
    static const char *const known[] = {"id", "title", "about", "settings", "rows", "columns", NULL};
    study_section *s = &r->plan->section[index];
    size_t place = place_enter(r, "sections[%d]", index);
    layer base = *defaults, own;
    axis rows, columns;
    if (!json_is_object(object)) return wrong(r, "should be an object: {...}");
    if (!keys_known(r, object, known) || !read_text(r, object, "id", true, NULL, &s->id) ||
        !id_check(r, index) || !read_text(r, object, "title", true, NULL, &s->title) ||
        !read_text(r, object, "about", false, "", &s->about))
        return false;
    json_t *settings = json_object_get(object, "settings");
    if (settings) {
        if (!is_object(r, settings, "settings")) return false;
        size_t inner = place_enter(r, ".settings");
        if (!read_layer(r, settings, false, &own)) return false;
        place_leave(r, inner);
        lay_over(&base, &own);
    }
    if (!read_axis(r, object, "rows", &rows) || !read_axis(r, object, "columns", &columns) ||
        !make_cells(r, &base, &rows, &columns, s))
        return false;
    place_leave(r, place);
    return true;
}

static bool read_sections(reader *r, json_t *root)
{
    study_plan *p = r->plan;
    layer defaults = {.value = {.negative = "", .guidance = 7.5f, .sampler = {.steps = 50}}}, own;
    json_t *object = json_object_get(root, "defaults"), *list = json_object_get(root, "sections");
    if (object) {
        if (!is_object(r, object, "defaults")) return false;
        size_t place = place_enter(r, "defaults");
        if (!read_layer(r, object, false, &own)) return false;
        place_leave(r, place);
        lay_over(&defaults, &own);
    }
    if (!json_is_array(list) || !json_array_size(list))
        return wrong(r, "\"sections\" should be a list with at least one section");
    if (json_array_size(list) > MAX_CELLS) return wrong(r, "\"sections\" has more than %d", MAX_CELLS);
    int count = (int)json_array_size(list);
    p->section = arena_alloc(&p->memory, (size_t)count * sizeof *p->section);
    if (!p->section) return no_memory(r);
    p->sections = count;
    for (int i = 0; i < count; i++)
        if (!read_section(r, json_array_get(list, (size_t)i), &defaults, i)) return false;
    return true;
}

/* ---- models --------------------------------------------------------------------------------- */

/* A path of the plan: as it is, below the plan's folder, or below root; the first that exists. Where
 * none does, an error, or (may_miss) the one below the plan's folder. */
static bool read_path(reader *r, json_t *object, const char *key, bool needed, bool may_miss,
                      const char **out)
{
    const char *given;
    if (!read_text(r, object, key, needed, NULL, &given)) return false;
    *out = given;
    if (!given) return true;
    if (!*given) return wrong(r, "\"%s\" is empty", key);
    arena *a = &r->plan->memory;
    const char *own = *given == '/' ? given : arena_format(a, "%s/%s", r->folder, given);
    const char *other = *given == '/' || !r->root ? own : arena_format(a, "%s/%s", r->root, given);
    if (!own || !other) return no_memory(r);
    *out = access(own, F_OK) != 0 && access(other, F_OK) == 0 ? other : own;
    if (may_miss || access(*out, F_OK) == 0) return true;
    if (own == other) return wrong(r, "\"%s\": there is no %.400s", key, own);
    return wrong(r, "\"%s\": there is no %.400s, and no %.400s", key, own, other);
}

typedef enum train_kind { TRAIN_BOOL, TRAIN_INT, TRAIN_LONG, TRAIN_DOUBLE, TRAIN_TEXT } train_kind;

/* Flags of likeness train that go straight into its settings. */
static const struct {
    const char *name;
    train_kind kind;
    size_t at;
} train_keys[] = {
    {"instance_prompt", TRAIN_TEXT, offsetof(train_settings, instance_prompt)},
    {"class_prompt", TRAIN_TEXT, offsetof(train_settings, class_prompt)},
    {"resolution", TRAIN_INT, offsetof(train_settings, resolution)},
    {"center_crop", TRAIN_BOOL, offsetof(train_settings, center_crop)},
    {"train_batch_size", TRAIN_INT, offsetof(train_settings, train_batch_size)},
    {"gradient_accumulation_steps", TRAIN_INT, offsetof(train_settings, gradient_accumulation_steps)},
    {"max_train_steps", TRAIN_LONG, offsetof(train_settings, max_train_steps)},
    {"num_train_epochs", TRAIN_INT, offsetof(train_settings, num_train_epochs)},
    {"learning_rate", TRAIN_DOUBLE, offsetof(train_settings, learning_rate)},
    {"scale_lr", TRAIN_BOOL, offsetof(train_settings, scale_lr)},
    {"lr_warmup_steps", TRAIN_LONG, offsetof(train_settings, lr_warmup_steps)},
    {"lr_num_cycles", TRAIN_INT, offsetof(train_settings, lr_num_cycles)},
    {"lr_power", TRAIN_DOUBLE, offsetof(train_settings, lr_power)},
    {"adam_beta1", TRAIN_DOUBLE, offsetof(train_settings, adam_beta1)},
    {"adam_beta2", TRAIN_DOUBLE, offsetof(train_settings, adam_beta2)},
    {"adam_weight_decay", TRAIN_DOUBLE, offsetof(train_settings, adam_weight_decay)},
    {"adam_epsilon", TRAIN_DOUBLE, offsetof(train_settings, adam_epsilon)},
    {"max_grad_norm", TRAIN_DOUBLE, offsetof(train_settings, max_grad_norm)},
    {"train_text_encoder", TRAIN_BOOL, offsetof(train_settings, train_text_encoder)},
    {"gradient_checkpointing", TRAIN_BOOL, offsetof(train_settings, gradient_checkpointing)},
    {"snr_gamma", TRAIN_DOUBLE, offsetof(train_settings, snr_gamma)},
    {"offset_noise", TRAIN_BOOL, offsetof(train_settings, offset_noise)},
    {"offset_noise_factor", TRAIN_DOUBLE, offsetof(train_settings, offset_noise_factor)},
    {"with_prior_preservation", TRAIN_BOOL, offsetof(train_settings, with_prior_preservation)},
    {"prior_loss_weight", TRAIN_DOUBLE, offsetof(train_settings, prior_loss_weight)},
    {"num_class_images", TRAIN_INT, offsetof(train_settings, num_class_images)},
    {"prior_from_base", TRAIN_BOOL, offsetof(train_settings, prior_from_base)},
    {"cache_latents", TRAIN_BOOL, offsetof(train_settings, cache_latents)},
    {"checkpointing_steps", TRAIN_LONG, offsetof(train_settings, checkpointing_steps)},
    {"checkpoints_total_limit", TRAIN_INT, offsetof(train_settings, checkpoints_total_limit)},
    {"validation_prompt", TRAIN_TEXT, offsetof(train_settings, validation_prompt)},
    {"num_validation_images", TRAIN_INT, offsetof(train_settings, num_validation_images)},
    {"validation_steps", TRAIN_LONG, offsetof(train_settings, validation_steps)},
};

enum { TRAIN_KEYS = sizeof train_keys / sizeof *train_keys };

/* Those that need more than a copy. */
static const char *const train_others[] = {
    "model", "instance_data_dir", "class_data_dir", "lr_scheduler", "optimizer", "use_8bit_adam", "seed",
};

enum { TRAIN_OTHERS = sizeof train_others / sizeof *train_others };

static bool read_train_key(reader *r, json_t *object, int k, train_settings *s)
{
    fields f = {object, r->where, r->e, true};
    const char *name = train_keys[k].name;
    void *at = (char *)s + train_keys[k].at;
    const json_t *value = field(&f, name);
    if (!value) return true;
    switch (train_keys[k].kind) {
    case TRAIN_BOOL: *(bool *)at = field_bool(&f, name, false); return f.ok;
    case TRAIN_INT: *(int *)at = field_int(&f, name, 0, INT_MIN, INT_MAX); return f.ok;
    case TRAIN_TEXT: return read_text(r, object, name, true, NULL, (const char **)at);
    case TRAIN_LONG:
        *(int64_t *)at = json_integer_value(value);
        return json_is_integer(value) || wrong(r, "\"%s\" should be a whole number", name);
    default:
        *(double *)at = json_number_value(value);
        return json_is_number(value) || wrong(r, "\"%s\" should be a number", name);
    }
}

static bool read_optimizer(reader *r, json_t *object, train_settings *s)
{
    fields f = {object, r->where, r->e, true};
    const char *name = field_text(&f, "optimizer", NULL);
    bool eight = field_bool(&f, "use_8bit_adam", false);
    if (!f.ok) return false;
    bool is_eight = name && strcmp(name, "adamw8bit") == 0;
    if (name && !is_eight && strcmp(name, "adamw") != 0)
        return wrong(r, "\"optimizer\" is \"%.60s\"; it should be adamw or adamw8bit", name);
    if (name && !is_eight && eight)
        return wrong(r, "\"optimizer\" is adamw, and \"use_8bit_adam\" is true; leave one out");
    s->optimizer = eight || is_eight ? OPTIMIZER_ADAMW_8BIT : OPTIMIZER_ADAMW;
    return true;
}

/* What likeness train would refuse is refused here; what the study supplies counts as given. */
static bool check_training(reader *r, const train_settings *s)
{
    train_settings whole = *s;
    error why = {0};
    whole.output_dir = "the study's";
    if (s->with_prior_preservation && !s->prior_from_base && !s->class_data_dir)
        whole.class_data_dir = "the study's";
    return train_settings_check(&whole, &why) || wrong(r, "%.600s", why.text);
}

/* The model that a training starts from. */
static bool read_base(reader *r, json_t *object, json_t *models, study_model *out)
{
    const char *name;
    if (!read_text(r, object, "model", true, NULL, &name)) return false;
    out->base = find_model(r->plan, name);
    if (out->base >= 0) return true;
    if (strcmp(name, out->name) == 0)
        return wrong(r, "\"model\" names the training itself; name an earlier model");
    if (json_object_get(models, name))
        return wrong(r, "\"model\" names \"%.60s\", which comes later; put it before its trainings",
                     name);
    return unknown_model(r, "model", name);
}

static bool read_training(reader *r, json_t *object, json_t *models, study_model *out)
{
    const char *known[TRAIN_KEYS + TRAIN_OTHERS + 1] = {0};
    train_settings *s = &out->train;
    fields f = {object, r->where, r->e, true};
    for (int i = 0; i < TRAIN_OTHERS; i++) known[i] = train_others[i];
    for (int i = 0; i < TRAIN_KEYS; i++) known[TRAIN_OTHERS + i] = train_keys[i].name;
    if (json_object_get(object, "output_dir"))
        return wrong(r, "\"output_dir\" is the study's business; leave it out");
    if (!keys_known(r, object, known) || !read_base(r, object, models, out)) return false;
    for (int k = 0; k < TRAIN_KEYS; k++)
        if (!read_train_key(r, object, k, s)) return false;
    const char *rate = field_text(&f, "lr_scheduler", "constant");
    if (!f.ok) return false;
    if (!rate_schedule_parse(&s->lr_scheduler, rate))
        return wrong(r, "\"lr_scheduler\" is \"%.60s\"; there are constant, constant_with_warmup, "
                        "linear, cosine, cosine_with_restarts, polynomial", rate);
    s->has_seed = true; /* 0 where none is given: a study can be repeated */
    const json_t *seed = field(&f, "seed");
    if (seed && !read_seed(r, seed, &s->seed)) return false;
    return read_optimizer(r, object, s) &&
           read_path(r, object, "instance_data_dir", true, false, &s->instance_data_dir) &&
           read_path(r, object, "class_data_dir", false, true, &s->class_data_dir) &&
           check_training(r, s);
}

static bool name_check(reader *r, const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t n = strlen(name);
    bool plain = n && n <= MAX_NAME && strchr(letters, name[0]) && strcmp(name, "rest") != 0;
    for (size_t i = 0; plain && i < n; i++) plain = strchr(letters, name[i]) || strchr("-_.", name[i]);
    return plain || wrong(r, "\"%.80s\" cannot be a model's name; use at most %d letters, digits, -, _ "
                             "and ., a letter or digit first", name, MAX_NAME);
}

static bool read_model(reader *r, const char *name, json_t *object, json_t *models)
{
    static const char *const known[] = {"path", "train", "class_steps", "class_guidance", NULL};
    study_plan *p = r->plan;
    study_model *m = &p->model[p->models];
    if (!name_check(r, name)) return false;
    size_t place = place_enter(r, "models.%s", name);
    *m = (study_model){.name = arena_strdup(&p->memory, name), .base = -1, .class_steps = 50,
                       .class_guidance = 7.5f};
    train_settings_defaults(&m->train);
    if (!m->name) return no_memory(r);
    if (!json_is_object(object))
        return wrong(r, "should be an object such as {\"path\": \"pocket\"} or {\"train\": {...}}");
    if (!keys_known(r, object, known)) return false;
    fields f = {object, r->where, r->e, true};
    json_t *path = field(&f, "path"), *train = field(&f, "train");
    if (!path == !train) return wrong(r, "should have either \"path\" or \"train\"");
    if (path) {
        if (field(&f, "class_steps") || field(&f, "class_guidance"))
            return wrong(r, "\"class_steps\" and \"class_guidance\" belong beside \"train\"");
        bool pocket = json_is_string(path) && strcmp(json_string_value(path), "pocket") == 0;
        m->path = "pocket";
        if (!pocket && !read_path(r, object, "path", true, false, &m->path)) return false;
    } else {
        m->class_steps = field_int(&f, "class_steps", 50, 1, MAX_STEPS);
        if (field(&f, "class_guidance") && !read_share(r, &f, "class_guidance", 1e6, &m->class_guidance))
            return false;
        if (!f.ok || !is_object(r, train, "train")) return false;
        size_t inner = place_enter(r, ".train");
        if (!read_training(r, train, models, m)) return false;
        place_leave(r, inner);
    }
    place_leave(r, place);
    p->model_name[p->models++] = m->name; /* from here on others can name it */
    return true;
}

static bool read_models(reader *r, json_t *root)
{
    study_plan *p = r->plan;
    json_t *models = json_object_get(root, "models"), *object;
    const char *name;
    if (!is_object(r, models, "models")) return false;
    size_t count = json_object_size(models);
    if (!count) return wrong(r, "\"models\" is empty; give at least {\"base\": {\"path\": \"pocket\"}}");
    p->model = arena_alloc(&p->memory, count * sizeof *p->model);
    p->model_name = arena_alloc(&p->memory, count * sizeof *p->model_name);
    if (!p->model || !p->model_name) return no_memory(r);
    json_object_foreach(models, name, object)
        if (!read_model(r, name, object, models)) return false;
    return true;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static bool read_measures(reader *r, json_t *root)
{
    static const char *const known[] = {"timesteps", "noises", NULL};
    json_t *object = json_object_get(root, "measures");
    r->plan->measure_timesteps = 6;
    r->plan->measure_noises = 1;
    if (!object) return true;
    if (!is_object(r, object, "measures")) return false;
    size_t place = place_enter(r, "measures");
    fields f = {object, r->where, r->e, true};
    if (!keys_known(r, object, known)) return false;
    r->plan->measure_timesteps = field_int(&f, "timesteps", 6, 1, 1000);
    r->plan->measure_noises = field_int(&f, "noises", 1, 1, 1000);
    place_leave(r, place);
    return f.ok;
}

static bool read_all(reader *r, json_t *root)
{
    static const char *const known[] = {"title", "about", "defaults", "models", "sections", "measures",
                                        NULL};
    return keys_known(r, root, known) &&
           read_text(r, root, "title", false, "A study", &r->plan->title) &&
           read_text(r, root, "about", false, "", &r->plan->about) && read_measures(r, root) &&
           read_models(r, root) && read_sections(r, root);
}

bool study_plan_read(study_plan *out, const char *path, const char *root, error *e)
{
    const char *slash = strrchr(path, '/');
    size_t length = strlen(path);
    reader r = {.plan = out, .path = path, .root = root, .e = e};
    fields f;
    *out = (study_plan){0};
    if (!fields_open(&f, path, FILE_LIMIT, e)) return false;
    /* Of a very long path the end says more. */
    snprintf(r.where, PLACE, "%.1000s", length > 1000 ? path + length - 1000 : path);
    r.file_length = strlen(r.where);
    r.folder = slash == path ? strdup("/") : slash ? strndup(path, (size_t)(slash - path)) : strdup(".");
    bool ok = r.folder ? read_all(&r, f.root) : no_memory(&r);
    free(r.folder);
    fields_close(&f);
    if (!ok) study_plan_close(out);
    return ok;
}

void study_plan_close(study_plan *p)
{
    for (int i = 0; i < p->sections; i++)
        for (int k = 0; k < p->section[i].rows * p->section[i].columns; k++)
            mix_close(&p->section[i].cell[k].mix);
    arena_free(&p->memory);
    *p = (study_plan){0};
}

int cell_model(const study_cell *c)
{
    const mix_step *s = c->mix.step;
    if (!c->mix.count || s->terms != 1 || s->share[0] != 1) return -1;
    for (int i = 1; i < c->mix.count; i++)
        if (!mix_step_equal(s, &s[i])) return -1;
    return s->model[0];
}
