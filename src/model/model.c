/* SPDX-License-Identifier: Apache-2.0
 *
 * model: opening a checkpoint in any of its layouts (docs/MODEL.md), and closing it. */
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "file/fields.h"
#include "model/detect.h"
#include "model/find.h"
#include "model/load.h"
#include "model/taesd.h"
#include "model/told.h"

enum { CONFIG_LIMIT = 1 << 20 };

/* ---- what a network expects ---- */

static graph *record_clip(const void *config, error *e)
{
    const clip_config *c = config;
    graph *g;
    if (!graph_open(&g, DTYPE_F32, e)) return NULL;
    clip_build(g, c, graph_input(g, "ids", DTYPE_I32, 2, (int64_t[]){1, c->positions}), 0);
    return g;
}

static graph *record_unet(const void *config, error *e)
{
    const unet_config *c = config;
    graph *g;
    if (!graph_open(&g, DTYPE_F32, e)) return NULL;
    int64_t side = (int64_t)1 << c->blocks;
    tensor *x = graph_input(g, "x", DTYPE_F32, 4, (int64_t[]){1, side, side, c->in_channels});
    tensor *t = graph_input(g, "t", DTYPE_F32, 1, (int64_t[]){1});
    tensor *context = !c->conditional ? NULL
                                      : graph_input(g, "context", DTYPE_F32, 3,
                                                    (int64_t[]){1, 2, c->cross_dim});
    unet_build(g, c, x, t, context);
    return g;
}

static graph *record_vae(const void *config, error *e)
{
    const vae_config *c = config;
    graph *g;
    if (!graph_open(&g, DTYPE_F32, e)) return NULL;
    int64_t side = (int64_t)1 << c->blocks;
    vae_build_encoder(
        g, c, graph_input(g, "image", DTYPE_F32, 4, (int64_t[]){1, side, side, c->in_channels}));
    vae_build_decoder(
        g, c, graph_input(g, "latent", DTYPE_F32, 4, (int64_t[]){1, 1, 1, c->latent_channels}));
    return g;
}

/* Loads and checks one network; the files' share stays the caller's. */
static bool load_network(weight_set *out, weight_files *files, const naming *names,
                         graph *(*record)(const void *, error *), const void *config,
                         const char *where, const model *m, error *e)
{
    graph *expected = record(config, e);
    bool ok = expected && graph_recorded(expected, e) &&
              weights_load(out, files, names, expected, where, e) &&
              weights_check_finite(out, where, m->pool, m->watch, e);
    graph_close(&expected);
    return ok;
}

/* ---- folders ---- */

/* path/name where that is a folder, else path itself: components of flat repositories lie at the
 * root. */
static char *component_dir(const char *path, const char *name)
{
    char *inner = path_join(path, name);
    if (!inner || path_is_dir(inner)) return inner;
    free(inner);
    return strdup(path);
}

static bool read_config(bool (*read)(void *, const char *, error *), void *config,
                        const char *folder, const char *name, error *e)
{
    char *path = path_join(folder, name);
    bool ok = path ? read(config, path, e) : error_memory(e, folder, strlen(folder));
    free(path);
    return ok;
}

static bool read_clip(void *c, const char *path, error *e) { return clip_config_read(c, path, e); }

static bool read_unet(void *c, const char *path, error *e) { return unet_config_read(c, path, e); }

static bool read_vae(void *c, const char *path, error *e) { return vae_config_read(c, path, e); }

static bool read_scheduler(void *c, const char *path, error *e)
{
    return scheduler_config_read(c, path, e);
}

/* A network of a diffusers folder: its config.json, then its weights. */
static bool open_component(const char *folder, const char *base, const naming *names, void *config,
                           bool (*read)(void *, const char *, error *),
                           graph *(*record)(const void *, error *), weight_set *weights,
                           const model *m, error *e)
{
    weight_files *files = NULL;
    bool ok = read_config(read, config, folder, "config.json", e) &&
              component_open(&files, folder, base, e) &&
              load_network(weights, files, names, record, config, folder, m, e);
    weight_files_release(&files);
    return ok;
}

static bool open_unet(model *m, error *e)
{
    char *folder = component_dir(m->path, "unet");
    naming names = {.network = NETWORK_UNET, .prefix = "", .unet = &m->unet};
    bool ok = folder ? open_component(folder, "diffusion_pytorch_model", &names, &m->unet,
                                      read_unet, record_unet, &m->unet_weights, m, e)
                     : error_memory(e, m->path, strlen(m->path));
    free(folder);
    return ok;
}

