/* SPDX-License-Identifier: Apache-2.0
 *
 * plan: reads a study from JSON. Settings of a cell come in layers (built in, defaults, section,
 * column, row), each a half-filled study_cell with a note of what it gives; a cell is the layers
 * laid over each other. Everything wrong is told with its place: "report.json: sections[2].rows[1]:
 * ...". */
#include "study/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"
#include "base/seeds.h"
#include "file/json.h"
#include "study/plan_read.h"

/* ---- settings of a cell --------------------------------------------------------------------- */

typedef enum setting_key {
    KEY_PROMPT,
    KEY_NEGATIVE,
    KEY_SEED,
    KEY_SAMPLER,
    KEY_STEPS,
    KEY_GUIDANCE,
    KEY_RESCALE,
    KEY_ETA,
    KEY_VARIANCE,
    KEY_SPACING,
    KEY_WIDTH,
    KEY_HEIGHT,
    KEY_CLIP_SKIP,
    KEY_MODEL,
    KEY_SCHEDULE,
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
    [KEY_SAMPLER] = {"sampler", PART(sampler), KEY_SAMPLER},
    [KEY_STEPS] = {"steps", PART(steps), KEY_STEPS},
    [KEY_GUIDANCE] = {"guidance", PART(guidance), KEY_GUIDANCE},
    [KEY_RESCALE] = {"guidance_rescale", PART(guidance_rescale), KEY_RESCALE},
    [KEY_ETA] = {"eta", PART(eta), KEY_ETA},
    [KEY_VARIANCE] = {"variance", PART(variance), KEY_VARIANCE},
    [KEY_SPACING] = {"spacing", PART(spacing), KEY_SPACING},
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

/* "ddim or ddpm" */
static void list_samplers(char *out, size_t size)
{
    size_t at = 0;
    for (int i = 0, n = lk_sampler_count(); i < n && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%s", i == 0 ? "" : i + 1 < n ? ", " : " or ",
                               lk_sampler_name(i));
}

/* A word out of a few. */
static bool read_word(plan_reader *r, fields *f, setting_key k, study_cell *c)
{
    const char *word = field_text(f, keys[k].name, ""), *list;
    char samplers[256];
    bool ok;
    if (!f->ok) return false;
    if (k == KEY_SAMPLER) {
        ok = lk_sampler_parse(&c->sampler, word);
        list_samplers(samplers, sizeof samplers);
        list = samplers;
    } else if (k == KEY_VARIANCE) {
        ok = lk_variance_parse(&c->variance, word);
        list =
            "fixed_small, fixed_small_log, fixed_large, fixed_large_log, learned or learned_range";
    } else {
        ok = lk_spacing_parse(&c->spacing, word);
        list = "leading, trailing or linspace";
    }
    return ok || plan_wrong(r, "\"%s\" is \"%.60s\"; it should be %s", keys[k].name, word, list);
}

/* One setting of an object, which has it. */
static bool read_setting(plan_reader *r, json_t *object, setting_key k, study_cell *c)
{
    fields f = {object, r->where, r->e, true};
    const char *name = keys[k].name;
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
    case KEY_MODEL:
        if (!plan_read_text(r, object, name, true, NULL, &c->schedule)) return false;
        return plan_find_model(r->plan, c->schedule) >= 0 ||
               plan_unknown_model(r, name, c->schedule);
    case KEY_SCHEDULE: return plan_read_text(r, object, name, true, NULL, &c->schedule);
    default: return read_word(r, &f, k, c);
    }
}

