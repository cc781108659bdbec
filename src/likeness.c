/* SPDX-License-Identifier: Apache-2.0
 *
 * likeness: the public interface (include/likeness.h) in terms of the rooms below. Owns nothing but
 * the translation of types and errors. */
#include "likeness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/folder.h"
#include "base/half.h"
#include "base/platform.h"
#include "file/image.h"
#include "file/safetensors.h"
#include "generate/describe.h"
#include "generate/generate.h"
#include "generate/grid.h"
#include "generate/parameters.h"
#include "generate/picture.h"
#include "generate/plan.h"
#include "generate/settings.h"
#include "model/detect.h"
#include "model/merge.h"
#include "study/study.h"
#include "train/train.h"

enum { PICTURE_QUALITY = 95 }; /* of JPEG and WebP */

#define LATENTS_SETTINGS "parameters" /* the key of saved latents' metadata */

struct lk_context { device *device; };

struct lk_model {
    device *device;
    model *model;
    generator *generator;
};

struct lk_picture {
    image image;
    char *settings;         /* NULL: none */
    generate_result latents; /* its picture is empty: it moved to image */
};

struct lk_latents {
    int shape[3];           /* C, h, w */
    float *data;
};

_Static_assert((int)LK_CANCELLED == (int)ERROR_CANCELLED, "codes of errors are the same");
_Static_assert((int)LK_DDPM == (int)SAMPLER_DDPM, "samplers are the same");
_Static_assert((int)LK_VARIANCE_LEARNED_RANGE == (int)VARIANCE_LEARNED_RANGE + 1,
               "the model's is first");
_Static_assert((int)LK_SPACING_LINSPACE == (int)SPACING_LINSPACE + 1, "the model's is first");

/* Hands a failure to the caller, who keeps his first one; returns ok. */
static bool report(bool ok, const error *e, lk_error *out)
{
    if (ok || !out || out->code != LK_OK) return ok;
    out->code = (lk_code)e->code;
    snprintf(out->text, sizeof out->text, "%s", e->text);
    return ok;
}

const char *lk_version(void) { return LIKENESS_VERSION; }

void lk_free(void *memory) { free(memory); }

/* ---- context ------------------------------------------------------------------------------- */

void lk_context_defaults(lk_context_options *o) { *o = (lk_context_options){0, LK_F32}; }

bool lk_context_open(lk_context **out, const lk_context_options *o, lk_error *caller)
{
    error e = {0};
    lk_context_options defaults;
    lk_context_defaults(&defaults);
    if (!o) o = &defaults;
    *out = NULL;
    lk_context *c = calloc(1, sizeof *c);
    bool ok = c || error_memory(&e, "a context", sizeof *c);
    ok = ok && (o->threads >= 0 || error_set(&e, ERROR_USAGE, "%d threads: not a number of threads",
                                             o->threads));
    int threads = o->threads, cores = cpu_count();
    ok = ok && device_open_cpu(&c->device, threads < cores ? threads : cores,
                               o->precision == LK_BF16 ? DTYPE_BF16 : DTYPE_F32, &e);
    if (ok)
        *out = c;
    else
        free(c);
    return report(ok, &e, caller);
}

void lk_context_close(lk_context **c)
{
    if (!*c) return;
    device_close(&(*c)->device);
    free(*c);
    *c = NULL;
}

const char *lk_context_device(const lk_context *c) { return c->device->name; }
int lk_context_threads(const lk_context *c) { return c->device->threads; }

/* ---- model --------------------------------------------------------------------------------- */

/* The path malloc'ed; NULL when no folder is there (or memory is out). */
static char *pocket_at(const char *folder, const char *below)
{
    char *path = string_format("%s/%s", folder, below);
    if (path && path_is_dir(path)) return path;
    free(path);
    return NULL;
}

