/* SPDX-License-Identifier: Apache-2.0
 *
 * generate: what diffusers' StableDiffusionPipeline.__call__ and DDPMPipeline.__call__ do. Owns the
 * planned graphs (denoiser, decoder) and the text's keys and values; see generate.h. */
#include "generate/generate.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/platform.h"
#include "generate/prompt.h"

/* The UNet for one size and batch, and beside it the graph of its cross-attention's keys and
 * values. */
typedef struct denoiser {
    graph *unet, *text;
    int height, width, batch;         /* of the latents; height 0: nothing planned */
    tensor *x, *t, *out;              /* [B,h,w,C], [B], [B,h,w,C'] */
    tensor *context, **kv_out, **kv_in; /* [B,N,cross] -> kv_out, copied into kv_in */
    size_t kv_count;
} denoiser;

typedef struct decoder {
    graph *graph;
    int height, width;                /* of the latents; 0: nothing planned */
    tensor *latent, *image;           /* [1,h,w,C] -> [1,H,W,3] */
} decoder;

/* Keys and values of the text they were last computed for. */
typedef struct text_state {
    bool valid;
    char *prompt, *negative;
    int clip_skip, batch;
    float *context;                   /* [batch,N,hidden], what they were computed from */
    void **kv;                        /* kv_count blocks, in the compute type */
    size_t kv_count;
} text_state;

struct generator {
    device *device;                   /* borrowed */
    model *model;                     /* borrowed */
    scheduler_config scheduler; /* the model's, as the pipeline reads it; trained_betas borrowed */
    denoiser denoiser;
    decoder decoder;
    text_state text;
    bool unet_packed, vae_packed;     /* the device holds its copy of the weights */
    bool active;                      /* the UNet's graph is bound and has its memory */
};

/* One call's options, made definite. */
typedef struct job {
    const generate_options *o;
    const char *prompt, *negative;
    int channels, height, width, batch; /* of the latents */
    int out_channels; /* the network's: twice as many where the variance is learned */
    sampler *sampler;
    rng rng;
    float *latent;                    /* [C,h,w] */
    float *x, *out;                   /* [B,h,w,C], [B,h,w,C']: the network's edge */
    float *guided;                    /* [C',h,w] */
    generator *const *models;         /* what takes turns, as `mix` says */
    int model_count;
    const mix *mix;
    float *part;                      /* several models in one step: [B,h,w,C'] */
} job;

static bool conditional(const generator *g) { return g->model->kind == MODEL_STABLE_DIFFUSION; }

static int vae_factor(const generator *g)
{
    return conditional(g) ? 1 << (g->model->vae.blocks - 1) : 1;
}

static int64_t tensor_count(const tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dim[i];
    return n;
}

