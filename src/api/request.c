/* SPDX-License-Identifier: Apache-2.0
 *
 * request: what can be said of a training before it is made. */
#include "api/api.h"

#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"
#include "train/inversion.h"
#include "train/lora.h"
#include "train/parameters.h"
#include "train/request.h"

bool lk_train_check(const lk_train_options *given, lk_error *caller)
{
    error e = {0};
    lk_train_options o;
    bool ok = train_options_take(&o, given, &e);
    train_settings s = api_train_settings(&o);
    s.instance_count = o.instance_count; /* their number alone is looked at */
    ok = ok && api_train_images_given(&o, &e) && train_settings_check(&s, &e);
    return api_report(ok, &e, caller);
}

size_t lk_train_memory(const lk_model *m, const lk_train_options *given)
{
    lk_train_options o;
    if (!train_options_take(&o, given, NULL)) return 0;
    train_settings s = api_train_settings(&o);
    static const weight_set none;
    lora_sets lora;
    const weight_set *unet = &m->model->unet_weights,
                     *clip = s.train_text_encoder ? &m->model->clip_weights : &none;
    if (s.textual_inversion) {
        inversion v;
        if (!inversion_open(&v, m->model, &s, NULL)) return 0;
        parameter_sizes z = parameters_sizes(&none, &v.begins, &s);
        inversion_close(&v);
        return z.weights + z.states + z.sums;
    }
    if (!lora_open(&lora, m->model, &s, NULL)) return 0;
    parameter_sizes z = s.lora_rank ? parameters_sizes(&lora.unet, &lora.clip, &s)
                                    : parameters_sizes(unet, clip, &s);
    lora_close(&lora);
    return z.weights + z.states + z.sums;
}

void lk_train_base_defaults_sized(lk_train_base *b, size_t size)
{
    static const lk_train_base usual = {.size = sizeof(lk_train_base)};
    options_give(b, size, &usual, sizeof usual);
}

/* How class pictures are made, in the words of their settings; malloc'ed. */
static char *class_maker(const lk_train_options *o)
{
    generate_options g = api_class_image(o);
    return string_format("Steps: %d, Sampler: DDIM, CFG scale: %s", g.sampler.steps,
                         number_exact_float(g.guidance).text);
}

static bool write_request(char **text, const lk_train_options *o, const lk_train_base *base,
                          error *e)
{
    train_settings s = api_train_settings(o);
    const image **images = api_train_images(&s, o, e);
    if (!images) return false;
    char *maker = class_maker(o);
    train_request r = {.settings = &s,
                       .model = base->name,
                       .precision = lk_mixed_precision_name(base->precision),
                       .resolution = base->resolution,
                       .class_maker = maker,
                       .class_model = base->hash};
    bool ok = (maker || error_memory(e, "a training's request", 64)) &&
              train_request_text(text, &r, e);
    free(maker);
    free(images);
    return ok;
}

bool lk_train_request(char **text, const lk_train_options *options, const lk_train_base *given,
                      lk_error *caller)
{
    error e = {0};
    lk_train_options o;
    lk_train_base base = {0};
    *text = NULL;
    bool ok = train_options_take(&o, options, &e) &&
              api_options(&base, sizeof base, given, "lk_train_base", &e) &&
              ((base.name && (o.instance_data_dir || o.instance_count)) ||
               error_set(&e, ERROR_USAGE,
                         "a training's request needs its base's name, and instance_data_dir or "
                         "instance_images")) &&
              (lk_precision_name(base.precision) ||
               error_set(&e, ERROR_USAGE, "a training's request: there is no precision %d",
                         (int)base.precision)) &&
              write_request(text, &o, &base, &e);
    return api_report(ok, &e, caller);
}
