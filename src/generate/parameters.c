/* SPDX-License-Identifier: Apache-2.0
 *
 * parameters: see parameters.h. Keys are AUTOMATIC1111's, and our own where it has none. */
#include "generate/parameters.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"
#include "base/sha256.h"
#include "generate/hires.h"
#include "generate/settings.h"
#include "generate/samplers/sigma_text.h"
#include "model/hash.h"
#include "model/taesd.h"

enum { SHORT_HASH = 10 }; /* digits of a hash, as AUTOMATIC1111 shows them */

/* The last part of a path. */
static void last_of_path(char out[256], const char *path)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/') start--;
    snprintf(out, 256, "%.*s", (int)(end - start), path + start);
}

/* The name people know a model by: the last part of its path, without .safetensors. */
static void name_of_path(char out[256], const char *path)
{
    const char suffix[] = ".safetensors";
    last_of_path(out, path);
    size_t n = strlen(out), m = sizeof suffix - 1;
    if (n > m && strcmp(out + n - m, suffix) == 0) out[n - m] = '\0';
}

static void model_name(char out[256], const generator *g)
{
    name_of_path(out, generator_model(g)->path);
}

/* The model that makes the whole picture alone, or -1. */
static int model_alone(const image_job *j)
{
    if (!j->mix) return 0;
    const mix_step *s = &j->mix->step[0];
    bool alone = s->terms == 1 && s->share[0] == 1;
    for (int i = 1; alone && i < j->mix->count; i++) alone = mix_step_equal(s, &j->mix->step[i]);
    return alone ? s->model[0] : -1;
}

/* Whether its models take turns, or it is of one whose name is a sum ("base+0.8*dog"): only a
 * schedule makes it again. */
static bool has_turns(const image_job *j, int alone)
{
    return alone < 0 || (j->mix && strchr(j->names[alone], '+'));
}

static bool is_asked(const mix *m, int which)
{
    for (int i = 0; i < m->count; i++)
        for (int k = 0; k < m->step[i].terms; k++)
            if (m->step[i].model[k] == which) return true;
    return false;
}

static void hash_of(const generator *g, char hash[65])
{
    model_hash_with(generator_model(g), generator_device(g)->pool, hash);
}

/* "base=pocket 1a2b3c4d5e, tuned=dog 6f70819203", malloc'ed; NULL when memory is out. */
static char *list_models(const image_job *j)
{
    char *text = strdup("");
    for (int i = 0; text && i < j->count; i++) {
        char name[256], hash[65];
        if (!is_asked(j->mix, i)) continue;
        model_name(name, j->models[i]);
        hash_of(j->models[i], hash);
        char *longer = string_format("%s%s%s=%s %.*s", text, *text ? ", " : "", j->names[i], name,
                                     SHORT_HASH, hash);
        free(text);
        text = longer;
    }
    return text;
}

static bool set_turns(settings *s, const image_job *j, error *e)
{
    int first, second, at;
    char name[256], *text = mix_text(j->mix, j->names), *models = list_models(j);
    bool ok = (text && models) || error_memory(e, "a schedule", 64);
    ok = ok && settings_set(s, e, "Schedule", "%s", text) &&
         settings_set(s, e, "Models", "%s", models);
    if (mix_is_switch(j->mix, &first, &second, &at)) {
        model_name(name, j->models[second]);
        ok = ok && settings_set(s, e, "Refiner", "%s", name) &&
             settings_set(s, e, "Refiner switch at", "%s",
                          number_rounded((double)at / j->mix->count, 6).text);
    }
    free(models);
    free(text);
    return ok;
}

/* Of several models that which has LoRAs, or the most of them: "base+0.8*dog" of base and it. */
static const model *with_loras(const image_job *j, const model *first)
{
    size_t most = first->lora_hashes ? strlen(first->lora_hashes) : 0;
    for (int i = 0; j->mix && i < j->count; i++) {
        const model *m = generator_model(j->models[i]);
        if (!is_asked(j->mix, i) || !m->lora_hashes || strlen(m->lora_hashes) <= most) continue;
        most = strlen(m->lora_hashes);
        first = m;
    }
    return first;
}

