/* SPDX-License-Identifier: Apache-2.0
 *
 * mixed: several models in one picture, by a schedule. */
#include "api/api.h"

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

bool lk_schedule_check(const char *schedule, const char *const *names, int count, int steps,
                       lk_error *caller)
{
    error e = {0};
    mix m = {0};
    bool ok = names_check(names, count, &e) && mix_parse(&m, schedule, names, count, steps, &e);
    mix_close(&m);
    return api_report(ok, &e, caller);
}

/* One picture, by the models in turn; schedule NULL: by the first alone. */
static mixed one_picture(lk_session *s, lk_model *const *models, const char *const *names,
                         int count, const char *schedule, const lk_generate_options *const *o)
{
    return (mixed){.session = s,
                   .model = models,
                   .name = names,
                   .count = count,
                   .schedule = schedule,
                   .given = o,
                   .pictures = 1};
}

bool lk_generate_check_mixed(lk_session *s, lk_model *const *models, const char *const *names,
                             int count, const char *schedule, const lk_generate_options *o,
                             char **notes, lk_error *caller)
{
    error e = {0};
    mixed t = one_picture(s, models, names, count, schedule, &o);
    return api_report(mixed_check(&t, notes, &e), &e, caller);
}

bool lk_generate_settings_mixed(char **text, lk_session *s, lk_model *const *models,
                                const char *const *names, int count, const char *schedule,
                                const lk_generate_options *o, lk_error *caller)
{
    error e = {0};
    mixed t = one_picture(s, models, names, count, schedule, &o);
    return api_report(mixed_settings(text, &t, &e), &e, caller);
}

bool lk_generate_mixed(lk_image **out, lk_session *s, lk_model *const *models,
                       const char *const *names, int count, const char *schedule,
                       const lk_generate_options *o, lk_error *caller)
{
    error e = {0};
    mixed t = one_picture(s, models, names, count, schedule, &o);
    return api_report(mixed_run(out, &t, &e), &e, caller);
}