static bool open_clip(model *m, error *e)
{
    char *folder = path_join(m->path, "text_encoder");
    naming names = {.network = NETWORK_CLIP, .prefix = ""};
    bool ok = folder ? open_component(folder, "model", &names, &m->clip, read_clip, record_clip,
                                      &m->clip_weights, m, e)
                     : error_memory(e, m->path, strlen(m->path));
    free(folder);
    return ok;
}

static bool open_vae_folder(model *m, const char *folder, error *e)
{
    naming names = {.network = NETWORK_VAE, .prefix = "", .vae = &m->vae};
    m->vae_folder = strdup(folder);
    if (!m->vae_folder) return error_memory(e, folder, strlen(folder));
    return open_component(folder, "diffusion_pytorch_model", &names, &m->vae, read_vae, record_vae,
                          &m->vae_weights, m, e);
}

static bool open_scheduler(model *m, error *e)
{
    char *folder = component_dir(m->path, "scheduler");
    bool ok = folder
                  ? read_config(read_scheduler, &m->scheduler, folder, "scheduler_config.json", e)
                  : error_memory(e, m->path, strlen(m->path));
    free(folder);
    return ok;
}

/* ---- VAEs from elsewhere ---- */

static bool does_not_fit(error *e)
{
    return e && e->code == ERROR_MODEL ? error_suffix(e, "; give a VAE that fits with --vae")
                                       : false;
}

/* The VAE inside a single file, whose sizes are Stable Diffusion 1's or a test's. */
static bool open_vae_in(model *m, weight_files *files, const char *path, const vae_config *sizes,
                        error *e)
{
    naming names;
    if (!detect_vae(files, &names))
        return detect_taesd(files, &names)
                   ? error_set(e, ERROR_MODEL,
                               "%s: this is a tiny autoencoder: give it with --taesd", path)
                   : error_set(e, ERROR_MODEL,
                               "%s: has no VAE; give one with --vae (a folder, or a "
                               ".safetensors or .ckpt file)",
                               path);
    if (sizes)
        m->vae = *sizes;
    else
        vae_config_sd1(&m->vae);
    names.vae = &m->vae;
    char where[1024];
    snprintf(where, sizeof where, "%s (VAE)", path);
    return load_network(&m->vae_weights, files, &names, record_vae, &m->vae, where, m, e) ||
           does_not_fit(e);
}

/* The folder of a file whose config.json is an autoencoder's, malloc'ed; *out NULL where there is
 * none. */
static bool vae_config_beside(const char *file, char **out, error *e)
{
    const char *slash = strrchr(file, '/');
    char *folder = slash ? strndup(file, (size_t)(slash - file) + 1) : strdup(".");
    char *config = folder ? path_join(folder, "config.json") : NULL;
    bool ok = config || error_memory(e, file, strlen(file)), its = false;
    fields f;
    if (ok && path_is_file(config) && fields_open(&f, config, CONFIG_LIMIT, NULL)) {
        its = !strcmp(field_text(&f, "_class_name", ""), "AutoencoderKL");
        fields_close(&f);
    }
    free(config);
    *out = its ? folder : NULL;
    if (!its) free(folder);
    return ok;
}

/* --vae: a VAE's folder, a whole model's folder, or a single file, with a config.json beside it or
 * in Stable Diffusion 1's sizes. */
static bool open_vae_path(model *m, const char *path, const vae_config *sizes, error *e)
{
    if (!(m->vae_given = strdup(path))) return error_memory(e, path, strlen(path));
    if (path_is_dir(path)) {
        char *folder = component_dir(path, "vae");
        bool ok = folder ? open_vae_folder(m, folder, e) : error_memory(e, path, strlen(path));
        free(folder);
        return ok || does_not_fit(e);
    }
    weight_files *files = NULL;
    vae_config own;
    if (!vae_config_beside(path, &m->vae_folder, e)) return false;
    bool ok = (!m->vae_folder || read_config(read_vae, &own, m->vae_folder, "config.json", e)) &&
              weight_files_open(&files, (char *[]){(char *)(uintptr_t)path}, 1, e) &&
              open_vae_in(m, files, path, m->vae_folder ? &own : sizes, e);
    weight_files_release(&files);
    return ok;
}

