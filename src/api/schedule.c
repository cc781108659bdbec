/* SPDX-License-Identifier: Apache-2.0
 *
 * schedule: lk_schedule, a schedule's text read step by step. */
#include "api/api.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "generate/variants.h"

struct lk_schedule {
    mix mix;
};

_Static_assert((int)LK_SCHEDULE_PARTS == (int)MIX_MAX_TERMS &&
                   sizeof(lk_schedule_step) == sizeof(mix_step) &&
                   offsetof(lk_schedule_step, parts) == offsetof(mix_step, terms) &&
                   offsetof(lk_schedule_step, split) == offsetof(mix_step, split) &&
                   offsetof(lk_schedule_step, model) == offsetof(mix_step, model) &&
                   offsetof(lk_schedule_step, share) == offsetof(mix_step, share),
               "a step is the same");

bool lk_schedule_open(lk_schedule **out, const char *text, const char *const *names, int count,
                      int steps, lk_error *caller)
{
    error e = {0};
    *out = calloc(1, sizeof **out);
    bool ok = (*out || error_memory(&e, "a schedule", sizeof **out)) &&
              names_check(names, count, &e) &&
              mix_parse(&(*out)->mix, text, names, count, steps, &e);
    if (!ok) lk_schedule_close(out);
    return api_report(ok, &e, caller);
}

void lk_schedule_close(lk_schedule **s)
{
    if (!s || !*s) return;
    mix_close(&(*s)->mix);
    free(*s);
    *s = NULL;
}

int lk_schedule_steps(const lk_schedule *s) { return s->mix.count; }

const lk_schedule_step *lk_schedule_at(const lk_schedule *s, int step)
{
    return (const lk_schedule_step *)&s->mix.step[step];
}

bool lk_schedule_step_same(const lk_schedule_step *a, const lk_schedule_step *b)
{
    return mix_step_equal((const mix_step *)a, (const mix_step *)b);
}

int lk_schedule_common(const lk_schedule *a, const lk_schedule *b)
{
    return mix_common(&a->mix, &b->mix);
}

int lk_schedule_alone(const lk_schedule *s)
{
    const mix_step *first = s->mix.step;
    if (first->terms != 1 || first->share[0] != 1) return -1;
    for (int i = 1; i < s->mix.count; i++)
        if (!mix_step_equal(first, &first[i])) return -1;
    return first->model[0];
}

bool lk_schedule_switch(const lk_schedule *s, int *first, int *second, int *at)
{
    return mix_is_switch(&s->mix, first, second, at);
}

_Static_assert(sizeof(lk_schedule_variant) == sizeof(variant) &&
                   offsetof(lk_schedule_variant, name) == offsetof(variant, name) &&
                   offsetof(lk_schedule_variant, model) == offsetof(variant, model) &&
                   offsetof(lk_schedule_variant, loras) == offsetof(variant, loras) &&
                   offsetof(lk_schedule_variant, lora) == offsetof(variant, lora) &&
                   offsetof(lk_schedule_variant, weight) == offsetof(variant, weight),
               "a variant is the same");

bool lk_schedule_variants(char **schedule, lk_schedule_variant **variants, int *count,
                          const char *text, const char *const *names, int models,
                          const char *const *lora_names, int loras, lk_error *caller)
{
    error e = {0};
    variant *list = NULL;
    const variant_names all = {names, models, lora_names, loras};
    *schedule = NULL;
    *count = 0;
    bool ok = names_check(names, models, &e);
    for (int i = 0; ok && i < loras; i++)
        for (int k = 0; ok && k < i; k++)
            ok = strcmp(lora_names[i], lora_names[k]) != 0 ||
                 error_set(&e, ERROR_USAGE, "two LoRAs have the name %s; give each its own",
                           lora_names[i]);
    ok = ok && variants_read(schedule, &list, count, text, &all, &e);
    *variants = (lk_schedule_variant *)list;
    return api_report(ok, &e, caller);
}

bool lk_schedule_text(char **out, const lk_schedule *s, const char *const *names, lk_error *caller)
{
    error e = {0};
    *out = mix_text(&s->mix, names);
    return api_report(*out || error_memory(&e, "a schedule's text", 64), &e, caller);
}
