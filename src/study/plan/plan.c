/* SPDX-License-Identifier: Apache-2.0
 *
 * plan: reads a study from JSON: its sections, and the whole. Everything wrong is told with its
 * place: "report.json: sections[2].rows[1]: ...". */
#include "plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file/json.h"
#include "layers.h"

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
    static const char *const known[] = {"id",   "title",   "about", "settings",
                                        "rows", "columns", "shown", NULL};
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
        if (!layer_read(r, settings, false, &own)) return false;
        plan_leave(r, inner);
        layer_lay(&base, &own);
    }
    if (!axis_read(r, object, "rows", &rows) || !axis_read(r, object, "columns", &columns) ||
        !plan_make_cells(r, &base, &rows, &columns, s))
        return false;
    plan_leave(r, place);
    return true;
}

static bool read_sections(plan_reader *r, json_t *root)
{
    study_plan *p = r->plan;
    layer defaults = {.value = {.negative = "",
                                .guidance = 7.5f,
                                .steps = 50,
                                .strength = 0.8,
                                .hires_strength = 0.7}},
          own;
    json_t *object = json_object_get(root, "defaults"), *list = json_object_get(root, "sections");
    if (object) {
        if (!plan_is_object(r, object, "defaults")) return false;
        size_t place = plan_enter(r, "defaults");
        if (!layer_read(r, object, false, &own)) return false;
        plan_leave(r, place);
        layer_lay(&defaults, &own);
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
    plan_close_nets(p);
    plan_close_pictures(p);
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

int cell_steps(const study_cell *c) { return lk_schedule_steps(c->mix); }

int cell_second_steps(const study_cell *c)
{
    if (c->hires == 0) return 0;
    return c->hires_steps ? c->hires_steps : c->steps;
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
    o.sigmas = c->sigmas;
    o.guidance = c->guidance;
    o.guidance_rescale = c->guidance_rescale;
    o.clip_skip = c->clip_skip;
    o.deep_cache = c->deep_cache;
    o.prompt_syntax = c->prompt_syntax;
    o.rng = c->rng;
    o.init_image = c->init ? c->init->image : NULL;
    o.strength = c->strength;
    o.mask = c->mask ? c->mask->image : NULL;
    o.tile = c->tile;
    o.controls = c->control ? c->control->list : NULL;
    o.control_count = c->control ? c->control->count : 0;
    o.hires = c->hires;
    o.hires_steps = c->hires_steps;
    o.hires_strength = c->hires_strength;
    o.hires_upscaler = c->hires_upscaler;
    return o;
}