/* $LIKENESS_MODELS, beside the program as built or installed, or the source tree. malloc'ed. */
static char *pocket_find(error *e)
{
    const char *models = getenv("LIKENESS_MODELS");
    if (models && *models) {
        char *found = pocket_at(models, "pocket");
        if (!found)
            error_set(e, ERROR_FILE, "$LIKENESS_MODELS is %s, but there is no folder pocket in it",
                      models);
        return found;
    }
    char *program = path_of_program(), *found = NULL;
    if (program) {
        found = pocket_at(program, "models/pocket");
        if (!found) found = pocket_at(program, "../models/pocket");
        if (!found) found = pocket_at(program, "../share/likeness/models/pocket");
    }
    free(program);
    if (!found) found = pocket_at(LIKENESS_SOURCE_DIR, "models/pocket");
    if (!found)
        error_set(e, ERROR_FILE,
                  "the pocket model is not beside the program; say where a model is (-m), or "
                  "set LIKENESS_MODELS to the folder that holds pocket");
    return found;
}

void lk_model_defaults(lk_model_options *o) { *o = (lk_model_options){NULL, NULL, NULL}; }

bool lk_model_open(lk_model **out, lk_context *c, const lk_model_options *o, lk_error *caller)
{
    error e = {0};
    lk_model_options defaults;
    lk_model_defaults(&defaults);
    if (!o) o = &defaults;
    *out = NULL;
    char *pocket = o->path ? NULL : pocket_find(&e);
    const char *path = o->path ? o->path : pocket;
    lk_model *m = calloc(1, sizeof *m);
    bool ok = path && (m || error_memory(&e, "a model", sizeof *m)) &&
              model_open_with(&m->model, path, o->vae, o->tokenizer, c->device->pool, &e) &&
              generator_open(&m->generator, c->device, m->model, &e);
    free(pocket);
    if (ok) {
        m->device = c->device;
        *out = m;
    } else {
        if (m) model_close(&m->model);
        free(m);
    }
    return report(ok, &e, caller);
}

void lk_model_close(lk_model **m)
{
    if (!*m) return;
    generator_close(&(*m)->generator);
    model_close(&(*m)->model);
    free(*m);
    *m = NULL;
}

void lk_model_describe(const lk_model *m, lk_model_info *info)
{
    *info = (lk_model_info){.path = m->model->path, .format = m->model->format,
                            .unconditional = m->model->kind == MODEL_UNCONDITIONAL};
    if (!info->unconditional) info->tokens = m->model->clip.positions;
    generator_size(m->generator, &info->width, &info->height, &info->multiple);
}

/* ---- latents ------------------------------------------------------------------------------- */

static bool latents_read(lk_latents *l, const char *path, error *e)
{
    safetensors file;
    if (!safetensors_open(&file, path, e)) return false;
    const safetensors_entry *t = safetensors_find(&file, "latents");
    bool ok = (t && t->rank == 4 && t->dim[0] == 1) ||
              error_set(e, ERROR_FORMAT,
                        "%s: initial latents are one tensor \"latents\" [1, channels, height, "
                        "width]",
                        path);
    ok = ok && (t->type == DTYPE_F32 || t->type == DTYPE_F16 || t->type == DTYPE_BF16 ||
                error_set(e, ERROR_FORMAT, "%s: latents of type %s; they must be F32, F16 or BF16",
                          path, dtype_name(t->type)));
    for (int i = 0; ok && i < 3; i++) {
        ok = (t->dim[i + 1] > 0 && t->dim[i + 1] <= 1 << 20) ||
             error_set(e, ERROR_FORMAT, "%s: latents of no size that a picture could have", path);
        l->shape[i] = ok ? (int)t->dim[i + 1] : 0;
    }
    if (ok) {
        size_t n = (size_t)l->shape[0] * (size_t)l->shape[1] * (size_t)l->shape[2];
        l->data = malloc(n * sizeof *l->data);
        ok = l->data || error_memory(e, path, n * sizeof *l->data);
        if (ok) convert_to_float(l->data, t->data, t->type, n);
    }
    safetensors_close(&file);
    return ok;
}

bool lk_latents_open(lk_latents **out, const char *path, lk_error *caller)
{
    error e = {0};
    *out = calloc(1, sizeof **out);
    bool ok = (*out || error_memory(&e, "latents", sizeof **out)) && latents_read(*out, path, &e);
    if (!ok) lk_latents_close(out);
    return report(ok, &e, caller);
}

void lk_latents_close(lk_latents **l)
{
    if (!*l) return;
    free((*l)->data);
    free(*l);
    *l = NULL;
}

