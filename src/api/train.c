/* SPDX-License-Identifier: Apache-2.0
 *
 * train: lk_train, and its settings by their names. */
#include "api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "generate/make_image.h"
#include "train/train.h"

_Static_assert((int)LK_RATE_POLYNOMIAL == (int)RATE_POLYNOMIAL, "schedules are the same");
_Static_assert((int)LK_TRAIN_SAVING == (int)TRAIN_SAVING, "phases are the same");
_Static_assert((int)LK_ADAMW_F16 == (int)OPTIMIZER_ADAMW_F16, "optimizers are the same");

bool lk_rate_schedule_parse(lk_rate_schedule *out, const char *name)
{
    rate_schedule found;
    if (!rate_schedule_parse(&found, name)) return false;
    *out = (lk_rate_schedule)found;
    return true;
}

const char *lk_rate_schedule_name(lk_rate_schedule s)
{
    return rate_schedule_name((rate_schedule)s);
}

/* ---- settings: as the caller has them, and as we do ---- */

typedef struct field {
    size_t theirs, ours, bytes;
} field;

/* Fails to compile where a field has two sizes. */
#define BYTES(name)                                                                                \
    sizeof(char[sizeof((lk_train_options *)0)->name == sizeof((train_settings *)0)->name           \
                    ? (int)sizeof((train_settings *)0)->name                                       \
                    : -1])
#define SETTING(name, ...)                                                                         \
    {offsetof(lk_train_options, name), offsetof(train_settings, name), BYTES(name)},
static const field fields[] = {
#include "train/settings_table.h"
};
enum { FIELDS = sizeof fields / sizeof *fields };

train_settings api_train_settings(const lk_train_options *o)
{
    train_settings s;
    train_settings_defaults(&s);
    for (int i = 0; i < FIELDS; i++)
        memcpy((char *)&s + fields[i].ours, (const char *)o + fields[i].theirs, fields[i].bytes);
    s.has_seed = !o->any_seed;
    return s;
}

static void settings_out(lk_train_options *o, const train_settings *s)
{
    for (int i = 0; i < FIELDS; i++)
        memcpy((char *)o + fields[i].theirs, (const char *)s + fields[i].ours, fields[i].bytes);
    o->any_seed = !s->has_seed;
}

static lk_train_options train_defaults(void)
{
    lk_train_options o = {.size = sizeof o};
    train_settings s;
    train_settings_defaults(&s);
    settings_out(&o, &s);
    o.any_seed = false;
    o.class_steps = 50;
    o.class_guidance = 7.5f;
    return o;
}

void lk_train_defaults_sized(lk_train_options *o, size_t size)
{
    lk_train_options own = train_defaults();
    options_give(o, size, &own, sizeof own);
}

bool lk_train_set(lk_train_options *options, const char *name, const char *text, lk_error *caller)
{
    error e = {0};
    lk_train_options own = train_defaults();
    bool ok = api_options(&own, sizeof own, options, "lk_train_options", &e);
    if (ok) {
        size_t size = options->size;
        train_settings s = api_train_settings(&own);
        ok = train_setting_set(&s, name, text, &e);
        if (ok) {
            settings_out(&own, &s);
            memcpy(options, &own, size < sizeof own ? size : sizeof own);
            options->size = size;
        }
    }
    return api_report(ok, &e, caller);
}

bool lk_train_determines(const lk_train_options *options, const char *name)
{
    lk_train_options own = train_defaults();
    if (!api_options(&own, sizeof own, options, "lk_train_options", NULL)) return false;
    train_settings s = api_train_settings(&own);
    return train_setting_determines(&s, name);
}

double lk_train_learning_rate(const lk_train_options *options)
{
    lk_train_options own = train_defaults();
    api_options(&own, sizeof own, options, "lk_train_options", NULL);
    train_settings s = api_train_settings(&own);
    return train_learning_rate(&s);
}

bool lk_train_setting_at_sized(size_t i, lk_train_setting *out, size_t size)
{
    static const char *const groups[] = {
        [GROUP_WHAT] = "What",   [GROUP_LORA] = "LoRA",     [GROUP_INVERSION] = "Textual inversion",
        [GROUP_PRIOR] = "Prior", [GROUP_LENGTH] = "Length", [GROUP_HOW] = "How",
        [GROUP_WHERE] = "Where"};
    static const lk_setting_type types[] = {
        [SETTING_BOOL] = LK_SETTING_SWITCH,     [SETTING_INT] = LK_SETTING_WHOLE,
        [SETTING_LONG] = LK_SETTING_WHOLE,      [SETTING_SEED] = LK_SETTING_WHOLE,
        [SETTING_DOUBLE] = LK_SETTING_NUMBER,   [SETTING_TEXT] = LK_SETTING_TEXT,
        [SETTING_SCHEDULE] = LK_SETTING_CHOICE, [SETTING_OPTIMIZER] = LK_SETTING_CHOICE};
    if (i >= FIELDS) return false;
    const train_setting *t = &train_setting_list[i];
    lk_train_setting own = {.name = t->name,
                            .type = types[t->kind],
                            .value = t->value,
                            .group = groups[t->group],
                            .help = t->help,
                            .determines = t->effect != EFFECT_NEVER};
    snprintf(own.range, sizeof own.range, "%s", train_setting_range(t).text);
    snprintf(own.standard, sizeof own.standard, "%s", train_setting_standard(t).text);
    options_give(out, size, &own, sizeof own);
    return true;
}