/* All settings of an object; a labelled one may have "label" besides. */
static bool read_layer(plan_reader *r, json_t *object, bool labelled, layer *out)
{
    const char *known[KEYS + 2] = {0};
    int count = 0;
    if (labelled) known[count++] = "label";
    for (int k = 0; k < KEYS; k++) known[count++] = keys[k].name;
    *out = (layer){0};
    if (!plan_keys_known(r, object, known)) return false;
    for (int k = 0; k < KEYS; k++) {
        const json_t *value = json_object_get(object, keys[k].name);
        if (!value || json_is_null(value)) continue;
        if (is_given(out, keys[k].slot))
            return plan_wrong(r, "gives both \"model\" and \"schedule\"; leave one out");
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
    if (k != KEY_PROMPT && k != KEY_NEGATIVE && k != KEY_SCHEDULE)
        return !memcmp(x, y, keys[k].size);
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
    int levels;
    const char **part;           /* [levels * count], as study_section has them */
} axis;

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
    out->part = arena_alloc(&r->plan->memory, (size_t)levels * (size_t)(out->count + 1) * sizeof *out->part);
    return out->part || plan_no_memory(r);
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
    case KEY_SAMPLER: *out = lk_sampler_label(c->sampler); break;
    case KEY_STEPS: *out = arena_format(a, "%d step%s", c->steps, c->steps == 1 ? "" : "s"); break;
    case KEY_GUIDANCE: *out = arena_format(a, "guidance %s", number_exact_float(c->guidance).text); break;
    case KEY_RESCALE:
        *out = arena_format(a, "guidance rescale %s", number_exact_float(c->guidance_rescale).text);
        break;
    case KEY_ETA: *out = arena_format(a, "eta %s", number_exact_float(c->eta).text); break;
    case KEY_VARIANCE: *out = lk_variance_name(c->variance); break;
    case KEY_SPACING: *out = lk_spacing_name(c->spacing); break;
    case KEY_WIDTH: *out = arena_format(a, "width %d", c->width); break;
    case KEY_HEIGHT: *out = arena_format(a, "height %d", c->height); break;
    case KEY_CLIP_SKIP: *out = arena_format(a, "clip skip %d", c->clip_skip); break;
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
        ok = ok && (json_object_set(one, keys[k].name, value) == 0 || plan_no_memory(r));
        ok = ok && read_layer(r, one, false, &out->entry[i]) &&
             name_entry(r, k, &out->entry[i].value, &out->label[i]);
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
    while (k < KEYS && strcmp(keys[k].name, key) != 0) k++;
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
                              k == KEY_SCHEDULE ? "model, schedule or switch" : keys[k].name);
    if (!axis_alloc(r, out, (size_t)a->count * (size_t)b->count) ||
        !axis_levels(r, out, a->levels + b->levels))
        return false;
    for (int i = 0; i < out->count; i++) {
        int x = i / b->count, y = i % b->count;
        for (int k = 0; k < a->levels; k++) out->part[k * out->count + i] = a->part[k * a->count + x];
        for (int k = 0; k < b->levels; k++)
            out->part[(a->levels + k) * out->count + i] = b->part[k * b->count + y];
        out->entry[i] = a->entry[x];
        lay_over(&out->entry[i], &b->entry[y]);
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
            !read_layer(r, object, true, &out->entry[i]))
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

/* Rows or columns of a section. */
static bool read_axis(plan_reader *r, json_t *section, const char *name, axis *out)
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

/* ---- cells ---------------------------------------------------------------------------------- */

/* What lk_schedule_open said, its advice on flags replaced by the plan's models. */
static bool wrong_schedule(const plan_reader *r, lk_error *why)
{
    char list[512];
    if (why->code == LK_MEMORY) return plan_no_memory(r);
    char *advice = strstr(why->text, "; give it with -m");
    if (!advice) return plan_wrong(r, "%.600s", why->text);
    *advice = '\0';
    return plan_wrong(r, "%.400s; there are %s", why->text, plan_list_models(r, list, sizeof list));
}

/* The mix and its normal text: the model's name where it is alone. */
static bool make_mix(plan_reader *r, study_cell *c)
{
    const study_plan *p = r->plan;
    lk_error why = {0};
    if (!lk_schedule_open(&c->mix, c->schedule, p->model_name, p->models, c->steps, &why))
        return wrong_schedule(r, &why);
    int alone = cell_model(c);
    if (alone >= 0) {
        c->schedule = p->model_name[alone];
        return true;
    }
    char *text = NULL;
    c->schedule = lk_schedule_text(&text, c->mix, p->model_name, NULL) ? arena_strdup(&r->plan->memory, text) : NULL;
    lk_free(text);
    return c->schedule || plan_no_memory(r);
}

static bool make_cell(plan_reader *r, const layer *base, const layer *column, const layer *row,
                      study_cell *out)
{
    layer all = *base;
    for (int k = 0; k < KEYS; k++)
        if (is_given(column, (setting_key)k) && is_given(row, (setting_key)k) &&
            !value_equal(column, row, (setting_key)k))
            return plan_wrong(
                r, "row and column both give \"%s\", and differ; leave it to one of them",
                k == KEY_SCHEDULE ? "model or schedule" : keys[k].name);
    lay_over(&all, column);
    lay_over(&all, row);
    if (!is_given(&all, KEY_PROMPT))
        return plan_wrong(
            r, "has no \"prompt\"; give it in the row, the column, the section's settings or "
               "the plan's defaults");
    if (!is_given(&all, KEY_SCHEDULE)) {
        if (r->plan->models > 1)
            return plan_wrong(r, "has no \"model\" and no \"schedule\"; give one");
        all.value.schedule = r->plan->model_name[0];
    }
    /* What its sampler does not look at must not make a picture another one. */
    study_cell *c = &all.value;
    if (!lk_sampler_has_variance(c->sampler)) c->variance = LK_VARIANCE_MODEL;
    if (!lk_sampler_has_eta(c->sampler)) c->eta = 0;
    r->steps += c->steps;
    if (r->steps > MAX_ALL_STEPS)
        return plan_wrong(r, "more than %d steps in all; make the study smaller or split it",
                          MAX_ALL_STEPS);
    *out = all.value;
    return make_mix(r, out);
}