bool lk_picture_save_latents(const lk_picture *p, const char *path, lk_error *caller)
{
    error e = {0};
    const generate_result *r = &p->latents;
    if (!r->initial)
        return report(error_set(&e, ERROR_USAGE,
                                "%s: this picture was not generated here, so it has no "
                                "latents",
                                path),
                      &e, caller);
    uint64_t bytes =
        sizeof(float) * (uint64_t)r->channels * (uint64_t)r->height * (uint64_t)r->width;
    safetensors_entry entry[2] = {
        {.name = "latents", .rank = 4, .dim = {1, r->channels, r->height, r->width},
         .data = r->initial, .bytes = bytes},
        {.name = "final", .rank = 4, .dim = {1, r->channels, r->height, r->width},
         .data = r->final, .bytes = bytes},
    };
    safetensors_pair about = {LATENTS_SETTINGS, p->settings};
    return report(safetensors_write(path, entry, 2, &about, p->settings ? 1 : 0, &e), &e, caller);
}

/* ---- pictures ------------------------------------------------------------------------------ */

bool lk_picture_open(lk_picture **out, const char *path, lk_error *caller)
{
    error e = {0};
    *out = calloc(1, sizeof **out);
    bool ok = (*out || error_memory(&e, "a picture", sizeof **out)) &&
              image_read(&(*out)->image, &(*out)->settings, path, &e);
    if (!ok) lk_picture_close(out);
    return report(ok, &e, caller);
}

void lk_picture_close(lk_picture **p)
{
    if (!*p) return;
    image_free(&(*p)->image);
    generate_result_free(&(*p)->latents);
    free((*p)->settings);
    free(*p);
    *p = NULL;
}

int lk_picture_width(const lk_picture *p) { return p->image.width; }
int lk_picture_height(const lk_picture *p) { return p->image.height; }
const uint8_t *lk_picture_pixels(const lk_picture *p) { return p->image.pixels; }
const char *lk_picture_settings(const lk_picture *p) { return p->settings; }

bool lk_picture_set_settings(lk_picture *p, const char *text, lk_error *caller)
{
    error e = {0};
    char *copy = strdup(text);
    if (!copy) return report(error_memory(&e, "a picture's settings", strlen(text)), &e, caller);
    free(p->settings);
    p->settings = copy;
    return true;
}

bool lk_settings_add(char **out, const char *text, const char *key, const char *value,
                     lk_error *caller)
{
    error e = {0};
    return report(settings_add(out, text, key, value, &e), &e, caller);
}

static char *latents_settings(const char *path)
{
    safetensors file;
    char *text = NULL;
    if (!safetensors_open(&file, path, NULL)) return NULL;
    for (size_t i = 0; !text && i < file.metadata_count; i++)
        if (strcmp(file.metadata[i].key, LATENTS_SETTINGS) == 0)
            text = strdup(file.metadata[i].value);
    safetensors_close(&file);
    return text;
}

char *lk_file_settings(const char *path)
{
    image picture;
    char *text = NULL;
    if (!path_is_file(path)) return NULL;
    if (!image_read(&picture, &text, path, NULL)) return latents_settings(path);
    image_free(&picture);
    return text;
}

bool lk_picture_save(const lk_picture *p, const char *path, lk_error *caller)
{
    error e = {0};
    return report(image_write(&p->image, path, p->settings, PICTURE_QUALITY, &e), &e, caller);
}

bool lk_picture_grid(lk_picture **out, const lk_picture *const *cell, int rows, int columns,
                     const char *const *row_label, const char *const *column_label,
                     lk_error *caller)
{
    error e = {0};
    size_t count = rows > 0 && columns > 0 ? (size_t)rows * (size_t)columns : 0;
    const image **images = calloc(count + 1, sizeof *images);
    *out = calloc(1, sizeof **out);
    bool ok = (images && *out) || error_memory(&e, "a sheet of pictures", count * sizeof *images);
    ok = ok && (count || error_set(&e, ERROR_USAGE, "a sheet of %d rows and %d columns is none",
                                   rows, columns));
    for (size_t i = 0; ok && i < count; i++) images[i] = cell[i] ? &cell[i]->image : NULL;
    ok = ok && grid_make(&(*out)->image, images, rows, columns, row_label, column_label, &e);
    free(images);
    if (!ok) lk_picture_close(out);
    return report(ok, &e, caller);
}

/* ---- generating ---------------------------------------------------------------------------- */