/* ---- tokenizers ---- */

static bool open_tokenizer(model *m, const char *folder, error *e)
{
    m->tokenizer_folder = strdup(folder);
    return m->tokenizer_folder ? tokenizer_open(&m->tokens, folder, e)
                               : error_memory(e, folder, strlen(folder));
}

static bool has_tokenizer(const char *folder)
{
    static const char *const names[] = {"tokenizer.json", "merges.txt"};
    bool found = false;
    for (int i = 0; !found && i < 2; i++) {
        char *path = path_join(folder, names[i]);
        found = path && path_is_file(path);
        free(path);
    }
    return found;
}

/* base/sub where a tokenizer is there, malloc'ed; NULL else (base may be NULL). */
static char *tokenizer_at(const char *base, const char *sub)
{
    char *folder = base ? path_join(base, sub) : NULL;
    if (folder && has_tokenizer(folder)) return folder;
    free(folder);
    return NULL;
}

/* In the order of docs/MODEL.md; of those places the first whose tokenizer is the one of that name
 * (told.h; NULL: any). */
static char *find_tokenizer(const char *file, const char *name)
{
    const char *slash = strrchr(file, '/');
    char *beside = slash ? strndup(file, (size_t)(slash - file) + 1) : strdup(".");
    char *ours = path_beside("models/clip-tokenizer");
    const char *models = getenv("LIKENESS_MODELS");
    char *pocket = name ? find_pocket(NULL) : NULL, its[65];
    const struct {
        const char *base, *sub;
    } places[] = {{getenv("LIKENESS_TOKENIZER"), "."},
                  {beside, "tokenizer"},
                  {beside, "clip-tokenizer"},
                  {beside, "."},
                  {models, "clip-tokenizer"},
                  {ours, "."},
                  {pocket, "tokenizer"}};
    char *found = NULL;
    for (size_t i = 0; !found && i < sizeof places / sizeof *places; i++) {
        found = tokenizer_at(places[i].base, places[i].sub);
        if (!found || !name || (told_tokenizer_of(found, its, NULL) && !strcmp(its, name)))
            continue;
        free(found);
        found = NULL;
    }
    free(pocket);
    free(beside);
    free(ours);
    return found;
}

static bool open_single_tokenizer(model *m, const char *tokenizer_path, const char *name, error *e)
{
    if (tokenizer_path) return open_tokenizer(m, tokenizer_path, e);
    char *folder = find_tokenizer(m->path, name);
    if (!folder && name)
        return error_set(e, ERROR_FILE,
                         "%s: has a tokenizer of its own, which is not in the file and was not "
                         "found; give the folder that has it (--tokenizer DIR)",
                         m->path);
    bool ok = folder
                  ? open_tokenizer(m, folder, e)
                  : error_set(
                        e, ERROR_FILE,
                        "%s: a single file has no tokenizer, and CLIP's was not "
                        "found: fetch it with \"make clip-tokenizer\" where Likeness was built, or "
                        "give a folder that has its merges.txt (--tokenizer DIR, or the variable "
                        "LIKENESS_TOKENIZER)",
                        m->path);
    free(folder);
    return ok;
}

/* ---- the whole ---- */

/* Networks that do not fit each other, and what Stable Diffusion's pipeline does to its scheduler.
 */
static bool finish_stable_diffusion(model *m, error *e)
{
    if (m->clip.hidden != m->unet.cross_dim)
        return error_set(e, ERROR_MODEL, "%s: the text encoder is %d wide, the UNet expects %d",
                         m->path, m->clip.hidden, m->unet.cross_dim);
    if (m->vae.latent_channels != m->unet.in_channels && !model_inpaints(m))
        return error_set(e, ERROR_MODEL,
                         "%s: the VAE has %d latent channels, the UNet %d; give a VAE "
                         "that fits with --vae",
                         m->path, m->vae.latent_channels, m->unet.in_channels);
    int id;
    const char *added = NULL;
    for (size_t i = 0; m->tokens && (added = tokenizer_added(m->tokens, i, &id)); i++)
        if (id >= m->clip.vocab)
            return error_set(e, ERROR_MODEL,
                             "%s: the tokenizer's added token \"%.60s\" has id %d, and the "
                             "text encoder has only %d rows: its embedding is missing",
                             m->path, added, id, m->clip.vocab);
    if (m->tokens && tokenizer_vocab_size(m->tokens) > m->clip.vocab)
        return error_set(e, ERROR_MODEL,
                         "%s: the tokenizer has %d tokens, the text encoder only %d", m->path,
                         tokenizer_vocab_size(m->tokens), m->clip.vocab);
    /* StableDiffusionPipeline.__init__ */
    m->scheduler.steps_offset = 1;
    m->scheduler.has_steps_offset = true;
    m->scheduler.clip_sample = false;
    m->scheduler.has_clip_sample = true;
    return true;
}

