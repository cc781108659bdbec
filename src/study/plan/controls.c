/* SPDX-License-Identifier: Apache-2.0
 *
 * controls: the ControlNets of a plan's cells. Networks are opened where models are; what a
 * cell asks for of them is kept once, so that equal ones are one. */
#include <string.h>

#include "base/number.h"
#include "layers.h"

static bool find_net(plan_reader *r, const char *path, study_net **out)
{
    for (study_net *n = r->plan->net; n; n = n->next)
        if (strcmp(n->path, path) == 0) {
            *out = n;
            return true;
        }
    study_net *n = *out = arena_alloc(&r->plan->memory, sizeof *n);
    if (!n) return plan_no_memory(r);
    *n = (study_net){.path = path, .next = r->plan->net};
    r->plan->net = n;
    return true;
}

/* {"file": "canny.safetensors", "image": "edges.png", "scale": 0.8} */
static bool read_control(plan_reader *r, json_t *object, study_control *out)
{
    static const char *const known[] = {"file", "image", "scale", NULL};
    const char *path;
    if (!json_is_object(object))
        return plan_wrong(r, "should be an object such as {\"file\": \"canny.safetensors\", "
                             "\"image\": \"edges.png\", \"scale\": 0.8}");
    if (!plan_keys_known(r, object, known) ||
        !plan_read_path(r, object, "file", true, false, &path) || !find_net(r, path, &out->net) ||
        !plan_read_picture(r, object, "image", &out->picture))
        return false;
    fields f = {object, r->where, r->e, true};
    out->scale = field_float(&f, "scale", 1);
    return f.ok;
}

static bool same_controls(const study_controls *a, const study_controls *b)
{
    bool same = a->count == b->count;
    for (int i = 0; same && i < a->count; i++)
        same = a->item[i].net == b->item[i].net && a->item[i].picture == b->item[i].picture &&
               a->item[i].scale == b->item[i].scale;
    return same;
}

bool plan_read_controls(plan_reader *r, json_t *object, study_cell *c)
{
    json_t *list = json_object_get(object, "control"), *one;
    size_t i, count = json_array_size(list);
    if (!json_is_array(list) || count > MAX_CONTROLS)
        return plan_wrong(r,
                          "\"control\" should be a list of at most %d, such as [{\"file\": "
                          "\"canny.safetensors\", \"image\": \"edges.png\"}]",
                          MAX_CONTROLS);
    c->control = NULL;
    if (!count) return true;
    study_controls *all = arena_alloc(&r->plan->memory, sizeof *all);
    if (!all) return plan_no_memory(r);
    *all = (study_controls){.count = (int)count, .next = r->plan->control};
    json_array_foreach(list, i, one)
    {
        size_t place = plan_enter(r, ".control[%zu]", i);
        if (!read_control(r, one, &all->item[i])) return false;
        plan_leave(r, place);
    }
    for (c->control = r->plan->control; c->control; c->control = c->control->next)
        if (same_controls(c->control, all)) return true;
    c->control = r->plan->control = all;
    return true;
}

bool plan_name_controls(plan_reader *r, const study_cell *c, const char **out)
{
    *out = c->control ? "" : "no control";
    for (int i = 0; c->control && i < c->control->count; i++) {
        const study_control *one = &c->control->item[i];
        const char *net = strrchr(one->net->path, '/'), *seen = strrchr(one->picture->path, '/');
        *out = arena_format(&r->plan->memory, "%s%s%s of %s at %s", *out, i ? ", " : "", net + 1,
                            seen + 1, number_exact_float(one->scale).text);
        if (!*out) break;
    }
    return *out || plan_no_memory(r);
}

bool plan_open_nets(study_plan *p, lk_context *context, error *e)
{
    for (study_net *n = p->net; n; n = n->next) {
        lk_error why = {0};
        if (!n->open && !lk_controlnet_open(&n->open, context, n->path, &why))
            return engine_failed(&why, e);
    }
    for (study_controls *all = p->control; all; all = all->next)
        for (int i = 0; i < all->count; i++)
            all->list[i] = (lk_control){all->item[i].net->open, all->item[i].picture->image,
                                        all->item[i].scale};
    return true;
}

void plan_close_nets(study_plan *p)
{
    for (study_net *n = p->net; n; n = n->next) lk_controlnet_close(&n->open);
    p->net = NULL;
}