bool lk_sampler_parse(lk_sampler *out, const char *name)
{
    sampler_kind kind;
    if (!sampler_kind_parse(&kind, name)) return false;
    *out = (lk_sampler)kind;
    return true;
}

bool lk_variance_parse(lk_variance *out, const char *name)
{
    variance found;
    if (!variance_parse(&found, name)) return false;
    *out = (lk_variance)((int)found + 1);
    return true;
}

bool lk_spacing_parse(lk_spacing *out, const char *name)
{
    spacing found;
    if (!spacing_parse(&found, name)) return false;
    *out = (lk_spacing)((int)found + 1);
    return true;
}

const char *lk_sampler_name(lk_sampler s) { return sampler_kind_name((sampler_kind)s); }

void lk_generate_defaults(lk_generate_options *o)
{
    memset(o, 0, sizeof *o);
    o->steps = 50;
    o->guidance = 7.5f;
    o->picture = o->pictures = 1;
}

/* What the callback below needs to know. */
typedef struct watch {
    const lk_generate_options *o;
    double start;
} watch;

static bool on_progress(void *user, int step, int steps)
{
    watch *w = user;
    if (step == 0) w->start = clock_seconds();
    lk_progress p = {w->o->picture, w->o->pictures, step, steps, clock_seconds() - w->start};
    return w->o->progress(w->o->user, &p) != 0;
}

static generate_options options_in(const lk_generate_options *o)
{
    return (generate_options){
        .prompt = o->prompt, .negative = o->negative, .seed = o->seed, .width = o->width,
        .height = o->height, .guidance = o->guidance, .guidance_rescale = o->guidance_rescale,
        .clip_skip = o->clip_skip, .latents = o->latents ? o->latents->data : NULL,
        .sampler = {
            .kind = (sampler_kind)o->sampler, .steps = o->steps, .eta = o->eta,
            .has_variance = o->variance != LK_VARIANCE_MODEL,
            .variance = o->variance ? (variance)((int)o->variance - 1) : VARIANCE_FIXED_SMALL,
            .has_spacing = o->spacing != LK_SPACING_MODEL,
            .spacing = o->spacing ? (spacing)((int)o->spacing - 1) : SPACING_LEADING,
        },
    };
}

/* The fields that a sweep can change. */
static void options_out(lk_generate_options *o, const generate_options *in)
{
    const sampler_options *s = &in->sampler;
    o->width = in->width;
    o->height = in->height;
    o->guidance = in->guidance;
    o->guidance_rescale = in->guidance_rescale;
    o->clip_skip = in->clip_skip;
    o->sampler = (lk_sampler)s->kind;
    o->steps = s->steps;
    o->eta = s->eta;
    o->variance = s->has_variance ? (lk_variance)((int)s->variance + 1) : LK_VARIANCE_MODEL;
    o->spacing = s->has_spacing ? (lk_spacing)((int)s->spacing + 1) : LK_SPACING_MODEL;
}

static bool latents_fit(const lk_model *m, const lk_generate_options *o, error *e)
{
    int shape[3];
    if (!o->latents) return true;
    generator_latents(m->generator, o->width, o->height, shape);
    const int *have = o->latents->shape;
    return memcmp(have, shape, sizeof shape) == 0 ||
           error_set(e, ERROR_USAGE,
                     "the initial latents are [1, %d, %d, %d]; a picture of this size needs "
                     "[1, %d, %d, %d]",
                     have[0], have[1], have[2], shape[0], shape[1], shape[2]);
}

bool lk_generate_check(lk_model *m, const lk_generate_options *o, char **notes, lk_error *caller)
{
    error e = {0};
    generate_options options = options_in(o);
    if (notes) *notes = NULL;
    return report(latents_fit(m, o, &e) && generator_check(m->generator, &options, notes, &e), &e,
                  caller);
}

/* Models that take turns. mix NULL: the first alone. */
typedef struct turns {
    lk_model *const *model;
    const char *const *name;
    int count;
    const mix *mix;
} turns;

static lk_model *turns_first(const turns *t)
{
    return t->model[t->mix ? t->mix->step[0].model[0] : 0];
}

/* malloc'ed; NULL on failure. */
static generator **generators_of(const turns *t, error *e)
{
    generator **out = calloc((size_t)t->count + 1, sizeof *out);
    if (!out) error_memory(e, "a list of models", (size_t)t->count * sizeof *out);
    for (int i = 0; out && i < t->count; i++) out[i] = t->model[i]->generator;
    return out;
}