static bool set_model(settings *s, const image_job *j, const generator *g, error *e)
{
    char name[256], hash[65];
    model_name(name, g);
    hash_of(g, hash);
    const model *m = with_loras(j, generator_model(g));
    if (!settings_set(s, e, "Model hash", "%.*s", SHORT_HASH, hash) ||
        !settings_set(s, e, "Model", "%s", name))
        return false;
    if (m->vae_given) last_of_path(name, m->vae_given);
    return (!m->vae_given || settings_set(s, e, "VAE", "%s", name)) &&
           (!m->lora_hashes || (settings_set(s, e, "Lora hashes", "%s", m->lora_hashes) &&
                                settings_set(s, e, "Lora weights", "%s", m->lora_weights))) &&
           (!m->inversion_hashes || settings_set(s, e, "TI hashes", "%s", m->inversion_hashes));
}

/* What decodes, where it is not the model's own. */
static bool set_decoder(settings *s, const image_job *j, error *e)
{
    char name[256];
    const taesd *tiny = generator_model(j->models[j->mix ? mix_last_model(j->mix) : 0])->tiny;
    if (!tiny) return true;
    name_of_path(name, tiny->path);
    return settings_set(s, e, "VAE hash", "%.*s", SHORT_HASH, tiny->hash) &&
           settings_set(s, e, "VAE", "%s", name);
}

static bool set_sigmas(settings *s, const sampler_options *how, error *e)
{
    const char *label = how->sigmas ? sigmas_label(how->sigmas) : NULL;
    if (!how->sigmas || !sampler_kind_has_sigmas(how->kind)) return true;
    return label ? settings_set(s, e, "Schedule type", "%s", label)
                 : settings_set(s, e, "Sigmas", "%s", how->sigmas);
}

/* Where they are not what they are without being asked for. */
static bool set_rare(settings *s, const generate_options *o, error *e)
{
    const sampler_options *how = &o->sampler;
    bool ok = true;
    /* clip skip counts from 1 there */
    if (o->clip_skip) ok = settings_set(s, e, "Clip skip", "%d", o->clip_skip + 1);
    if (o->guidance_rescale > 0)
        ok = ok && settings_set(s, e, "Guidance rescale", "%s",
                                number_exact_float(o->guidance_rescale).text);
    if (sampler_kind_has_eta(how->kind) && how->eta > 0)
        ok = ok && settings_set(s, e, "Eta", "%s", number_exact_float(how->eta).text);
    if (sampler_kind_has_variance(how->kind) && how->has_variance)
        ok = ok && settings_set(s, e, "Variance", "%s", variance_name(how->variance));
    if (o->deep_cache > 1) ok = ok && settings_set(s, e, "Deep cache", "%d", o->deep_cache);
    if (how->has_spacing && !(how->sigmas && !sigmas_label(how->sigmas))) /* a list has none */
        ok = ok && settings_set(s, e, "Spacing", "%s", spacing_name(how->spacing));
    return ok;
}

/* Which picture: the first digits of its hash. */
typedef struct image_name {
    char text[65];
} image_name;

static image_name name_image(const image *m)
{
    image_name out;
    image_hash(out.text, m);
    out.text[SHORT_HASH] = '\0';
    return out;
}

/* Where it changes the picture. */
static bool set_tile(settings *s, const generator *g, const generate_options *o, const int size[2],
                     error *e)
{
    int side = generator_model(g)->vae.sample_size, larger = false, last[] = {size[0], size[1]};
    if (o->hires > 0) hires_size(last, o, generator_model(g));
    for (int i = 0; i < 2; i++) larger |= last[i] > side;
    return !o->tile || !larger || settings_set(s, e, "VAE tiling", "True");
}

/* The second size is told where the factor does not say it. */
static bool set_hires(settings *s, const generator *g, const generate_options *o, error *e)
{
    latent_upscaler how;
    int size[2];
    bool cut = hires_size(size, o, generator_model(g));
    upscaler_parse(&how, o->hires_upscaler, NULL);
    return settings_set(s, e, "Denoising strength", "%s", number_exact(o->hires_strength).text) &&
           settings_set(s, e, "Hires upscale", "%s", number_exact(o->hires).text) &&
           (!cut || settings_set(s, e, "Hires resize", "%dx%d", size[0], size[1])) &&
           (!o->hires_steps || settings_set(s, e, "Hires steps", "%d", o->hires_steps)) &&
           settings_set(s, e, "Hires upscaler", "%s", upscaler_label(how));
}