static size_t tensor_bytes(const tensor *t)
{
    return (size_t)tensor_count(t) * dtype_size(t->type);
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

/* A bad value came out of a run: again, with its inputs written anew, looking at every tensor. */
static bool blame(graph *g, const char *where, error *e)
{
    error found = {0};
    if (graph_run_checked(g, &found))
        error_set(&found, ERROR_NUMERIC,
                  "NaN or infinity in the result, but in no tensor before it");
    return error_set(e, found.code, "%s: %s", where, found.text);
}

/* ---- opening ------------------------------------------------------------------------------- */

/* The parts come from files of their own, and must agree where they meet. */
static bool model_fits(const model *m, error *e)
{
    if (m->kind == MODEL_UNCONDITIONAL)
        return m->unet.in_channels == 3 ||
               error_set(e, ERROR_MODEL, "%s: the network makes %d channels; a picture has 3",
                         m->path, m->unet.in_channels);
    if (m->unet.in_channels != m->vae.latent_channels)
        return error_set(e, ERROR_MODEL,
                         "%s: the UNet reads latents of %d channels, the autoencoder has "
                         "%d; give the autoencoder that belongs to it (--vae)",
                         m->path, m->unet.in_channels, m->vae.latent_channels);
    return m->unet.cross_dim == m->clip.hidden ||
           error_set(e, ERROR_MODEL,
                     "%s: the UNet reads text embeddings of %d numbers, the text encoder "
                     "makes %d: they do not belong together",
                     m->path, m->unet.cross_dim, m->clip.hidden);
}

bool generator_open(generator **out, device *d, model *m, error *e)
{
    *out = NULL;
    if (!model_fits(m, e)) return false;
    generator *g = calloc(1, sizeof *g);
    if (!g) return error_memory(e, "a generator", sizeof *g);
    g->device = d;
    g->model = m;
    g->scheduler = m->scheduler;
    if (m->kind == MODEL_STABLE_DIFFUSION) { /* StableDiffusionPipeline.__init__ insists on both */
        g->scheduler.steps_offset = 1;
        g->scheduler.has_steps_offset = true;
        g->scheduler.clip_sample = false;
        g->scheduler.has_clip_sample = true;
    }
    *out = g;
    return true;
}

static void denoiser_close(denoiser *n)
{
    graph_close(&n->unet);
    graph_close(&n->text);
    free(n->kv_out);
    free(n->kv_in);
    *n = (denoiser){0};
}

static void text_forget(text_state *t)
{
    for (size_t i = 0; i < t->kv_count; i++) free(t->kv[i]);
    free(t->kv);
    free(t->context);
    free(t->prompt);
    free(t->negative);
    *t = (text_state){0};
}

void generator_close(generator **g)
{
    if (!*g) return;
    denoiser_close(&(*g)->denoiser);
    graph_close(&(*g)->decoder.graph);
    text_forget(&(*g)->text);
    free(*g);
    *g = NULL;
}

const model *generator_model(const generator *g) { return g->model; }

const device *generator_device(const generator *g) { return g->device; }

void generator_size(const generator *g, int *width, int *height, int *multiple)
{
    *width = *height = g->model->unet.sample_size * vae_factor(g);
    /* Any latent size runs in a Stable Diffusion UNet (it upsamples to its skips' sizes);
     * UNet2DModel needs sides that halve evenly all the way down. */
    *multiple = conditional(g) ? vae_factor(g) : 1 << (g->model->unet.blocks - 1);
}

void generator_latents(const generator *g, int width, int height, int shape[3])
{
    int own_width, own_height, multiple;
    generator_size(g, &own_width, &own_height, &multiple);
    shape[0] = g->model->unet.in_channels;
    shape[1] = (height ? height : own_height) / vae_factor(g);
    shape[2] = (width ? width : own_width) / vae_factor(g);
}

/* ---- planning ------------------------------------------------------------------------------ */

/* The text graph, for its keys' and values' shapes; then the UNet that has them as inputs. */
static bool denoiser_plan_text(generator *g, denoiser *n, int batch, error *e)
{
    const unet_config *c = &g->model->unet;
    int64_t shape[3] = {batch, g->model->clip.positions, c->cross_dim};
    n->kv_count = unet_text_count(c);
    n->kv_out = calloc(n->kv_count + 1, sizeof *n->kv_out);
    n->kv_in = calloc(n->kv_count + 1, sizeof *n->kv_in);
    if (!n->kv_out || !n->kv_in) return error_memory(e, "the text's keys", n->kv_count);
    if (!graph_open(&n->text, g->device->compute, e)) return false;
    n->context = graph_input(n->text, "text embedding", DTYPE_F32, 3, shape);
    unet_build_text(n->text, c, n->context, n->kv_out);
    for (size_t i = 0; i < n->kv_count; i++) graph_output(n->text, n->kv_out[i]);
    return graph_plan(n->text, g->device, e);
}

static bool denoiser_plan_unet(generator *g, denoiser *n, int batch, int height, int width,
                               error *e)
{
    const unet_config *c = &g->model->unet;
    int64_t shape[4] = {batch, height, width, c->in_channels};
    if (!graph_open(&n->unet, g->device->compute, e)) return false;
    n->x = graph_input(n->unet, "latents", DTYPE_F32, 4, shape);
    n->t = graph_input(n->unet, "timestep", DTYPE_F32, 1, shape);
    for (size_t i = 0; i < n->kv_count; i++)
        n->kv_in[i] = graph_input(n->unet, i % 2 ? "text values" : "text keys", n->kv_out[i]->type,
                                  n->kv_out[i]->rank, n->kv_out[i]->dim);
    tensor *out = n->text ? unet_build_cached(n->unet, c, n->x, n->t, n->kv_in)
                          : unet_build(n->unet, c, n->x, n->t, NULL);
    n->out = cast(n->unet, out, DTYPE_F32);
    graph_output(n->unet, n->out);
    return graph_plan(n->unet, g->device, e);
}

/* Plans the UNet for a size and batch, if it is not the one already planned. */
static bool denoiser_plan(generator *g, int batch, int height, int width, error *e)
{
    denoiser *n = &g->denoiser;
    if (n->height == height && n->width == width && n->batch == batch) return true;
    denoiser_close(n);
    if ((conditional(g) && !denoiser_plan_text(g, n, batch, e)) ||
        !denoiser_plan_unet(g, n, batch, height, width, e)) {
        denoiser_close(n);
        return false;
    }
    n->batch = batch;
    n->height = height;
    n->width = width;
    return true;
}

static bool decoder_plan(generator *g, int height, int width, error *e)
{
    decoder *n = &g->decoder;
    if (n->height == height && n->width == width) return true;
    graph_close(&n->graph);
    *n = (decoder){0};
    int64_t shape[4] = {1, height, width, g->model->vae.latent_channels};
    if (!graph_open(&n->graph, g->device->compute, e)) return false;
    n->latent = graph_input(n->graph, "latents", DTYPE_F32, 4, shape);
    n->image = cast(n->graph, vae_build_decoder(n->graph, &g->model->vae, n->latent), DTYPE_F32);
    graph_output(n->graph, n->image);
    if (!graph_plan(n->graph, g->device, e)) {
        graph_close(&n->graph);
        return false;
    }
    n->height = height;
    n->width = width;
    return true;
}

/* ---- memory -------------------------------------------------------------------------------- */

static double packed_bytes(const device *d, const weight_set *set)
{
    double total = 0;
    for (size_t i = 0; i < set->count; i++) total += (double)device_copy_bytes(d, &set->item[i]);
    return total;
}

static bool memory_check(double need, int width, int height, error *e)
{
    double have = (double)memory_available();
    if (need <= have) return true;
    return error_set(e, ERROR_MEMORY,
                     "a picture of %dx%d needs %s of memory and %s can be had; choose "
                     "a smaller size (-W, -H), or close other programs",
                     width, height, number_bytes(need).text, number_bytes(have).text);
}

/* Before planning: what the widest maps alone must take, so that an absurd size is not even
 * planned. */
static bool memory_check_least(const generator *g, int width, int height, error *e)
{
    int channels = conditional(g) ? g->model->vae.channels[0] : g->model->unet.channels[0];
    return memory_check((double)width * height * channels * 2 * sizeof(float), width, height, e);
}

static bool memory_check_planned(const generator *g, int width, int height, error *e)
{
    const model *m = g->model;
    double block = (double)graph_bytes(g->denoiser.unet), weights = 0;
    if (conditional(g)) {
        if ((double)graph_bytes(g->decoder.graph) > block)
            block = (double)graph_bytes(g->decoder.graph);
        if (!g->vae_packed) weights += packed_bytes(g->device, &m->vae_weights);
    }
    if (!g->unet_packed) weights += packed_bytes(g->device, &m->unet_weights);
    return memory_check(block + weights, width, height, e);
}

/* ---- text ---------------------------------------------------------------------------------- */

/* out [N,hidden]: diffusers' encode_prompt for one text. */
static bool text_encode(generator *g, const char *text, int clip_skip, float *out, error *e)
{
    const clip_config *c = &g->model->clip;
    int64_t shape[2] = {1, c->positions};
    graph *n = NULL;
    int32_t *ids = malloc((size_t)c->positions * sizeof *ids);
    bool ok = ids || error_memory(e, "a prompt's tokens", (size_t)c->positions * sizeof *ids);
    ok = ok && tokenizer_encode_prompt(g->model->tokens, text, c->positions, ids, NULL, e) &&
         graph_open(&n, g->device->compute, e);
    if (ok) {
        tensor *in = graph_input(n, "tokens", DTYPE_I32, 2, shape);
        tensor *state = cast(n, clip_build(n, c, in, clip_skip), DTYPE_F32);
        graph_output(n, state);
        ok = graph_plan(n, g->device, e) && graph_bind(n, &g->model->clip_weights, e) &&
             graph_allocate(n, e);
        if (ok) graph_write(n, in, ids);
        ok = ok && graph_run(n, e);
        if (ok) graph_read(n, state, out);
        if (ok && !all_finite(out, (size_t)tensor_count(state))) {
            graph_write(n, in, ids);
            ok = blame(n, "text encoder", e);
        }
    }
    graph_close(&n);
    free(ids);
    return ok;
}

/* context [B,N,cross] -> keys and values, kept in t->kv. */
static bool text_keys(generator *g, const float *context, text_state *t, error *e)
{
    denoiser *n = &g->denoiser;
    bool ok = graph_bind(n->text, &g->model->unet_weights, e) && graph_allocate(n->text, e);
    if (ok) graph_write(n->text, n->context, context);
    ok = ok && graph_run(n->text, e);
    t->kv = calloc(n->kv_count + 1, sizeof *t->kv);
    if (ok && !t->kv) ok = error_memory(e, "the text's keys", n->kv_count * sizeof *t->kv);
    for (size_t i = 0; ok && i < n->kv_count; i++) {
        size_t bytes = tensor_bytes(n->kv_out[i]);
        t->kv[i] = malloc(bytes);
        if (!t->kv[i]) {
            ok = error_memory(e, "the text's keys", bytes);
        } else {
            t->kv_count = i + 1;
            graph_read(n->text, n->kv_out[i], t->kv[i]);
        }
    }
    graph_release(n->text);
    return ok;
}

static bool is_text_of(const text_state *t, const job *j)
{
    return t->valid && t->batch == j->batch && t->clip_skip == j->o->clip_skip &&
           strcmp(t->prompt, j->prompt) == 0 && strcmp(t->negative, j->negative) == 0;
}

static bool same_weights(const weight_set *a, const weight_set *b)
{
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++) {
        const weight *x = &a->item[i], *y = &b->item[i];
        size_t bytes = (size_t)weight_elements(x) * dtype_size(x->type);
        if (strcmp(x->name, y->name) != 0 || x->type != y->type ||
            weight_elements(x) != weight_elements(y) || memcmp(x->data, y->data, bytes) != 0)
            return false;
    }
    return true;
}