static bool turns_run(lk_picture **out, const turns *t, const lk_generate_options *o, error *e)
{
    watch w = {.o = o};
    generate_options options = options_in(o);
    generator **generators = generators_of(t, e);
    if (o->progress) {
        options.progress = on_progress;
        options.user = &w;
    }
    *out = calloc(1, sizeof **out);
    bool ok = generators && (*out || error_memory(e, "a picture", sizeof **out)) &&
              latents_fit(turns_first(t), o, e) &&
              generator_run_mixed(generators, t->count, t->mix, &options, &(*out)->latents, e);
    if (ok) {
        (*out)->image = (*out)->latents.picture;
        (*out)->latents.picture = (image){0};
    }
    picture_job job = {generators, t->name, t->count, t->mix, &options};
    ok = ok && parameters_text(&(*out)->settings, &job, &(*out)->image, e);
    free(generators);
    if (!ok) lk_picture_close(out);
    return ok;
}

/* Of a picture that is not made yet. */
static bool turns_settings(char **text, const turns *t, const lk_generate_options *o, error *e)
{
    int width, height, multiple;
    generate_options options = options_in(o);
    generator **generators = generators_of(t, e);
    picture_job job = {generators, t->name, t->count, t->mix, &options};
    generator_size(turns_first(t)->generator, &width, &height, &multiple);
    image size = {.width = o->width ? o->width : width, .height = o->height ? o->height : height};
    bool ok =
        generators && latents_fit(turns_first(t), o, e) && parameters_text(text, &job, &size, e);
    free(generators);
    return ok;
}

bool lk_generate_settings(char **text, lk_model *m, const lk_generate_options *o, lk_error *caller)
{
    error e = {0};
    turns t = {.model = &m, .count = 1};
    *text = NULL;
    return report(turns_settings(text, &t, o, &e), &e, caller);
}

bool lk_generate(lk_picture **out, lk_model *m, const lk_generate_options *o, lk_error *caller)
{
    error e = {0};
    turns t = {.model = &m, .count = 1};
    return report(turns_run(out, &t, o, &e), &e, caller);
}

/* ---- several models in one picture --------------------------------------------------------- */

static bool names_check(const char *const *names, int count, error *e)
{
    for (int i = 0; i < count; i++)
        for (int k = 0; k < i; k++)
            if (strcmp(names[i], names[k]) == 0)
                return error_set(e, ERROR_USAGE, "two models have the name %s; give each its own",
                                 names[i]);
    return true;
}

static bool models_check(const turns *t, error *e)
{
    for (int i = 1; i < t->count; i++)
        if (t->model[i]->device != t->model[0]->device)
            return error_set(e, ERROR_USAGE, "%s and %s are open in two contexts; models of one "
                             "picture share one", t->name[0], t->name[i]);
    return names_check(t->name, t->count, e);
}

bool lk_schedule_check(const char *schedule, const char *const *names, int count, int steps,
                       lk_error *caller)
{
    error e = {0};
    mix m = {0};
    bool ok = names_check(names, count, &e) && mix_parse(&m, schedule, names, count, steps, &e);
    mix_close(&m);
    return report(ok, &e, caller);
}

bool lk_generate_check_mixed(lk_model *const *models, const char *const *names, int count,
                             const char *schedule, const lk_generate_options *o, char **notes,
                             lk_error *caller)
{
    error e = {0};
    mix m = {0};
    turns t = {models, names, count, &m};
    generate_options options = options_in(o);
    if (notes) *notes = NULL;
    bool ok = models_check(&t, &e) && mix_parse(&m, schedule, names, count, o->steps, &e);
    generator **generators = ok ? generators_of(&t, &e) : NULL;
    ok = generators && latents_fit(turns_first(&t), o, &e) &&
         generator_check_mixed(generators, count, &m, &options, notes, &e);
    free(generators);
    mix_close(&m);
    return report(ok, &e, caller);
}

