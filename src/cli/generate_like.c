/* SPDX-License-Identifier: Apache-2.0
 *
 * generate_like: --like PICTURE, a picture made again from what it says of itself. Its settings
 * become the defaults of flags. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/generate.h"

enum { MOST_SIDE = 1 << 20 };

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

bool like_is_ours(const task *t)
{
    const char *version = lk_settings_get(t->told, "Version");
    return version && strncmp(version, "likeness ", 9) == 0;
}

/* What is told for other eyes, or compared in like_check, or follows from what is read. */
static bool is_known(const char *key)
{
    static const char *const known[] = {
        "Version",
        "Model",
        "Model hash",
        "Models",
        "Lora hashes",
        "Lora weights",
        "Hashes",
        "TI hashes",
        "RNG",
        "Initial latents",
        "VAE",
        "VAE hash",
        "Mask hash",
        "Batch pos",
        "Schedule type",
        "Created Date",
        "Batch size",
        "Init image hash",
        "Hires resize-1",
        "Hires resize-2",
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(key, known[i]) == 0) return true;
    return false;
}

/* "ControlNet 0" and so on, which are given by --control and compared. */
bool like_is_control(const char *key) { return strncmp(key, "ControlNet ", 11) == 0; }

/* Of our own pictures: given by --control and compared, or told by the schedule as well. */
static bool is_known_ours(const char *key)
{
    return like_is_control(key) || strcmp(key, "Refiner") == 0 ||
           strcmp(key, "Refiner switch at") == 0;
}

/* A tiny autoencoder decoded it, which like_check asks for. */
static bool is_tiny(const char *key, const char *value)
{
    return strcmp(key, "VAE Decoder") == 0 && strcmp(value, "TAESD") == 0;
}