/* ---- training ---- */

bool train_options_take(lk_train_options *own, const lk_train_options *given, error *e)
{
    *own = train_defaults();
    return api_options(own, sizeof *own, given, "lk_train_options", e);
}

generate_options api_class_image(const lk_train_options *o)
{
    lk_generate_options all;
    lk_generate_defaults(&all);
    all.sampler = LK_DDIM;
    all.steps = o->class_steps;
    all.guidance = o->class_guidance;
    return api_options_in(&all);
}

/* What a training's callbacks need to know. */
typedef struct training {
    lk_session *session;
    const model *base;
    generator *generator; /* of the base */
    lk_train_options o;
} training;

/* Of the class as the options say; for validation as lk_generate makes them by its defaults with
 * DDIM. */
static bool train_image(void *user, const image_order *order, image *out, char **text, error *e)
{
    const training *t = user;
    lk_generate_options defaults;
    lk_generate_defaults(&defaults);
    defaults.sampler = LK_DDIM;
    generate_options o = order->model == t->base ? api_class_image(&t->o)
                                                 : api_options_in(&defaults);
    o.prompt = order->prompt;
    o.seed = order->seed;
    o.progress = order->progress;
    o.user = order->user;
    return image_make(out, text, t->generator, order->model, &o, e);
}

static bool on_progress(void *user, const train_progress *p)
{
    const training *t = user;
    lk_train_progress out = {.size = sizeof out,
                             .phase = (lk_train_phase)p->phase,
                             .done = p->done,
                             .total = p->total,
                             .step = p->step,
                             .steps = p->steps,
                             .loss = p->report.loss,
                             .instance_loss = p->report.instance_loss,
                             .prior_loss = p->report.prior_loss,
                             .rate = p->report.rate,
                             .norm = p->report.norm,
                             .seconds = p->seconds,
                             .left = p->left,
                             .loss_scale = p->report.loss_scale,
                             .skipped = p->report.skipped};
    bool stop = t->o.progress && t->o.progress(t->o.user, &out) != 0;
    return stop || session_stopped(t->session);
}

static void on_say(void *user, const char *line)
{
    const training *t = user;
    session_say(t->session, line);
}

bool api_train_images_given(const lk_train_options *o, error *e)
{
    for (size_t i = 0; i < o->instance_count; i++)
        if (!o->instance_images || !o->instance_images[i])
            return error_set(e, ERROR_USAGE, "instance_images: picture %zu of %zu is NULL", i,
                             o->instance_count);
    return true;
}

const image **api_train_images(train_settings *s, const lk_train_options *o, error *e)
{
    if (!api_train_images_given(o, e)) return NULL;
    const image **images = calloc(o->instance_count + 1, sizeof *images);
    if (!images) error_memory(e, "a list of pictures", o->instance_count * sizeof *images);
    for (size_t i = 0; images && i < o->instance_count; i++)
        images[i] = &o->instance_images[i]->image;
    s->instance_images = images;
    s->instance_count = images ? o->instance_count : 0;
    return images;
}

static bool train(training *t, lk_model *m, error *e)
{
    train_settings settings = api_train_settings(&t->o);
    const image **pictures = api_train_images(&settings, &t->o, e);
    if (!pictures) return false;
    image_maker maker = {train_image, t};
    train_events events = {on_progress, on_say, t};
    t->base = m->model;
    t->generator = session_generator(t->session, m, e);
    bool ok = t->generator &&
              train_run(t->session->device, m->model, &settings, &maker, &events, e);
    free(pictures);
    return ok;
}

bool lk_train(lk_session *s, lk_model *m, const lk_train_options *given, lk_error *caller)
{
    error e = {0};
    training t = {.session = s};
    bool ok = train_options_take(&t.o, given, &e) && session_enter(s, &e);
    if (ok) {
        ok = train(&t, m, &e);
        session_leave(s);
    }
    return api_report(ok, &e, caller);
}