bool model_inpaints(const model *m)
{
    return m->unet.conditional && m->unet.in_channels == 2 * m->vae.latent_channels + 1;
}

static bool check_output(model *m, error *e)
{
    int in = m->unet.in_channels, out = m->unet.out_channels;
    if (m->unet.conditional && in == 9) in = 4; /* an inpainting model's latents */
    return out == in || out == 2 * in ||
           error_set(e, ERROR_MODEL,
                     "%s: the UNet gives %d channels for %d; only as many, or twice as many "
                     "(a learned variance), make sense",
                     m->path, out, in);
}

/* A folder is taken for a model when it, or its unet/, has a config.json. */
static bool check_is_model(const model *m, error *e)
{
    char *folder = component_dir(m->path, "unet"),
         *config = folder ? path_join(folder, "config.json") : NULL;
    bool there = config && path_is_file(config);
    bool ok = config ? there || error_set(e, ERROR_FILE,
                                          "%s: not a model: no config.json and no unet/"
                                          "config.json in that folder",
                                          m->path)
                     : error_memory(e, m->path, strlen(m->path));
    free(folder);
    free(config);
    return ok;
}

static bool open_folder(model *m, const char *vae_path, const char *tokenizer_path, error *e)
{
    char *transformer = path_join(m->path, "transformer"),
         *tokens = path_join(m->path, "tokenizer");
    char *vae = path_join(m->path, "vae");
    bool ok = transformer && tokens && vae;
    m->format = "diffusers folder";
    if (!ok)
        error_memory(e, m->path, strlen(m->path));
    else if (path_is_dir(transformer))
        ok = detect_folder(m->path, e) &&
             error_set(e, ERROR_MODEL,
                       "%s: its network is a transformer, not a UNet: not supported", m->path);
    else
        ok = detect_folder(m->path, e) && check_is_model(m, e) && open_scheduler(m, e) &&
             open_unet(m, e) && check_output(m, e);
    if (ok && m->unet.conditional) {
        m->kind = MODEL_STABLE_DIFFUSION;
        ok = open_tokenizer(m, tokenizer_path ? tokenizer_path : tokens, e) && open_clip(m, e) &&
             (vae_path ? open_vae_path(m, vae_path, NULL, e) : open_vae_folder(m, vae, e)) &&
             finish_stable_diffusion(m, e);
    } else if (ok) {
        m->kind = MODEL_UNCONDITIONAL;
        if (vae_path)
            ok = error_set(e, ERROR_USAGE, "%s: is an unconditional model, it has no use for --vae",
                           m->path);
    }
    free(transformer);
    free(tokens);
    free(vae);
    return ok;
}

static model *model_new(const char *path, thread_pool *pool, const work_watch *watch, error *e)
{
    model *m = calloc(1, sizeof *m);
    if (m) m->path = strdup(path);
    if (m) m->pool = pool;
    if (m) m->watch = watch;
    if (m) m->hash = calloc(1, 65);
    if (!m || !m->path || !m->hash) {
        error_memory(e, "the model", sizeof *m);
        model_close(&m);
    }
    return m;
}

/* The networks of a single file; the configurations are set. */
static bool open_single_networks(model *m, weight_files *files, const char *vae_path,
                                 const vae_config *vae_sizes, error *e)
{
    naming clip = {.network = NETWORK_CLIP, .ldm = true, .prefix = "cond_stage_model.transformer."};
    naming unet = {
        .network = NETWORK_UNET, .ldm = true, .prefix = "model.diffusion_model.", .unet = &m->unet};
    char where[1024];
    snprintf(where, sizeof where, "%s (UNet of Stable Diffusion 1)", m->path);
    if (!load_network(&m->unet_weights, files, &unet, record_unet, &m->unet, where, m, e))
        return false;
    snprintf(where, sizeof where, "%s (text encoder of Stable Diffusion 1)", m->path);
    if (!load_network(&m->clip_weights, files, &clip, record_clip, &m->clip, where, m, e))
        return false;
    return vae_path ? open_vae_path(m, vae_path, vae_sizes, e)
                    : open_vae_in(m, files, m->path, vae_sizes, e);
}

