/* SPDX-License-Identifier: Apache-2.0
 *
 * generate_like: --like PICTURE, a picture made again from what it says of itself. Its settings
 * become the defaults of flags; what no flag can say (which weights) is compared. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/generate.h"

/* ---- reading ---- */

/* The words' --like, in t->like. */
static int like_find(task *t, int argc, char **argv)
{
    task probe = {0};
    int status = generate_flags_read(&probe, argc, argv);
    t->like = probe.help ? NULL : probe.like;
    free(probe.prompts.item);
    free(probe.rest.item);
    models_close(&probe.models);
    return status;
}

static int like_open(task *t)
{
    lk_image *picture = NULL;
    if (!lk_image_open(&picture, t->like, &t->error)) return fail_error(&t->error);
    const char *text = lk_image_settings(picture);
    int status = STATUS_DONE;
    if (!text)
        status = fail(STATUS_FAILED,
                      "--like %s: it does not say how it was made (no \"parameters\" in it)",
                      t->like);
    else if (!lk_settings_open(&t->told, text, &t->error))
        status = fail_error(&t->error);
    lk_image_close(&picture);
    if (status == STATUS_DONE && !lk_settings_get(t->told, "Steps"))
        return fail(STATUS_FAILED, "--like %s: what it says of itself has no steps", t->like);
    if (status == STATUS_DONE && lk_settings_get(t->told, "Rows"))
        return fail(STATUS_WRONG_USAGE,
                    "--like %s: it is a grid of several pictures; give one of them", t->like);
    return status;
}

static bool is_ours(const task *t)
{
    const char *version = lk_settings_get(t->told, "Version");
    return version && strncmp(version, "likeness ", 9) == 0;
}

/* What is told for other eyes, or compared in like_check, or follows from what is read. */
static bool is_known(const char *key)
{
    static const char *const known[] = {
        "Version",         "Model",      "Model hash", "Models",    "Lora hashes",
        "Lora weights",    "Hashes",     "Refiner",    "TI hashes", "Refiner switch at",
        "Initial latents", "RNG",        "VAE",        "VAE hash",  "Schedule type",
        "Created Date",    "Batch size", "Batch pos",  "Mask hash", "Init image hash",
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(key, known[i]) == 0) return true;
    return false;
}

/* "ControlNet 0" and so on, which are given by --control and compared. */
static bool is_control(const char *key) { return strncmp(key, "ControlNet ", 11) == 0; }

/* One line about all that the picture says and no flag here can do. */
static int tell_unknown(const task *t, const option *list)
{
    char *line = NULL;
    const char *key, *value;
    for (size_t i = 0; lk_settings_at(t->told, i, &key, &value); i++) {
        const option *o = list;
        while (o->names && strcmp(o->names, key) != 0) o++;
        if (o->names || is_known(key) || (is_ours(t) && is_control(key))) continue;
        char *longer = text_format("%s%s%s: %s", line ? line : "", line ? ", " : "", key, value);
        free(line);
        if (!(line = longer)) return no_memory();
    }
    if (line)
        fail(STATUS_DONE, "warning: --like %s: what it also says is not done here: %s", t->like,
             line);
    free(line);
    return STATUS_DONE;
}