static bool same_tokens(const generator *a, const generator *b, const char *text, int32_t *ids)
{
    int n = a->model->clip.positions;
    return tokenizer_encode_prompt(a->model->tokens, text, n, ids, NULL, NULL) &&
           tokenizer_encode_prompt(b->model->tokens, text, n, ids + n, NULL, NULL) &&
           memcmp(ids, ids + n, (size_t)n * sizeof *ids) == 0;
}

/* Another model of the job that has read the same texts with equal weights; NULL: none has. */
static const generator *same_reader(const generator *g, const job *j)
{
    const clip_config *c = &g->model->clip;
    const generator *found = NULL;
    int32_t *ids = malloc(2 * (size_t)c->positions * sizeof *ids);
    for (int k = 0; ids && !found && k < j->model_count; k++) {
        const generator *other = j->models[k];
        if (other == g || !is_text_of(&other->text, j) ||
            memcmp(c, &other->model->clip, sizeof *c) != 0 ||
            !same_tokens(g, other, j->prompt, ids) || !same_tokens(g, other, j->negative, ids) ||
            !same_weights(&g->model->clip_weights, &other->model->clip_weights))
            continue;
        found = other;
    }
    free(ids);
    return found;
}

/* [unconditional, conditional]; diffusers applies clip_skip to the prompt alone. */
static bool text_read(generator *g, const job *j, float *context, size_t one, error *e)
{
    const generator *same = same_reader(g, j);
    if (same) {
        memcpy(context, same->text.context, one * (size_t)j->batch * sizeof *context);
        return true;
    }
    bool ok = j->batch < 2 || text_encode(g, j->negative, 0, context, e);
    ok = ok && text_encode(g, j->prompt, j->o->clip_skip, context + one * (size_t)(j->batch - 1), e);
    for (size_t i = 0; i < g->model->clip_weights.count; i++)
        device_forget(&g->model->clip_weights.item[i]); /* not needed until the next prompt */
    return ok;
}