static bool make_cells(plan_reader *r, const layer *base, const axis *rows, const axis *columns,
                       study_section *s)
{
    int64_t count = (int64_t)rows->count * columns->count;
    r->cells += count;
    if (r->cells > MAX_CELLS)
        return plan_wrong(
            r,
            "its %d x %d pictures are more than the %d that a study may have; make it "
            "smaller or split it",
            rows->count, columns->count, MAX_CELLS);
    s->cell = arena_alloc(&r->plan->memory, (size_t)count * sizeof *s->cell);
    if (!s->cell) return plan_no_memory(r);
    s->rows = rows->count; /* from here on study_plan_close finds the mixes */
    s->columns = columns->count;
    s->row_label = rows->label;
    s->column_label = columns->label;
    s->row_levels = rows->levels;
    s->column_levels = columns->levels;
    s->row_part = rows->part;
    s->column_part = columns->part;
    for (int i = 0; i < (int)count; i++) {
        int row = i / s->columns, column = i % s->columns;
        size_t place = plan_enter(r, ".rows[%d] x columns[%d]", row, column);
        if (!make_cell(r, base, &columns->entry[column], &rows->entry[row], &s->cell[i]))
            return false;
        plan_leave(r, place);
    }
    return true;
}

/* ---- sections ------------------------------------------------------------------------------- */

