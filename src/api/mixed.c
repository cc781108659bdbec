/* SPDX-License-Identifier: Apache-2.0
 *
 * mixed: several models in one picture, by a schedule. */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

bool names_check(const char *const *names, int count, error *e)
{
    for (int i = 0; i < count; i++)
        for (int k = 0; k < i; k++)
            if (strcmp(names[i], names[k]) == 0)
                return error_set(e, ERROR_USAGE, "two models have the name %s; give each its own",
                                 names[i]);
    return true;
}

static bool models_check(const turns *t, error *e)
{
    for (int i = 1; i < t->count; i++)
        if (t->model[i]->device != t->model[0]->device)
            return error_set(e, ERROR_USAGE, "%s and %s are open in two contexts; models of one "
                             "picture share one", t->name[0], t->name[i]);
    return names_check(t->name, t->count, e);
}

bool lk_schedule_check(const char *schedule, const char *const *names, int count, int steps,
                       lk_error *caller)
{
    error e = {0};
    mix m = {0};
    bool ok = names_check(names, count, &e) && mix_parse(&m, schedule, names, count, steps, &e);
    mix_close(&m);
    return api_report(ok, &e, caller);
}

bool lk_generate_check_mixed(lk_model *const *models, const char *const *names, int count,
                             const char *schedule, const lk_generate_options *o, char **notes,
                             lk_error *caller)
{
    error e = {0};
    mix m = {0};
    turns t = {models, names, count, &m};
    generate_options options = api_options_in(o);
    if (notes) *notes = NULL;
    bool ok = models_check(&t, &e) && mix_parse(&m, schedule, names, count, o->steps, &e);
    generator **generators = ok ? turns_generators(&t, &e) : NULL;
    ok = generators && api_latents_fit(turns_first(&t), o, &e) &&
         generator_check_mixed(generators, count, &m, &options, notes, &e);
    free(generators);
    mix_close(&m);
    return api_report(ok, &e, caller);
}

bool lk_generate_settings_mixed(char **text, lk_model *const *models, const char *const *names,
                                int count, const char *schedule, const lk_generate_options *o,
                                lk_error *caller)
{
    error e = {0};
    mix m = {0};
    turns t = {models, names, count, &m};
    *text = NULL;
    bool ok = models_check(&t, &e) && mix_parse(&m, schedule, names, count, o->steps, &e) &&
              turns_settings(text, &t, o, &e);
    mix_close(&m);
    return api_report(ok, &e, caller);
}

bool lk_generate_mixed(lk_picture **out, lk_model *const *models, const char *const *names,
                       int count, const char *schedule, const lk_generate_options *o,
                       lk_error *caller)
{
    error e = {0};
    mix m = {0};
    turns t = {models, names, count, &m};
    *out = NULL;
    bool ok = models_check(&t, &e) && mix_parse(&m, schedule, names, count, o->steps, &e) &&
              turns_run(out, &t, o, &e);
    mix_close(&m);
    return api_report(ok, &e, caller);
}