/* Makes g->text that of the job's prompts, unless it is already. */
static bool text_prepare(generator *g, const job *j, error *e)
{
    text_state *t = &g->text;
    const clip_config *c = &g->model->clip;
    if (is_text_of(t, j)) return true;
    text_forget(t);
    size_t one = (size_t)c->positions * (size_t)c->hidden;
    t->context = malloc(one * (size_t)j->batch * sizeof *t->context);
    t->prompt = strdup(j->prompt);
    t->negative = strdup(j->negative);
    bool ok = (t->context && t->prompt && t->negative) ||
              error_memory(e, "text embeddings", one * (size_t)j->batch * sizeof *t->context);
    ok = ok && text_read(g, j, t->context, one, e) && text_keys(g, t->context, t, e);
    t->batch = j->batch;
    t->clip_skip = j->o->clip_skip;
    t->valid = ok;
    if (!ok) text_forget(t);
    return ok;
}

/* ---- a job --------------------------------------------------------------------------------- */

static void job_close(job *j)
{
    sampler_close(&j->sampler);
    free(j->latent);
    free(j->x);
    free(j->out);
    free(j->guided);
    free(j->part);
    *j = (job){0};
}

static bool job_size(const generator *g, const generate_options *o, job *j, error *e)
{
    int width, height, multiple, shape[3];
    generator_size(g, &width, &height, &multiple);
    if (o->width) width = o->width;
    if (o->height) height = o->height;
    if (width < multiple || height < multiple || width % multiple || height % multiple)
        return error_set(e, ERROR_USAGE,
                         "a size of %dx%d: width and height must be multiples of %d "
                         "with this model, such as %dx%d",
                         width, height, multiple,
                         width < multiple ? multiple : width / multiple * multiple,
                         height < multiple ? multiple : height / multiple * multiple);
    if (!memory_check_least(g, width, height, e)) return false;
    generator_latents(g, width, height, shape);
    j->channels = shape[0];
    j->height = shape[1];
    j->width = shape[2];
    j->out_channels = g->model->unet.out_channels;
    return true;
}

/* notes: NULL, or what the model will not read as it may be meant is added. */
static bool job_text(const generator *g, const job *j, char **notes, error *e)
{
    const clip_config *c = &g->model->clip;
    if (!conditional(g))
        return !*j->prompt || error_set(e, ERROR_USAGE, "%s is an unconditional model: it takes no "
                                        "prompt", g->model->path);
    if (j->o->clip_skip < 0 || j->o->clip_skip >= c->layers)
        return error_set(e, ERROR_USAGE,
                         "clip skip %d: this text encoder has %d layers, so 0 to %d "
                         "can be left out",
                         j->o->clip_skip, c->layers, c->layers - 1);
    char *unasked = NULL;
    if (!notes) notes = &unasked;
    bool ok = prompt_notes(notes, g->model, "prompt", j->prompt, e) &&
              prompt_notes(notes, g->model, "negative prompt", j->negative, e);
    free(unasked);
    return ok;
}