static bool set_init(settings *s, const generate_options *o, error *e)
{
    return settings_set(s, e, "Denoising strength", "%s", number_exact(o->strength).text) &&
           settings_set(s, e, "Init image hash", "%s", name_image(o->init).text) &&
           (!o->mask || settings_set(s, e, "Mask hash", "%s", name_image(o->mask).text));
}

/* "Model: name 0123456789, Picture: 0123456789, Weight: 1" of each. */
static bool set_controls(settings *s, const generate_options *o, error *e)
{
    for (int i = 0; i < o->control_count; i++) {
        const control *c = &o->controls[i];
        char key[32], name[256];
        name_of_path(name, c->net->path);
        snprintf(key, sizeof key, "ControlNet %d", i);
        if (!settings_set(s, e, key, "Model: %s %.*s, Picture: %s, Weight: %s", name, SHORT_HASH,
                          c->net->hash, name_image(c->picture).text,
                          number_exact_float(c->scale).text))
            return false;
    }
    return true;
}

/* Which noise it began with: the first digits of its bytes' hash. */
static bool set_latents(settings *s, const generator *g, const generate_options *o, error *e)
{
    int shape[3];
    char hex[65];
    generator_latents(g, o->width, o->height, shape);
    sha256_of(hex, o->latents,
              (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2] * sizeof *o->latents);
    return settings_set(s, e, "Initial latents", "%.*s", SHORT_HASH, hex);
}

/* What the other program would draw the same; a picture's beginning by diffusers' order it cannot.
 */
static const char *noise_name(const generate_options *o)
{
    if (o->noise == NOISE_CPU) return "CPU";
    return o->noise == NOISE_CUDA && o->init ? "CUDA" : "NV";
}

static bool fill(settings *s, const image_job *j, const image *made, error *e)
{
    const generate_options *o = j->options;
    /* of a picture in two passes the first one's */
    const int size[] = {o->hires > 0 && o->width ? o->width : made->width,
                        o->hires > 0 && o->height ? o->height : made->height};
    int alone = model_alone(j);
    const generator *g = j->models[alone < 0 ? j->mix->step[0].model[0] : alone];
    if (!sampler_kind_known(o->sampler.kind))
        return error_set(e, ERROR_USAGE, "there is no sampler %d", o->sampler.kind);
    bool ok = settings_prompt(s, o->prompt, o->negative, e) &&
              settings_set(s, e, "Steps", "%d", o->sampler.steps) &&
              settings_set(s, e, "Sampler", "%s", sampler_kind_label(o->sampler.kind)) &&
              set_sigmas(s, &o->sampler, e);
    if (generator_model(g)->kind == MODEL_STABLE_DIFFUSION)
        ok = ok && settings_set(s, e, "CFG scale", "%s", number_exact_float(o->guidance).text) &&
             (o->syntax == PROMPT_PLAIN ||
              settings_set(s, e, "Prompt syntax", "%s", prompt_syntax_name(o->syntax)));
    ok = ok && settings_set(s, e, "Seed", "%llu", (unsigned long long)o->seed) &&
         settings_set(s, e, "Size", "%dx%d", size[0], size[1]) && set_model(s, j, g, e) &&
         set_decoder(s, j, e) && (!has_turns(j, alone) || set_turns(s, j, e)) &&
         (!o->init || set_init(s, o, e)) && (o->hires == 0 || set_hires(s, g, o, e)) &&
         set_tile(s, g, o, size, e) && set_rare(s, o, e) && set_controls(s, o, e);
    /* without RNG, AUTOMATIC1111 takes the GPU's noise */
    ok = ok && (!o->latents || set_latents(s, g, o, e)) &&
         ((o->latents && o->noise == NOISE_CPU) ||
          settings_set(s, e, "RNG", "%s", noise_name(o))) &&
         (!o->noise_delta ||
          settings_set(s, e, "ENSD", "%llu", (unsigned long long)o->noise_delta));
    dtype precision = generator_device(g)->weight_type;
    if (precision != DTYPE_F32)
        ok = ok && settings_set(s, e, "Precision", "%s", precision_name(precision));
    return ok && settings_set(s, e, "Version", "likeness %s", LIKENESS_VERSION);
}

bool parameters_text(char **out, const image_job *job, const image *made, error *e)
{
    settings s = {0};
    *out = NULL;
    bool ok = fill(&s, job, made, e) && settings_write(out, &s, e);
    settings_close(&s);
    return ok;
}