bool lk_generate_settings_mixed(char **text, lk_model *const *models, const char *const *names,
                                int count, const char *schedule, const lk_generate_options *o,
                                lk_error *caller)
{
    error e = {0};
    mix m = {0};
    turns t = {models, names, count, &m};
    *text = NULL;
    bool ok = models_check(&t, &e) && mix_parse(&m, schedule, names, count, o->steps, &e) &&
              turns_settings(text, &t, o, &e);
    mix_close(&m);
    return report(ok, &e, caller);
}

bool lk_generate_mixed(lk_picture **out, lk_model *const *models, const char *const *names,
                       int count, const char *schedule, const lk_generate_options *o,
                       lk_error *caller)
{
    error e = {0};
    mix m = {0};
    turns t = {models, names, count, &m};
    *out = NULL;
    bool ok = models_check(&t, &e) && mix_parse(&m, schedule, names, count, o->steps, &e) &&
              turns_run(out, &t, o, &e);
    mix_close(&m);
    return report(ok, &e, caller);
}

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
    return report(ok && model_merge(part, s.share, s.terms, folder, &check, &e), &e, caller);
}

/* ---- many pictures ------------------------------------------------------------------------- */

bool lk_seeds_parse(uint64_t **seeds, size_t *count, const char *text, lk_error *caller)
{
    error e = {0};
    *seeds = NULL;
    *count = 0;
    return report(seeds_parse(seeds, count, text, true, &e), &e, caller);
}

/* Takes names and labels over from the rows. */
static bool sweep_out(lk_sweep *out, sweep *s, const lk_generate_options *base, error *e)
{
    out->options = calloc(s->count + 1, sizeof *out->options);
    out->name = calloc(s->count + 1, sizeof *out->name);
    out->label = calloc(s->count + 1, sizeof *out->label);
    if (!out->options || !out->name || !out->label)
        return error_memory(e, "a sweep", s->count * sizeof *out->options);
    for (size_t i = 0; i < s->count; i++) {
        out->options[i] = *base;
        options_out(&out->options[i], &s->row[i].options);
        out->name[i] = s->row[i].name;
        out->label[i] = s->row[i].label;
        s->row[i].name = s->row[i].label = NULL;
    }
    out->count = s->count;
    return true;
}

bool lk_sweep_parse(lk_sweep *out, const char *text, const lk_generate_options *base,
                    lk_error *caller)
{
    error e = {0};
    sweep s = {0};
    generate_options options = options_in(base);
    *out = (lk_sweep){0, NULL, NULL, NULL};
    bool ok = sweep_parse(&s, text, &options, &e) && sweep_out(out, &s, base, &e);
    sweep_close(&s);
    if (!ok) lk_sweep_close(out);
    return report(ok, &e, caller);
}

void lk_sweep_close(lk_sweep *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->name[i]);
        free(s->label[i]);
    }
    free(s->options);
    free(s->name);
    free(s->label);
    *s = (lk_sweep){0, NULL, NULL, NULL};
}

char *lk_slug(const char *text, size_t limit) { return slug_make(text, limit); }

bool lk_can_write(const char *path, bool make_folder, lk_error *caller)
{
    error e = {0};
    file_writer *w = NULL;
    const char *slash = strrchr(path, '/');
    bool ok = true;
    if (make_folder && slash && slash != path) {
        char *folder = string_format("%.*s", (int)(slash - path), path);
        ok = folder ? path_make_dir(folder, &e) : error_memory(&e, path, strlen(path));
        if (ok) folder_sweep(folder);
        free(folder);
    }
    if (make_folder && !slash) folder_sweep(".");
    ok = ok && file_writer_open(&w, path, &e);
    file_writer_abandon(&w);
    return report(ok, &e, caller);
}

/* ---- training ------------------------------------------------------------------------------ */

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