/* One line about all that the picture says and no flag here can do. */
static int tell_unknown(const task *t, const option *list)
{
    char *line = NULL;
    const char *key, *value;
    for (size_t i = 0; lk_settings_at(t->told, i, &key, &value); i++) {
        const option *o = list;
        while (o->names && strcmp(o->names, key) != 0) o++;
        if (o->names || is_known(key) || is_tiny(key, value) ||
            (like_is_ours(t) && is_known_ours(key)))
            continue;
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

/* AUTOMATIC1111's second pass by its size: "Hires resize: 256x192". */
static bool is_second_size(const task *t)
{
    return !lk_settings_get(t->told, "Hires upscale") && lk_settings_get(t->told, "Hires resize-1");
}

/* A size's side; 0: not told, or no such number. */
static int told_side(const task *t, const char *key)
{
    const char *text = lk_settings_get(t->told, key);
    long side = text ? strtol(text, NULL, 10) : 0;
    return side > 0 && side <= MOST_SIDE ? (int)side : 0;
}

/* The factor that makes of its size the second one, in whole latents of both sides; 0: none does.
 * There a side of 0 follows the other, and what the first picture's shape leaves over is cut. */
static double factor_of_size(const task *t)
{
    enum { LATENT = 8 };
    int from[] = {told_side(t, "Size-1"), told_side(t, "Size-2")};
    int to[] = {told_side(t, "Hires resize-1"), told_side(t, "Hires resize-2")};
    if (!from[0] || !from[1] || (!to[0] && !to[1])) return 0;
    int by = !to[0] || (to[1] && (int64_t)from[0] * to[1] >= (int64_t)to[0] * from[1]);
    int made[] = {to[0], to[1]};
    made[!by] = (int)((int64_t)to[by] * from[!by] / from[by]);
    if (to[!by] && (made[!by] - to[!by]) / LATENT) return 0;
    const int side[] = {to[by] - to[by] % LATENT, to[by]};
    for (int k = 0; k < 2; k++) {
        double factor = (double)side[k] / from[by];
        if ((int)(from[by] * factor) < side[k]) factor = nextafter(factor, INFINITY);
        if (factor > 1 && (int)(from[by] * factor) / LATENT == made[by] / LATENT &&
            (int)(from[!by] * factor) / LATENT == made[!by] / LATENT)
            return factor;
    }
    return 0;
}

int like_read(task *t, int argc, char **argv)
{
    int status = like_find(t, argc, argv), skip = 1;
    if (status != STATUS_DONE || !t->like) return status;
    if ((status = like_open(t)) != STATUS_DONE) return status;
    bool by_size = is_second_size(t);
    bool two_passes = by_size || lk_settings_get(t->told, "Hires upscale");
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
        {like_is_ours(t) || !lk_settings_get(t->told, "Eta DDIM") ? "Eta" : "Eta DDIM",
         OPTION_FLOAT, &t->eta},
        {"RNG", OPTION_TEXT, &t->rng},
        {"ENSD", OPTION_INT, &t->noise_delta},
        {"Variance", OPTION_TEXT, &t->variance},
        {"Spacing", OPTION_TEXT, &t->spacing},
        {"Schedule", OPTION_TEXT, &t->schedule},
        {"Precision", OPTION_TEXT, &t->precision},
        {"Denoising strength", OPTION_DOUBLE, two_passes ? &t->hires_strength : &t->strength},
        {"VAE tiling", OPTION_FLAG, &t->tile},
        {"Hires upscale", OPTION_DOUBLE, &t->hires},
        {"Hires steps", OPTION_INT, &t->hires_steps},
        {"Hires upscaler", OPTION_TEXT, &t->hires_upscaler},
        {NULL, OPTION_FLAG, NULL},
    };
    if (!like_is_ours(t)) {
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
    if (by_size) t->hires = factor_of_size(t);
    t->clip_skip = skip > 1 ? skip - 1 : 0; /* clip skip counts from 1 there */
    t->negative = lk_settings_negative(t->told);
    return status == STATUS_DONE ? tell_unknown(t, list) : status;
}

/* Whether one of -m or --lora has the name: NAME=PATH. */
static bool is_named(const text_list *given, const char *name, size_t n)
{
    for (size_t i = 0; i < given->count; i++)
        if (strncmp(given->item[i], name, n) == 0 && given->item[i][n] == '=') return true;
    return false;
}

/* Adds " -m NAME=PATH (what)" to the text, once. False when memory is out. */
static bool ask_for(char **text, const char *flag, const char *name, size_t n, const char *path,
                    const char *what, size_t length)
{
    char *ask = text_format(" %s %.*s=%s", flag, (int)n, name, path);
    bool known = ask && strstr(*text, ask);
    char *longer = !ask || known ? NULL
                                 : text_format("%s%s%s%.*s%s", *text, ask, length ? " (" : "",
                                               (int)length, what, length ? ")" : "");
    free(ask);
    if (!longer) return known;
    free(*text);
    *text = longer;
    return true;
}

/* One of "Models", "base=pocket 0123456789" or "base+0.8*dog=pocket 0123456789", whose hash is not
 * base's: the flags that it wants and that are not given. */
static bool ask_for_model(const task *t, char **text, const char *item, size_t n)
{
    const char *end = memchr(item, '=', n), *at = item;
    if (!end) return true;
    size_t name = strcspn(item, "+=");
    size_t told = n - (size_t)(end + 1 - item), hash = MODEL_DIGITS + 1;
    bool ok = is_named(&t->models.given, item, name) ||
              ask_for(text, "-m", item, name, "PATH", end + 1,
                      item[name] == '+' && told > hash ? told - hash : told);
    for (at += name; ok && *at == '+'; at += name) {
        const char *lora = ++at;
        name = strcspn(at, "+*=");
        if (at[name] == '*') {
            lora = at + name + 1;
            name = strcspn(lora, "+=");
            at = lora;
        }
        ok = is_named(&t->models.loras, lora, name) ||
             ask_for(text, "--lora", lora, name, "FILE", "", 0);
    }
    return ok;
}

/* A schedule that is the picture's needs the models that are. */
static int schedule_settle(const task *t)
{
    const char *at = lk_settings_get(t->told, "Models"),
               *loras = lk_settings_get(t->told, "Lora hashes");
    if (!at || !t->schedule || t->schedule != lk_settings_get(t->told, "Schedule"))
        return STATUS_DONE;
    char *text = strdup("");
    bool ok = text;
    for (size_t n; ok && *at; at += n) {
        n = hash_item(at, MODEL_DIGITS);
        ok = ask_for_model(t, &text, at, n);
        n += strspn(at + n, ", ");
    }
    bool asks = ok && strstr(text, " --lora ");
    int status = !ok     ? no_memory()
                 : *text ? fail(STATUS_WRONG_USAGE,
                                "--like %s: it was made by the schedule \"%s\"; say where each is:"
                                "%s%s%s",
                                t->like, t->schedule, text, asks && loras ? "; its LoRAs are " : "",
                                asks && loras ? loras : "")
                         : STATUS_DONE;
    free(text);
    return status;
}

/* AUTOMATIC1111 has an eta of ancestral samplers too, which is 1 here. */
static void eta_settle(task *t)
{
    const char *eta = lk_settings_get(t->told, "Eta");
    lk_sampler k;
    if (like_is_ours(t) || !eta || lk_settings_get(t->told, "Eta DDIM") || !t->sampler ||
        t->sampler != lk_settings_get(t->told, "Sampler") || !lk_sampler_parse(&k, t->sampler) ||
        lk_sampler_has_eta(k) || t->eta != strtof(eta, NULL))
        return;
    if (t->eta != 1)
        fail(STATUS_DONE,
             "warning: --like %s: the picture will be another: AUTOMATIC1111's Eta of ancestral "
             "samplers (%s, Eta: %s) is not done here, where it is 1",
             t->like, t->sampler, eta);
    t->eta = 0;
}

/* A sampler that was not typed is refused by the picture's name. */
static int sampler_settle(task *t)
{
    lk_generate_options probe = t->base;
    if (!t->sampler || t->sampler != lk_settings_get(t->told, "Sampler") ||
        lk_sampler_choose(&probe, t->sampler, &t->error))
        return STATUS_DONE;
    return fail(STATUS_WRONG_USAGE, "--like %s: %s; --sampler NAME takes another in its place",
                t->like, t->error.text);
}

int like_settle(task *t)
{
    if (!t->told) return STATUS_DONE;
    int status = sampler_settle(t);
    if (status != STATUS_DONE) return status;
    eta_settle(t);
    if (is_second_size(t) && t->hires == 0)
        fail(
            STATUS_DONE,
            "warning: --like %s: the picture will be another: \"Hires resize: %sx%s\" is no factor "
            "of its size, so the second pass is not made; --hires X makes one",
            t->like, lk_settings_get(t->told, "Hires resize-1"),
            lk_settings_get(t->told, "Hires resize-2"));
    const char *prompt = lk_settings_prompt(t->told),
               *sampler = lk_settings_get(t->told, "Sampler");
    bool its_sigmas = t->sigmas == lk_settings_get(t->told, "Schedule type") ||
                      t->sigmas == lk_settings_get(t->told, "Sigmas");
    if (t->sampler != sampler && its_sigmas) t->sigmas = NULL;
    /* an unconditional model's has neither prompt nor guidance */
    bool has_prompt = *prompt || lk_settings_get(t->told, "CFG scale");
    if (!t->prompts.count && has_prompt && !text_list_add(&t->prompts, prompt)) return no_memory();
    return schedule_settle(t);
}