/* The autoencoder's sizes, of the file or a test's; without blocks: Stable Diffusion 1's. */
static bool its_vae(vae_config *vae, const model *m, bool told, const single_sizes *sizes)
{
    *vae = (vae_config){0};
    if (told) *vae = m->vae;
    if (sizes && sizes->vae) *vae = *sizes->vae;
    return true;
}

/* An inpainting model's network (9 channels) differs from others' in its first convolution alone.
 */
static void see_channels(model *m, const weight_files *files)
{
    const safetensors_entry *first = weight_files_find(
        files, "model.diffusion_model.input_blocks.0.0.weight");
    if (first && first->rank == 4 && first->dim[1] == 2 * m->unet.in_channels + 1)
        m->unet.in_channels = (int)first->dim[1];
}

/* A file that does not tell its sizes is taken for Stable Diffusion 1's. */
static bool check_sizes(const model *m, const weight_files *files, error *e)
{
    const safetensors_entry *first = weight_files_find(files,
                                                       "model.diffusion_model.time_embed.0.weight");
    int64_t width = m->unet.channels[0], wide = 4 * width;
    if (!first || first->rank != 2 || (first->dim[0] == wide && first->dim[1] == width))
        return true;
    return error_set(e, ERROR_MODEL,
                     "%s: its UNet is not of Stable Diffusion 1's size (time_embed.0.weight is "
                     "%lldx%lld, should be %lldx%lld), and no size is told in it: give the folder "
                     "it was made from, or what likeness convert makes of that",
                     m->path, (long long)first->dim[0], (long long)first->dim[1], (long long)wide,
                     (long long)width);
}

static bool open_single(model **out, const char *path, const char *vae_path,
                        const char *tokenizer_path, const single_sizes *sizes, bool to_look,
                        thread_pool *pool, const work_watch *watch, error *e)
{
    *out = NULL;
    model *m = model_new(path, pool, watch, e);
    if (!m) return false;
    m->kind = MODEL_STABLE_DIFFUSION;
    m->format = "single file (original names)";
    clip_config_sd1(&m->clip);
    unet_config_sd1(&m->unet);
    scheduler_config_sd1(&m->scheduler);
    if (sizes) {
        m->clip = *sizes->clip;
        m->unet = *sizes->unet;
    }
    weight_files *files = NULL;
    vae_config vae;
    bool told = false;
    bool ok = weight_files_open(&files, &m->path, 1, e) && detect_single(files, path, e) &&
              (sizes || told_read(m, files, &told, e)) && its_vae(&vae, m, told, sizes);
    if (ok && !told) see_channels(m, files);
    ok = ok && (told || sizes || check_sizes(m, files, e));
    ok = ok && open_single_networks(m, files, vae_path, vae.blocks ? &vae : NULL, e) &&
         (to_look || open_single_tokenizer(m, tokenizer_path, told_tokenizer(files), e)) &&
         finish_stable_diffusion(m, e);
    /* Files that predict v say so by an empty tensor of that name, since nothing else in them
     * differs. */
    if (ok && !told && weight_files_find(files, "v_pred")) {
        m->scheduler.predicts = PREDICT_V;
        m->scheduler.zero_snr = weight_files_find(files, "ztsnr") != NULL;
    }
    weight_files_release(&files);
    m->pool = NULL;
    m->watch = NULL;
    if (ok)
        *out = m;
    else
        model_close(&m);
    return ok;
}

bool model_open_single(model **out, const char *path, const char *vae_path,
                       const char *tokenizer_path, const single_sizes *sizes, bool to_look,
                       error *e)
{
    return open_single(out, path, vae_path, tokenizer_path, sizes, to_look, NULL, NULL, e);
}

