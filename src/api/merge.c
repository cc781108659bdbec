/* SPDX-License-Identifier: Apache-2.0
 *
 * merge: lk_merge, one model out of several. */
#include "api/api.h"

#include "model/merge.h"

typedef struct merge_stop {
    int (*asked)(void *user);
    void *user;
} merge_stop;

static bool on_merge(void *user)
{
    const merge_stop *stop = user;
    return stop->asked(stop->user) != 0;
}

bool lk_merge(lk_model *const *models, const char *const *names, int count, const char *sum,
              const char *folder, int (*stop)(void *user), void *user, lk_error *caller)
{
    error e = {0};
    merge_stop asked = {stop, user};
    stop_check check = {stop ? on_merge : NULL, &asked};
    mix_step s;
    const model *part[MIX_MAX_TERMS];
    bool ok = names_check(names, count, &e) && mix_parse_sum(&s, sum, names, count, &e);
    for (int i = 0; ok && i < s.terms; i++) part[i] = models[s.model[i]]->model;
    return api_report(ok && model_merge(part, s.share, s.terms, folder, &check, &e), &e, caller);
}