int like_read(task *t, int argc, char **argv)
{
    int status = like_find(t, argc, argv), skip = 1;
    if (status != STATUS_DONE || !t->like) return status;
    if ((status = like_open(t)) != STATUS_DONE) return status;
    bool two_passes = lk_settings_get(t->told, "Hires upscale") != NULL;
    const option list[] = {
        {"Steps", OPTION_INT, &t->steps},
        {"Sampler", OPTION_TEXT, &t->sampler},
        {"Sigmas", OPTION_TEXT, &t->sigmas},
        {"CFG scale", OPTION_FLOAT, &t->guidance},
        {"Prompt syntax", OPTION_TEXT, &t->prompt_syntax},
        {"Guidance rescale", OPTION_FLOAT, &t->guidance_rescale},
        {"Seed", OPTION_TEXT, &t->seed_text},
        {"Size-1", OPTION_INT, &t->width},
        {"Size-2", OPTION_INT, &t->height},
        {"Clip skip", OPTION_INT, &skip},
        {"Deep cache", OPTION_INT, &t->deep_cache},
        {"Eta", OPTION_FLOAT, &t->eta},
        {"RNG", OPTION_TEXT, &t->rng},
        {"Variance", OPTION_TEXT, &t->variance},
        {"Spacing", OPTION_TEXT, &t->spacing},
        {"Schedule", OPTION_TEXT, &t->schedule},
        {"Precision", OPTION_TEXT, &t->precision},
        {"Denoising strength", OPTION_DOUBLE, two_passes ? &t->hires_strength : &t->strength},
        {"VAE tiling", OPTION_FLAG, &t->tile},
        {"Hires upscale", OPTION_DOUBLE, &t->hires},
        {"Hires steps", OPTION_INT, &t->hires_steps},
        {"Hires upscaler", OPTION_TEXT, &t->hires_upscaler},
        {"Deep cache", OPTION_INT, &t->deep_cache},
        {NULL, OPTION_FLAG, NULL},
    };
    if (!is_ours(t)) {
        t->prompt_syntax = "a1111"; /* whose programs read prompts so */
        t->rng = "a1111";           /* where they do not say otherwise */
    }
    for (const option *o = list; status == STATUS_DONE && o->names; o++) {
        const char *text = lk_settings_get(t->told, o->names);
        char *flag = text ? text_format("--like %s: %s", t->like, o->names) : NULL;
        if (text) status = flag ? option_set(o, flag, text) : no_memory();
        free(flag);
    }
    const char *sigmas = lk_settings_get(t->told, "Schedule type");
    if (sigmas && strcmp(sigmas, "Automatic") != 0) t->sigmas = sigmas;
    t->clip_skip = skip > 1 ? skip - 1 : 0; /* clip skip counts from 1 there */
    t->negative = lk_settings_negative(t->told);
    return status == STATUS_DONE ? tell_unknown(t, list) : status;
}

int like_settle(task *t)
{
    if (!t->told) return STATUS_DONE;
    const char *prompt = lk_settings_prompt(t->told),
               *sampler = lk_settings_get(t->told, "Sampler");
    bool its_sigmas = t->sigmas == lk_settings_get(t->told, "Schedule type") ||
                      t->sigmas == lk_settings_get(t->told, "Sigmas");
    if (t->sampler != sampler && its_sigmas) t->sigmas = NULL;
    if (!t->prompts.count && *prompt && !text_list_add(&t->prompts, prompt)) return no_memory();
    const char *models = lk_settings_get(t->told, "Models");
    if (t->schedule && models && !t->models.given.count)
        return fail(STATUS_WRONG_USAGE,
                    "--like %s: it was made by several models (%s); say where each is: -m "
                    "NAME=PATH",
                    t->like, models);
    return STATUS_DONE;
}

/* ---- comparing ---- */

static void compare_key(const task *t, const lk_settings *now, const char *key)
{
    const char *then = lk_settings_get(t->told, key), *here = lk_settings_get(now, key);
    if (then == here || (then && here && strcmp(then, here) == 0)) return;
    fail(STATUS_DONE,
         "warning: --like %s: the picture will be another: \"%s\" was %s, here it is %s", t->like,
         key, then ? then : "not told", here ? here : "missing");
}

/* Weights, noise and pictures that the picture names and that are not the ones here. */
static void compare(const task *t, const lk_settings *now)
{
    static const char *const keys[] = {"Model hash",      "Models",    "Lora hashes",
                                       "Lora weights",    "TI hashes", "Initial latents",
                                       "Init image hash", "Mask hash", "VAE hash"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) compare_key(t, now, keys[i]);
    const char *key, *value;
    for (size_t i = 0; lk_settings_at(t->told, i, &key, &value); i++)
        if (is_control(key)) compare_key(t, now, key);
    for (size_t i = 0; lk_settings_at(now, i, &key, &value); i++)
        if (is_control(key) && !lk_settings_get(t->told, key)) compare_key(t, now, key);
}

int like_check(task *t)
{
    if (!t->told) return STATUS_DONE;
    lk_settings *now = NULL;
    char *text = cell_settings(t, &t->cells[0]);
    if (!text) return STATUS_FAILED;
    int status = STATUS_DONE;
    const char *then = lk_settings_get(t->told, "Model hash"), *here = NULL,
               *name = lk_settings_get(t->told, "Model");
    if (!lk_settings_open(&now, text, &t->error)) {
        status = fail_error(&t->error);
    } else {
        here = lk_settings_get(now, "Model hash");
        if (!t->models.given.count && then && here && strcmp(then, here) != 0)
            status = fail(STATUS_WRONG_USAGE,
                          "--like %s: it was made with the model %s (%s): say where it is with -m "
                          "PATH, or take another: -m pocket",
                          t->like, name ? name : "", then);
        else if (is_ours(t))
            compare(t, now);
    }
    lk_settings_close(&now);
    lk_free(text);
    return status;
}
