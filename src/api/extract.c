/* SPDX-License-Identifier: Apache-2.0
 *
 * extract: lk_lora_extract, what a training changed as a LoRA. */
#include "api/api.h"

#include <stdlib.h>

#include "base/number.h"
#include "base/platform.h"
#include "model/extract.h"

static const lk_extract_options extract_defaults = {
    .size = sizeof(lk_extract_options), .rank = 32, .quantile = 0.99};

void lk_extract_defaults_sized(lk_extract_options *o, size_t size)
{
    options_give(o, size, &extract_defaults, sizeof extract_defaults);
}

/* "288 layers, 93.1 % of the difference; 0.2 % lies in weights that no LoRA has" */
static char *tell(const extract_result *r)
{
    return string_format("%zu layers, %s %% of the difference (its squares)%s%s%s", r->layers,
                         number_decimals(100 * r->kept, 2).text, r->beyond > 0 ? "; " : "",
                         r->beyond > 0 ? number_decimals(100 * r->beyond, 2).text : "",
                         r->beyond > 0 ? " % lies in weights that no LoRA has" : "");
}

static bool extract(lk_session *s, const model *base, const model *trained, const char *path,
                    const lk_extract_options *o, char **told, error *e)
{
    extract_options how = {.rank = o->rank, .quantile = o->quantile, .type = DTYPE_F32};
    extract_result result;
    api_watch watch;
    if (o->dtype && !precision_parse(&how.type, o->dtype))
        return error_set(e, ERROR_USAGE, "dtype \"%.40s\": there are f32, f16 and bf16", o->dtype);
    if (path_is_same(base->path, path) || path_is_same(trained->path, path))
        return error_set(e, ERROR_USAGE, "%s: a model lies there; choose another name", path);
    api_watch_start(&watch, o->progress, o->user, s);
    if (!lora_extract(base, trained, &how, path, s->device->pool, &watch.work, &result, e))
        return false;
    if (told) *told = tell(&result);
    return !told || *told || error_memory(e, path, 100);
}

bool lk_lora_extract(lk_session *s, lk_model *base, lk_model *trained, const char *path,
                     const lk_extract_options *given, char **told, lk_error *caller)
{
    error e = {0};
    lk_extract_options o = extract_defaults;
    if (told) *told = NULL;
    bool ok = api_options(&o, sizeof o, given, "lk_extract_options", &e) &&
              (path && *path
                   ? true
                   : error_set(&e, ERROR_USAGE, "where should the LoRA go? There is no path")) &&
              session_enter(s, &e);
    if (ok) {
        ok = extract(s, base->model, trained->model, path, &o, told, &e);
        session_leave(s);
    }
    return api_report(ok, &e, caller);
}