void lk_train_defaults(lk_train_options *o)
{
    train_settings s;
    train_settings_defaults(&s);
    *o = (lk_train_options){
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

/* As lk_generate makes them by its defaults. */
static bool train_picture(void *user, const picture_order *order, image *out, char **text, error *e)
{
    const lk_model *base = user;
    lk_generate_options defaults;
    lk_generate_defaults(&defaults);
    generate_options o = options_in(&defaults);
    o.prompt = order->prompt;
    o.seed = order->seed;
    o.progress = order->progress;
    o.user = order->user;
    return picture_make(out, text, base->generator, order->model, &o, e);
}

static bool on_train_progress(void *user, const train_progress *p)
{
    const lk_train_options *o = user;
    lk_train_progress out = {.phase = (lk_train_phase)p->phase,
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
    return o->progress && o->progress(o->user, &out) != 0;
}

static void on_train_say(void *user, const char *line)
{
    const lk_train_options *o = user;
    if (o->say) o->say(o->user, line);
}

bool lk_train(lk_model *m, const lk_train_options *o, lk_error *caller)
{
    error e = {0};
    train_settings s = train_settings_in(o);
    picture_maker maker = {train_picture, m};
    train_events events = {on_train_progress, on_train_say, (void *)(uintptr_t)o};
    return report(train_run(m->device, m->model, &s, &maker, &events, &e), &e, caller);
}

/* ---- study --------------------------------------------------------------------------------- */

static bool on_study_progress(void *user, const study_progress *p)
{
    const lk_study_options *o = user;
    lk_study_progress out = {p->what, p->done, p->total, p->left};
    return o->progress && o->progress(o->user, &out) != 0;
}

static void on_study_say(void *user, const char *line)
{
    const lk_study_options *o = user;
    if (o->say) o->say(o->user, line);
}

/* The folder that holds `examples`: the source tree, or where the program is installed. malloc'ed. */
static char *root_find(error *e)
{
    char *program = path_of_program();
    char *found = program ? pocket_at(program, "../share/likeness") : NULL;
    free(program);
    if (!found) found = strdup(LIKENESS_SOURCE_DIR);
    if (!found) error_memory(e, "a path", 64);
    return found;
}

bool lk_study(lk_context *c, const lk_study_options *o, lk_error *caller)
{
    error e = {0};
    char *root = root_find(&e), *pocket = root ? pocket_find(&e) : NULL;
    char *plan = root && !o->plan ? path_join(root, "examples/report.json") : NULL;
    photos_request photos = {o->photos, o->name, o->class_name, o->model};
    study_options options = {.plan = o->plan ? o->plan : plan,
                             .photos = o->photos ? &photos : NULL,
                             .root = root,
                             .pocket = pocket,
                             .folder = o->folder,
                             .clip = o->clip,
                             .dino = o->dino,
                             .dry_run = o->dry_run,
                             .yes = o->yes,
                             .version = lk_version()};
    study_events events = {on_study_progress, on_study_say, (void *)(uintptr_t)o};
    bool ok = pocket && (options.plan || error_memory(&e, "a plan", 64)) &&
              (!o->photos || (!o->plan && o->name && o->class_name) ||
               error_set(&e, ERROR_USAGE,
                         "a study of photos needs a name and a class, and makes its own plan")) &&
              study_run(c->device, &options, &events, &e);
    free(root);
    free(pocket);
    free(plan);
    return report(ok, &e, caller);
}

/* ---- inspecting ---------------------------------------------------------------------------- */

static bool is_picture(const char *path)
{
    unsigned char head[16];
    size_t n;
    return file_begin(path, head, sizeof head, &n, NULL) && image_known(head, n);
}

bool lk_inspect(char **text, const char *path, lk_error *caller)
{
    error e = {0};
    *text = NULL;
    char *pocket = strcmp(path, "pocket") == 0 && !path_exists(path) ? pocket_find(&e) : NULL;
    if (pocket) path = pocket;
    if (!path_is_dir(path) && is_picture(path)) {
        lk_picture *p = NULL;
        if (!lk_picture_open(&p, path, caller)) {
            free(pocket);
            return false;
        }
        char more[64] = "";
        if (p->image.frames > 1) snprintf(more, sizeof more, ", the first of %d pictures", p->image.frames);
        *text = string_format("%s\n%dx%d%s\n%s\n", path, p->image.width, p->image.height, more,
                              p->settings ? p->settings : "It carries no settings.");
        lk_picture_close(&p);
        if (!*text) error_memory(&e, path, 0);
    } else {
        model *m = NULL;
        thread_pool *pool = NULL;
        if (!path_exists(path) || detect_describe(text, path, &e))
            if (!*text && model_open_to_look(&m, path, &e) &&
                thread_pool_open(&pool, cpu_count(), &e))
                *text = model_describe(m, pool, &e);
        thread_pool_close(&pool);
        model_close(&m);
    }
    free(pocket);
    return report(*text != NULL, &e, caller);
}
