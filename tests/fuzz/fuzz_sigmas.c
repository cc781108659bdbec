/* SPDX-License-Identifier: Apache-2.0
 *
 * Any text as sigmas, as a sampler's name, and as a schedule of models with LoRAs beside them. */
#include "fuzz.h"

#include <string.h>

#include "generate/samplers/sampler.h"
#include "generate/samplers/sigma_text.h"
#include "generate/variants.h"

enum { STEPS = 12 };

/* A list that is taken falls to 0, and a sampler can go down it. */
static void as_sigmas(const char *text)
{
    error e = {0};
    sigma_kind kind;
    int steps;
    bool ok = sigmas_read(text, &kind, &steps, &e);
    fuzz_check(ok, &e);
    if (!ok) return;
    float *list = calloc((size_t)steps + 1, sizeof *list);
    if (!list) abort();
    if (steps) sigma_list_read(text, list, steps + 1);
    for (int i = 0; i < steps; i++)
        if (!(list[i] > list[i + 1])) abort();
    if (list[steps] != 0) abort();
    free(list);
    sampler *s;
    scheduler_config c;
    sampler_options o = {.steps = steps ? steps : STEPS, .sigmas = text};
    scheduler_config_sd1(&c);
    if (!sampler_kind_parse(&o.kind, "dpmpp_2m")) abort();
    ok = sampler_open(&s, &c, &o, &e);
    fuzz_check(ok, &e);
    if (ok) sampler_close(&s);
}

static void as_sampler(const char *text)
{
    sampler_options o = {0};
    if (sampler_choose(&o, text)) {
        if (!sampler_kind_known(o.kind) || (o.sigmas && !sigmas_label(o.sigmas))) abort();
    } else
        sampler_nearest(text);
    if (!*sampler_advice(text).text) abort();
}

static void as_schedule(const char *text)
{
    static const char *const models[] = {"base", "tuned"}, *const loras[] = {"dog", "style"};
    const variant_names names = {models, 2, loras, 2};
    error e = {0};
    char *schedule;
    variant *list;
    int count;
    mix m;
    bool ok = variants_read(&schedule, &list, &count, text, &names, &e);
    fuzz_check(ok, &e);
    if (!ok) return;
    const char **all = calloc((size_t)count + 2, sizeof *all);
    if (!all) abort();
    for (int i = 0; i < count + 2; i++) all[i] = i < 2 ? models[i] : list[i - 2].name;
    ok = mix_parse(&m, schedule, all, count + 2, STEPS, &e);
    fuzz_check(ok, &e);
    if (ok) {
        free(mix_text(&m, all));
        mix_close(&m);
    }
    free(all);
    free(list);
    free(schedule);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text) abort();
    memcpy(text, data, size);
    text[size] = 0;
    as_sigmas(text);
    as_sampler(text);
    as_schedule(text);
    free(text);
    return 0;
}