static bool id_check(plan_reader *r, int index)
{
    const char *id = r->plan->section[index].id;
    if (id[strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-")] || strlen(id) > MAX_NAME)
        return plan_wrong(r, "\"id\" is \"%.80s\"; it should be at most %d of a-z, 0-9 and -", id,
                          MAX_NAME);
    for (int i = 0; i < index; i++)
        if (strcmp(r->plan->section[i].id, id) == 0)
            return plan_wrong(r, "\"id\" is \"%.80s\", as that of sections[%d]; give it its own",
                              id, i);
    return true;
}

static bool read_section(plan_reader *r, json_t *object, const layer *defaults, int index)
{
    static const char *const known[] = {"id",      "title", "about", "settings", "rows",
                                        "columns", "shown", NULL};
    fields f = {object, r->where, r->e, true};
    study_section *s = &r->plan->section[index];
    size_t place = plan_enter(r, "sections[%d]", index);
    layer base = *defaults, own;
    axis rows, columns;
    if (!json_is_object(object)) return plan_wrong(r, "should be an object: {...}");
    if (!plan_keys_known(r, object, known) ||
        !plan_read_text(r, object, "id", true, NULL, &s->id) || !id_check(r, index) ||
        !plan_read_text(r, object, "title", true, NULL, &s->title) ||
        !plan_read_text(r, object, "about", false, "", &s->about))
        return false;
    s->hidden = !field_bool(&f, "shown", true);
    if (!f.ok) return false;
    json_t *settings = json_object_get(object, "settings");
    if (settings) {
        if (!plan_is_object(r, settings, "settings")) return false;
        size_t inner = plan_enter(r, ".settings");
        if (!read_layer(r, settings, false, &own)) return false;
        plan_leave(r, inner);
        lay_over(&base, &own);
    }
    if (!read_axis(r, object, "rows", &rows) || !read_axis(r, object, "columns", &columns) ||
        !make_cells(r, &base, &rows, &columns, s))
        return false;
    plan_leave(r, place);
    return true;
}

static bool read_sections(plan_reader *r, json_t *root)
{
    study_plan *p = r->plan;
    layer defaults = {.value = {.negative = "", .guidance = 7.5f, .steps = 50}}, own;
    json_t *object = json_object_get(root, "defaults"), *list = json_object_get(root, "sections");
    if (object) {
        if (!plan_is_object(r, object, "defaults")) return false;
        size_t place = plan_enter(r, "defaults");
        if (!read_layer(r, object, false, &own)) return false;
        plan_leave(r, place);
        lay_over(&defaults, &own);
    }
    if (!json_is_array(list) || !json_array_size(list))
        return plan_wrong(r, "\"sections\" should be a list with at least one section");
    if (json_array_size(list) > MAX_CELLS)
        return plan_wrong(r, "\"sections\" has more than %d", MAX_CELLS);
    int count = (int)json_array_size(list);
    p->section = arena_alloc(&p->memory, (size_t)count * sizeof *p->section);
    if (!p->section) return plan_no_memory(r);
    p->sections = count;
    for (int i = 0; i < count; i++)
        if (!read_section(r, json_array_get(list, (size_t)i), &defaults, i)) return false;
    return true;
}

/* ---- the whole ------------------------------------------------------------------------------ */

static bool read_measures(plan_reader *r, json_t *root)
{
    static const char *const known[] = {"noises", NULL};
    json_t *object = json_object_get(root, "measures");
    r->plan->measure_noises = 2;
    if (!object) return true;
    if (!plan_is_object(r, object, "measures")) return false;
    size_t place = plan_enter(r, "measures");
    fields f = {object, r->where, r->e, true};
    if (!plan_keys_known(r, object, known)) return false;
    r->plan->measure_noises = field_int(&f, "noises", 2, 1, 1000);
    plan_leave(r, place);
    return f.ok;
}

static bool read_all(plan_reader *r, json_t *root)
{
    static const char *const known[] = {"title",    "about",    "defaults", "models",
                                        "sections", "measures", NULL};
    return plan_keys_known(r, root, known) &&
           plan_read_text(r, root, "title", false, "A study", &r->plan->title) &&
           plan_read_text(r, root, "about", false, "", &r->plan->about) && read_measures(r, root) &&
           plan_read_models(r, root) && read_sections(r, root);
}

static bool keep_text(plan_reader *r, json_t *json)
{
    char *text = json_text(json, JSON_INDENT(2));
    r->plan->text = text ? arena_format(&r->plan->memory, "%s\n", text) : NULL;
    free(text);
    return r->plan->text || plan_no_memory(r);
}

bool plan_read_json(study_plan *out, json_t *json, const char *path, const char *folder,
                    const char *root, error *e)
{
    size_t length = strlen(path);
    plan_reader r = {.plan = out, .path = path, .folder = folder, .root = root, .e = e};
    *out = (study_plan){0};
    /* Of a very long path the end says more. */
    snprintf(r.where, PLACE, "%.1000s", length > 1000 ? path + length - 1000 : path);
    r.file_length = strlen(r.where);
    bool ok = read_all(&r, json) && keep_text(&r, json);
    if (!ok) study_plan_close(out);
    return ok;
}

bool study_plan_read(study_plan *out, const char *path, const char *root, error *e)
{
    const char *slash = strrchr(path, '/');
    fields f;
    *out = (study_plan){0};
    if (!fields_open(&f, path, FILE_LIMIT, e)) return false;
    char *folder = slash == path ? strdup("/")
                   : slash       ? strndup(path, (size_t)(slash - path))
                                 : strdup(".");
    bool ok = folder ? plan_read_json(out, f.root, path, folder, root, e)
                     : error_memory(e, path, strlen(path));
    free(folder);
    fields_close(&f);
    return ok;
}

void study_plan_close(study_plan *p)
{
    for (int i = 0; i < p->sections; i++)
        for (int k = 0; k < p->section[i].rows * p->section[i].columns; k++)
            lk_schedule_close(&p->section[i].cell[k].mix);
    arena_free(&p->memory);
    *p = (study_plan){0};
}

int cell_model(const study_cell *c) { return c->mix ? lk_schedule_alone(c->mix) : -1; }

bool cell_uses(const study_cell *c, int which)
{
    for (int i = 0; i < lk_schedule_steps(c->mix); i++) {
        const lk_schedule_step *s = lk_schedule_at(c->mix, i);
        for (int k = 0; k < s->parts; k++)
            if (s->model[k] == which) return true;
    }
    return false;
}

lk_generate_options cell_options(const study_cell *c)
{
    lk_generate_options o;
    lk_generate_defaults(&o);
    o.prompt = c->prompt;
    o.negative = c->negative;
    o.seed = c->seed;
    o.width = c->width;
    o.height = c->height;
    o.sampler = c->sampler;
    o.steps = c->steps;
    o.eta = c->eta;
    o.variance = c->variance;
    o.spacing = c->spacing;
    o.guidance = c->guidance;
    o.guidance_rescale = c->guidance_rescale;
    o.clip_skip = c->clip_skip;
    return o;
}