/* A learned variance is a second half of the network's output channels; the sampler must know of
 * it. */
static bool job_variance(const generator *g, const job *j, error *e)
{
    int in = g->model->unet.in_channels, out = g->model->unet.out_channels;
    bool learned = sampler_learned(j->sampler);
    if (out == (learned ? 2 * in : in)) return true;
    if (learned)
        return error_set(e, ERROR_USAGE,
                         "a learned variance needs a network with %d output channels, and "
                         "this one has %d; choose --variance fixed_small or fixed_large",
                         2 * in, out);
    return error_set(e, ERROR_MODEL,
                     "the network reads %d channels and makes %d; this is only understood "
                     "with --sampler ddpm --variance learned or learned_range and %d channels",
                     in, out, 2 * in);
}

/* Everything but the work: checks all options, plans, and compares the memory needed with what
 * there is. */
static bool job_open(generator *g, const generate_options *o, job *j, char **notes, error *e)
{
    *j = (job){.o = o};
    j->prompt = o->prompt ? o->prompt : "";
    j->negative = o->negative ? o->negative : "";
    j->batch = conditional(g) && o->guidance > 1 ? 2 : 1;
    if (!isfinite(o->guidance) || !isfinite(o->guidance_rescale))
        return error_set(e, ERROR_USAGE, "guidance must be a number");
    return job_size(g, o, j, e) && job_text(g, j, notes, e) &&
           sampler_open(&j->sampler, &g->scheduler, &o->sampler, e) && job_variance(g, j, e) &&
           denoiser_plan(g, j->batch, j->height, j->width, e) &&
           (!conditional(g) || decoder_plan(g, j->height, j->width, e)) &&
           memory_check_planned(g, j->width * vae_factor(g), j->height * vae_factor(g), e);
}

/* Notes are for who asked, and for a check that went well. */
static bool finish_check(bool ok, char **notes)
{
    if (!ok && notes) {
        free(*notes);
        *notes = NULL;
    }
    return ok;
}

bool generator_check(generator *g, const generate_options *o, char **notes, error *e)
{
    job j;
    if (notes) *notes = NULL;
    bool ok = job_open(g, o, &j, notes, e);
    job_close(&j);
    return finish_check(ok, notes);
}

/* ---- denoising ----------------------------------------------------------------------------- */

/* [C,h,w] -> [h,w,C] */
static void to_channels_last(float *out, const float *in, size_t channels, size_t space)
{
    for (size_t i = 0; i < space; i++)
        for (size_t c = 0; c < channels; c++) out[i * channels + c] = in[c * space + i];
}

/* [h,w,C] -> [C,h,w] */
static void to_channels_first(float *out, const float *in, size_t channels, size_t space)
{
    for (size_t c = 0; c < channels; c++)
        for (size_t i = 0; i < space; i++) out[c * space + i] = in[i * channels + c];
}

static bool job_allocate(job *j, error *e)
{
    size_t space = (size_t)j->height * (size_t)j->width, batch = (size_t)j->batch;
    size_t in = (size_t)j->channels * space, out = (size_t)j->out_channels * space;
    j->latent = malloc(in * sizeof(float));
    j->x = malloc(in * batch * sizeof(float));
    j->out = malloc(out * batch * sizeof(float));
    j->guided = malloc(out * sizeof(float));
    if (!j->latent || !j->x || !j->out || !j->guided)
        return error_memory(e, "latents", (in + out) * (batch + 1) * sizeof(float));
    rng_seed(&j->rng, j->o->seed);
    if (j->o->latents)
        memcpy(j->latent, j->o->latents, in * sizeof(float));
    else
        rng_randn(&j->rng, j->latent, in); /* torch.randn([1,C,h,w]) */
    j->part = malloc(out * batch * sizeof(float));
    if (!j->part) return error_memory(e, "latents", out * batch * sizeof(float));
    return all_finite(j->latent, in) ||
           error_set(e, ERROR_NUMERIC, "the initial latents hold NaN or infinity");
}

/* The planner gives an input's place to others once it was read, so all are written each time. */
static void denoiser_write(const generator *g, const job *j, int timestep)
{
    const denoiser *n = &g->denoiser;
    size_t space = (size_t)j->height * (size_t)j->width, in = (size_t)j->channels * space;
    float t[2] = {(float)timestep, (float)timestep};
    to_channels_last(j->x, j->latent, (size_t)j->channels, space);
    if (j->batch > 1) memcpy(j->x + in, j->x, in * sizeof(float));
    graph_write(n->unet, n->x, j->x);
    graph_write(n->unet, n->t, t);
    for (size_t i = 0; i < n->kv_count; i++) graph_write(n->unet, n->kv_in[i], g->text.kv[i]);
}

