/* SPDX-License-Identifier: Apache-2.0
 *
 * controlnet: lk_controlnet, opened in a context, and the list of them that options hold. */
#include "api/api.h"

#include <stdlib.h>

bool lk_controlnet_open(lk_controlnet **out, lk_context *c, const char *path, lk_error *caller)
{
    error e = {0};
    lk_controlnet *n = *out = calloc(1, sizeof *n);
    bool ok = (n || error_memory(&e, "a ControlNet", sizeof *n)) &&
              (path || error_set(&e, ERROR_USAGE, "a ControlNet has no path")) &&
              controlnet_open(&n->net, path, c->device->pool, &e) &&
              device_weights_open(c->device, &n->net->weights, &n->weights, &e);
    if (!ok) lk_controlnet_close(out);
    return api_report(ok, &e, caller);
}

void lk_controlnet_close(lk_controlnet **net)
{
    if (!net || !*net) return;
    device_weights_close(&(*net)->weights);
    controlnet_close(&(*net)->net);
    free(*net);
    *net = NULL;
}

const char *lk_controlnet_hash(const lk_controlnet *net) { return net->net->hash; }

static bool list_controls(control **out, const lk_generate_options *o, error *e)
{
    *out = NULL;
    if (o->control_count < 0 || (o->control_count && !o->controls))
        return error_set(e, ERROR_USAGE, "%d ControlNets, and no list of them", o->control_count);
    if (!o->control_count) return true;
    size_t n = (size_t)o->control_count;
    control *list = *out = calloc(n, sizeof *list);
    if (!list) return error_memory(e, "ControlNets", n * sizeof *list);
    for (size_t i = 0; i < n; i++) {
        const lk_control *c = &o->controls[i];
        if (!c->net || !c->picture)
            return error_set(e, ERROR_USAGE, "ControlNet %zu lacks its %s", i + 1,
                             c->net ? "picture" : "network");
        list[i] = (control){c->net->net, &c->picture->image, c->scale};
    }
    return true;
}

bool api_options_all(generate_options *out, control **list, const lk_generate_options *o, error *e)
{
    *out = api_options_in(o);
    out->from = o->from ? &o->from->state : NULL;
    out->control_count = o->control_count;
    bool ok = list_controls(list, o, e);
    out->controls = *list;
    return ok;
}