static bool open_path(model **out, const char *path, const char *vae_path,
                      const char *tokenizer_path, bool to_look, thread_pool *pool,
                      const work_watch *watch, error *e)
{
    *out = NULL;
    if (!path_exists(path))
        return error_set(e, ERROR_FILE,
                         "%s: no such model (a diffusers folder, or a .safetensors, .ckpt or .gguf "
                         "file)",
                         path);
    if (!path_is_dir(path))
        return open_single(out, path, vae_path, tokenizer_path, NULL, to_look, pool, watch, e);
    model *m = model_new(path, pool, watch, e);
    if (!m) return false;
    bool ok = open_folder(m, vae_path, tokenizer_path, e);
    m->pool = NULL;
    m->watch = NULL;
    if (ok)
        *out = m;
    else
        model_close(&m);
    return ok;
}

bool model_open(model **out, const char *path, const char *vae_path, const char *tokenizer_path,
                error *e)
{
    return open_path(out, path, vae_path, tokenizer_path, false, NULL, NULL, e);
}

bool model_open_with(model **out, const char *path, const char *vae_path,
                     const char *tokenizer_path, thread_pool *pool, const work_watch *watch,
                     error *e)
{
    return open_path(out, path, vae_path, tokenizer_path, false, pool, watch, e);
}

bool model_open_to_look(model **out, const char *path, thread_pool *pool, const work_watch *watch,
                        error *e)
{
    return open_path(out, path, NULL, NULL, true, pool, watch, e);
}

/* Items of its own over the same data. */
static bool share_set(weight_set *out, const weight_set *base, error *e)
{
    size_t bytes = (base->count + 1) * sizeof *base->item;
    weight *item = malloc(bytes);
    if (!item) return error_memory(e, "the weights of a model", bytes);
    if (base->count) memcpy(item, base->item, base->count * sizeof *item);
    *out = (weight_set){item, base->count, base->storage, NULL, base->storage_drop, base};
    return true;
}

static bool copy_text(char **out, const char *text, error *e)
{
    *out = text ? strdup(text) : NULL;
    return !text || *out || error_memory(e, "the model", strlen(text));
}

bool model_derive(model **out, const model *base, error *e)
{
    model *m = model_new(base->path, NULL, NULL, e);
    *out = NULL;
    if (!m) return false;
    char *path = m->path, *hash = m->hash;
    *m = *base;
    m->path = path;
    m->hash = hash;
    m->base = base;
    m->copied = 0;
    m->clip_weights = m->unet_weights = (weight_set){0};
    m->tokenizer_folder = m->vae_folder = m->vae_given = NULL;
    m->lora_hashes = m->lora_weights = m->lora_aliases = NULL;
    m->inversion_hashes = m->inversion_words = NULL;
    memset(m->told, 0, sizeof m->told);
    bool ok = copy_text(&m->tokenizer_folder, base->tokenizer_folder, e) &&
              copy_text(&m->vae_folder, base->vae_folder, e) &&
              copy_text(&m->vae_given, base->vae_given, e) &&
              copy_text(&m->lora_hashes, base->lora_hashes, e) &&
              copy_text(&m->lora_weights, base->lora_weights, e) &&
              copy_text(&m->lora_aliases, base->lora_aliases, e) &&
              copy_text(&m->inversion_hashes, base->inversion_hashes, e) &&
              copy_text(&m->inversion_words, base->inversion_words, e) &&
              share_set(&m->clip_weights, &base->clip_weights, e) &&
              share_set(&m->unet_weights, &base->unet_weights, e);
    for (int i = 0; ok && i < 4; i++) ok = copy_text(&m->told[i], base->told[i], e);
    if (ok)
        *out = m;
    else
        model_close(&m);
    return ok;
}

void model_close(model **handle)
{
    model *m = *handle;
    if (!m) return;
    weight_set_close(&m->clip_weights);
    weight_set_close(&m->unet_weights);
    if (!m->base) {
        weight_set_close(&m->vae_weights);
        taesd_close(&m->tiny);
        tokenizer_close(&m->tokens);
        scheduler_config_close(&m->scheduler);
    }
    free(m->tokenizer_folder);
    free(m->vae_folder);
    free(m->vae_given);
    free(m->path);
    free(m->lora_hashes);
    free(m->lora_weights);
    free(m->lora_aliases);
    free(m->inversion_hashes);
    free(m->inversion_words);
    for (int i = 0; i < 4; i++) free(m->told[i]);
    free(m->hash);
    free(m);
    *handle = NULL;
}