/* Binds the weights and takes the memory, unless that is done. */
static bool activate(generator *g, error *e)
{
    if (g->active) return true;
    if (!graph_bind(g->denoiser.unet, &g->model->unet_weights, e)) return false;
    g->unet_packed = true;
    return g->active = graph_allocate(g->denoiser.unet, e);
}

static double deviation(const float *x, size_t n)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    for (size_t i = 0; i < n; i++) squares += (x[i] - sum / (double)n) * (x[i] - sum / (double)n);
    return sqrt(squares / (double)(n - 1));
}

/* Classifier-free guidance and rescale_noise_cfg: j->out [2,h,w,C'] -> j->guided [C',h,w]. */
static void guide(const job *j)
{
    size_t space = (size_t)j->height * (size_t)j->width, n = (size_t)j->out_channels * space;
    float scale = j->o->guidance, share = j->o->guidance_rescale;
    if (j->batch > 1) {
        float *u = j->out, *c = j->out + n;
        for (size_t i = 0; i < n; i++) u[i] = u[i] + scale * (c[i] - u[i]);
        if (share > 0) {
            float ratio = (float)(deviation(c, n) / deviation(u, n));
            for (size_t i = 0; i < n; i++) u[i] = share * (u[i] * ratio) + (1 - share) * u[i];
        }
    }
    to_channels_first(j->guided, j->out, (size_t)j->out_channels, space);
}

/* The network's output at step i, before guidance, in j->out. */
static bool evaluate(generator *g, job *j, int i, error *e)
{
    denoiser *n = &g->denoiser;
    int timestep = sampler_timestep(j->sampler, i);
    if (!activate(g, e)) return false;
    denoiser_write(g, j, timestep);
    if (!graph_run(n->unet, e)) return false;
    graph_read(n->unet, n->out, j->out);
    if (all_finite(j->out, (size_t)tensor_count(n->out))) return true;
    char where[80];
    snprintf(where, sizeof where, "step %d of %d (timestep %d)", i + 1, sampler_count(j->sampler),
             timestep);
    denoiser_write(g, j, timestep);
    return blame(n->unet, where, e);
}

/* The weighted sum of several models' predictions. Guidance is linear, so the sum is guided as a whole
 * would be; each is guided by itself. */
static bool predict_sum(job *j, const mix_step *s, int i, error *e)
{
    size_t n = (size_t)j->out_channels * (size_t)j->height * (size_t)j->width;
    memset(j->part, 0, n * sizeof *j->part);
    for (int k = 0; k < s->terms; k++) {
        if (!evaluate(j->models[s->model[k]], j, i, e)) return false;
        guide(j);
        for (size_t x = 0; x < n; x++) j->part[x] += s->share[k] * j->guided[x];
    }
    memcpy(j->guided, j->part, n * sizeof *j->part);
    return true;
}

/* The unconditional half from one model, the conditional from another. */
static bool predict_split(job *j, const mix_step *s, int i, error *e)
{
    size_t half = (size_t)j->out_channels * (size_t)j->height * (size_t)j->width;
    if (!evaluate(j->models[s->model[0]], j, i, e)) return false;
    memcpy(j->part, j->out, half * sizeof *j->part);
    if (!evaluate(j->models[s->model[1]], j, i, e)) return false;
    if (j->batch > 1) memcpy(j->out, j->part, half * sizeof *j->part);
    guide(j);
    return true;
}

/* The guided output at step i. */
static bool predict(job *j, int i, error *e)
{
    const mix_step *s = j->mix ? &j->mix->step[i] : NULL;
    if (s && s->split) return predict_split(j, s, i, e);
    if (s && (s->terms > 1 || s->share[0] != 1)) return predict_sum(j, s, i, e);
    if (!evaluate(j->models[s ? s->model[0] : 0], j, i, e)) return false;
    guide(j);
    return true;
}

static bool progress(const job *j, int step, error *e)
{
    if (!j->o->progress || !j->o->progress(j->o->user, step, sampler_count(j->sampler)))
        return true;
    return error_set(e, ERROR_CANCELLED, "stopped");
}

static void tell_reached(const job *j, int step)
{
    generate_snapshot now = {step, j->latent, &j->rng};
    if (j->o->reached) j->o->reached(j->o->user, &now);
}

