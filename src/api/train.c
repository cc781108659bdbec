/* SPDX-License-Identifier: Apache-2.0
 *
 * train: lk_train. */
#include "api/api.h"

#include "generate/picture.h"
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

static lk_train_options train_defaults(void)
{
    train_settings s;
    train_settings_defaults(&s);
    return (lk_train_options){
        .size = sizeof(lk_train_options),
        .train_batch_size = s.train_batch_size,
        .gradient_accumulation_steps = s.gradient_accumulation_steps,
        .num_train_epochs = s.num_train_epochs,
        .learning_rate = s.learning_rate,
        .lr_scheduler = (lk_rate_schedule)s.lr_scheduler,
        .lr_warmup_steps = s.lr_warmup_steps,
        .lr_num_cycles = s.lr_num_cycles,
        .lr_power = s.lr_power,
        .adam_beta1 = s.adam_beta1,
        .adam_beta2 = s.adam_beta2,
        .adam_weight_decay = s.adam_weight_decay,
        .adam_epsilon = s.adam_epsilon,
        .max_grad_norm = s.max_grad_norm,
        .prior_loss_weight = s.prior_loss_weight,
        .num_class_images = s.num_class_images,
        .cache_latents = s.cache_latents,
        .checkpointing_steps = s.checkpointing_steps,
        .num_validation_images = s.num_validation_images,
        .validation_steps = s.validation_steps,
    };
}

void lk_train_defaults_sized(lk_train_options *o, size_t size)
{
    lk_train_options own = train_defaults();
    api_give(o, size, &own, sizeof own);
}

static train_settings train_settings_in(const lk_train_options *o)
{
    train_settings s;
    train_settings_defaults(&s);
    s.instance_data_dir = o->instance_data_dir;
    s.instance_prompt = o->instance_prompt;
    s.class_data_dir = o->class_data_dir;
    s.class_prompt = o->class_prompt;
    s.output_dir = o->output_dir;
    s.resolution = o->resolution;
    s.center_crop = o->center_crop;
    s.train_batch_size = o->train_batch_size;
    s.gradient_accumulation_steps = o->gradient_accumulation_steps;
    s.max_train_steps = o->max_train_steps;
    s.num_train_epochs = o->num_train_epochs;
    s.learning_rate = o->learning_rate;
    s.scale_lr = o->scale_lr;
    s.lr_scheduler = (rate_schedule)o->lr_scheduler;
    s.lr_warmup_steps = o->lr_warmup_steps;
    s.lr_num_cycles = o->lr_num_cycles;
    s.lr_power = o->lr_power;
    s.optimizer = (train_optimizer)o->optimizer;
    s.adam_beta1 = o->adam_beta1;
    s.adam_beta2 = o->adam_beta2;
    s.adam_weight_decay = o->adam_weight_decay;
    s.adam_epsilon = o->adam_epsilon;
    s.max_grad_norm = o->max_grad_norm;
    s.seed = o->seed;
    s.has_seed = !o->any_seed;
    s.train_text_encoder = o->train_text_encoder;
    s.gradient_checkpointing = o->gradient_checkpointing;
    s.snr_gamma = o->snr_gamma;
    s.offset_noise = o->offset_noise;
    s.with_prior_preservation = o->with_prior_preservation;
    s.prior_loss_weight = o->prior_loss_weight;
    s.num_class_images = o->num_class_images;
    s.prior_from_base = o->prior_from_base;
    s.cache_latents = o->cache_latents;
    s.checkpointing_steps = o->checkpointing_steps;
    s.checkpoints_total_limit = o->checkpoints_total_limit;
    s.resume_from_checkpoint = o->resume_from_checkpoint;
    s.validation_prompt = o->validation_prompt;
    s.num_validation_images = o->num_validation_images;
    s.validation_steps = o->validation_steps;
    return s;
}

/* What a training's callbacks need to know. */
typedef struct training {
    lk_session *session;
    generator *generator; /* of the base */
    lk_train_options o;
} training;

/* As lk_generate makes them by its defaults. */
static bool train_picture(void *user, const picture_order *order, image *out, char **text, error *e)
{
    const training *t = user;
    lk_generate_options defaults;
    lk_generate_defaults(&defaults);
    generate_options o = api_options_in(&defaults);
    o.prompt = order->prompt;
    o.seed = order->seed;
    o.progress = order->progress;
    o.user = order->user;
    return picture_make(out, text, t->generator, order->model, &o, e);
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
                             .left = p->left};
    bool stop = t->o.progress && t->o.progress(t->o.user, &out) != 0;
    return stop || session_stopped(t->session);
}

static void on_say(void *user, const char *line)
{
    const training *t = user;
    session_say(t->session, line);
}

static bool train(training *t, lk_model *m, error *e)
{
    train_settings settings = train_settings_in(&t->o);
    picture_maker maker = {train_picture, t};
    train_events events = {on_progress, on_say, t};
    t->generator = session_generator(t->session, m, e);
    return t->generator && train_run(t->session->device, m->model, &settings, &maker, &events, e);
}

bool lk_train(lk_session *s, lk_model *m, const lk_train_options *given, lk_error *caller)
{
    error e = {0};
    training t = {.session = s, .o = train_defaults()};
    bool ok = api_options(&t.o, sizeof t.o, given, "lk_train_options", &e) && session_enter(s, &e);
    if (ok) {
        ok = train(&t, m, &e);
        session_leave(s);
    }
    return api_report(ok, &e, caller);
}
