/* SPDX-License-Identifier: Apache-2.0
 *
 * merge: lk_merge, one model out of several. */
#include "api/api.h"

#include "model/merge.h"

static const lk_merge_options merge_defaults = {.size = sizeof(lk_merge_options)};

void lk_merge_defaults_sized(lk_merge_options *o, size_t size)
{
    options_give(o, size, &merge_defaults, sizeof merge_defaults);
}

static bool merge(lk_session *s, lk_model *const *models, const mix_step *sum, const char *folder,
                  const lk_merge_options *o, error *e)
{
    const model *part[MIX_MAX_TERMS];
    api_watch watch;
    for (int i = 0; i < sum->terms; i++) part[i] = models[sum->model[i]]->model;
    api_watch_start(&watch, o->progress, o->user, s);
    return model_merge(part, sum->share, sum->terms, folder, &watch.work, e);
}

bool lk_merge(lk_session *s, lk_model *const *models, const char *const *names, int count,
              const char *sum, const char *folder, const lk_merge_options *given, lk_error *caller)
{
    error e = {0};
    lk_merge_options o = merge_defaults;
    mix_step step;
    bool ok = api_options(&o, sizeof o, given, "lk_merge_options", &e) &&
              names_check(names, count, &e) && mix_parse_sum(&step, sum, names, count, &e) &&
              session_enter(s, &e);
    if (ok) {
        ok = merge(s, models, &step, folder, &o, &e);
        session_leave(s);
    }
    return api_report(ok, &e, caller);
}