static bool denoise(job *j, error *e)
{
    size_t n = (size_t)j->channels * (size_t)j->height * (size_t)j->width;
    int steps = sampler_count(j->sampler), first = j->o->from ? j->o->from->step : 0;
    bool ok = progress(j, first, e);
    for (int i = first; ok && i < steps; i++) {
        ok = predict(j, i, e) && sampler_step(j->sampler, i, j->latent, j->guided, n, &j->rng, e);
        if (ok && !all_finite(j->latent, n))
            ok = error_set(e, ERROR_NUMERIC, "step %d of %d: the sampler gave NaN or infinity; try "
                           "other settings (sampler, spacing, guidance)", i + 1, steps);
        if (ok) tell_reached(j, i + 1);
        ok = ok && progress(j, i + 1, e);
    }
    for (int k = 0; k < j->model_count; k++) {
        generator *g = j->models[k];
        if (g->denoiser.unet) graph_release(g->denoiser.unet); /* a model may not be asked at all */
        g->active = false;
    }
    return ok;
}

/* ---- decoding ------------------------------------------------------------------------------ */

/* VaeImageProcessor.denormalize and numpy_to_pil: y [H,W,3], rounded half to even. */
static bool picture_from(image *out, const float *y, int width, int height, error *e)
{
    if (!image_new(out, width, height, e)) return false;
    for (size_t i = 0; i < (size_t)width * (size_t)height * 3; i++) {
        float v = y[i] / 2 + 0.5f;
        v = v < 0 ? 0 : v > 1 ? 1 : v;
        out->pixels[i] = (uint8_t)rintf(v * 255.0f);
    }
    return true;
}

static void decoder_write(const generator *g, const job *j)
{
    size_t space = (size_t)j->height * (size_t)j->width, n = (size_t)j->channels * space;
    to_channels_last(j->x, j->latent, (size_t)j->channels, space);
    for (size_t i = 0; i < n; i++) j->x[i] /= g->model->vae.scaling_factor;
    graph_write(g->decoder.graph, g->decoder.latent, j->x);
}

static bool decode(generator *g, job *j, image *out, error *e)
{
    decoder *n = &g->decoder;
    if (!graph_bind(n->graph, &g->model->vae_weights, e)) return false;
    g->vae_packed = true;
    float *y = malloc(tensor_bytes(n->image));
    bool ok = y || error_memory(e, "the decoded picture", tensor_bytes(n->image));
    ok = ok && graph_allocate(n->graph, e);
    if (ok) decoder_write(g, j);
    ok = ok && graph_run(n->graph, e);
    if (ok) graph_read(n->graph, n->image, y);
    if (ok && !all_finite(y, (size_t)tensor_count(n->image))) {
        decoder_write(g, j);
        ok = blame(n->graph, "decoding the picture", e);
    }
    graph_release(n->graph);
    ok = ok && picture_from(out, y, (int)n->image->dim[2], (int)n->image->dim[1], e);
    free(y);
    return ok;
}

/* Unconditional: the last sample [3,s,s] is the picture. */
static bool picture_from_sample(job *j, image *out, error *e)
{
    to_channels_last(j->x, j->latent, 3, (size_t)j->height * (size_t)j->width);
    return picture_from(out, j->x, j->width, j->height, e);
}

/* ---- all of it ----------------------------------------------------------------------------- */

void generate_result_free(generate_result *r)
{
    image_free(&r->picture);
    free(r->initial);
    free(r->final);
    *r = (generate_result){0};
}

static bool result_start(const job *j, generate_result *out, error *e)
{
    size_t bytes = (size_t)j->channels * (size_t)j->height * (size_t)j->width * sizeof(float);
    out->channels = j->channels;
    out->height = j->height;
    out->width = j->width;
    out->initial = malloc(bytes);
    out->final = malloc(bytes);
    if (!out->initial || !out->final) return error_memory(e, "latents", 2 * bytes);
    memcpy(out->initial, j->latent, bytes);
    return true;
}

/* Whether any step asks model k. */
static bool is_asked(const mix *m, int k)
{
    for (int i = 0; m && i < m->count; i++)
        for (int t = 0; t < m->step[i].terms; t++)
            if (m->step[i].model[t] == k) return true;
    return !m && k == 0;
}

static bool same_noise(const scheduler_config *a, const scheduler_config *b)
{
    size_t n = (size_t)a->train_steps;
    return a->train_steps == b->train_steps && a->beta_start == b->beta_start &&
           a->beta_end == b->beta_end && a->betas == b->betas && a->zero_snr == b->zero_snr &&
           !a->trained_betas == !b->trained_betas &&
           (!a->trained_betas ||
            memcmp(a->trained_betas, b->trained_betas, n * sizeof *a->trained_betas) == 0);
}

/* The other models of a mix: they must fit the first, and have their graphs. */
static bool join(const generator *first, generator *g, const job *j, error *e)
{
    const unet_config *a = &first->model->unet, *b = &g->model->unet;
    if (first->model->kind != g->model->kind)
        return error_set(e, ERROR_USAGE, "%s and %s cannot take turns: one makes pictures from a prompt, "
                         "the other without", first->model->path, g->model->path);
    if (a->in_channels != b->in_channels || a->out_channels != b->out_channels ||
        vae_factor(first) != vae_factor(g) ||
        (conditional(g) && first->model->vae.scaling_factor != g->model->vae.scaling_factor))
        return error_set(e, ERROR_USAGE, "%s and %s cannot take turns: their latents differ",
                         first->model->path, g->model->path);
    if (first->scheduler.predicts != g->scheduler.predicts)
        return error_set(e, ERROR_USAGE, "%s and %s cannot take turns: one predicts noise, the other "
                         "velocity", first->model->path, g->model->path);
    if (!same_noise(&first->scheduler, &g->scheduler))
        return error_set(e, ERROR_USAGE, "%s and %s cannot take turns: they were trained with other "
                         "noise (scheduler_config.json)", first->model->path, g->model->path);
    return job_text(g, j, NULL, e) && denoiser_plan(g, j->batch, j->height, j->width, e) &&
           (!conditional(g) || decoder_plan(g, j->height, j->width, e));
}

/* All models of a mix are resident at once; *j is open. */
static bool memory_check_mixed(generator *const *models, int count, const mix *m, const job *j, error *e)
{
    const generator *last = models[mix_last_model(m)];
    double blocks = 0, weights = 0, picture = 0;
    for (int k = 0; k < count; k++) {
        const generator *g = models[k];
        if (!is_asked(m, k)) continue;
        blocks += (double)graph_bytes(g->denoiser.unet);
        if (!g->unet_packed) weights += packed_bytes(g->device, &g->model->unet_weights);
    }
    if (conditional(last)) {
        picture = (double)graph_bytes(last->decoder.graph);
        if (!last->vae_packed) weights += packed_bytes(last->device, &last->model->vae_weights);
    }
    return memory_check((blocks > picture ? blocks : picture) + weights, j->width * vae_factor(last),
                        j->height * vae_factor(last), e);
}

static bool join_all(generator *const *models, int count, const mix *m, const job *j, error *e)
{
    bool ok = true;
    for (int k = 0; ok && m && k < count; k++)
        if (is_asked(m, k)) ok = join(models[m->step[0].model[0]], models[k], j, e);
    return ok && (!m || memory_check_mixed(models, count, m, j, e));
}

static bool text_prepare_all(generator *const *models, int count, const mix *m, const job *j, error *e)
{
    bool ok = true;
    for (int k = 0; ok && k < count; k++)
        if (is_asked(m, k) && conditional(models[k])) ok = text_prepare(models[k], j, e);
    return ok;
}

static bool start_from(job *j, error *e)
{
    const generate_snapshot *from = j->o->from;
    size_t n = (size_t)j->channels * (size_t)j->height * (size_t)j->width;
    if (!from) return true;
    if (from->step < 0 || from->step > sampler_count(j->sampler))
        return error_set(e, ERROR_USAGE, "a run of %d steps cannot go on from step %d",
                         sampler_count(j->sampler), from->step);
    memcpy(j->latent, from->latent, n * sizeof *j->latent);
    j->rng = *from->random;
    return true;
}

bool generator_run_mixed(generator *const *models, int count, const mix *m, const generate_options *o,
                         generate_result *out, error *e)
{
    job j;
    generator *first = models[m ? m->step[0].model[0] : 0];
    generator *last = models[m ? mix_last_model(m) : 0];
    *out = (generate_result){0};
    bool ok = job_open(first, o, &j, NULL, e);
    j.models = models;
    j.model_count = count;
    j.mix = m;
    assert(!ok || !m || m->count == sampler_count(j.sampler));
    ok = ok && join_all(models, count, m, &j, e) && text_prepare_all(models, count, m, &j, e) &&
         job_allocate(&j, e) &&
         result_start(&j, out, e) && start_from(&j, e) && denoise(&j, e);
    if (ok)
        memcpy(out->final, j.latent,
               (size_t)j.channels * (size_t)j.height * (size_t)j.width * sizeof(float));
    ok = ok && (conditional(last) ? decode(last, &j, &out->picture, e)
                                  : picture_from_sample(&j, &out->picture, e));
    job_close(&j);
    if (!ok) generate_result_free(out);
    return ok;
}

bool generator_check_mixed(generator *const *models, int count, const mix *m,
                           const generate_options *o, char **notes, error *e)
{
    job j;
    if (notes) *notes = NULL;
    bool ok = job_open(models[m->step[0].model[0]], o, &j, notes, e);
    assert(!ok || m->count == sampler_count(j.sampler));
    ok = ok && join_all(models, count, m, &j, e);
    job_close(&j);
    return finish_check(ok, notes);
}

bool generator_run(generator *g, const generate_options *o, generate_result *out, error *e)
{
    return generator_run_mixed(&g, 1, NULL, o, out, e);
}
