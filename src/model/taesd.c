/* SPDX-License-Identifier: Apache-2.0
 *
 * taesd: see taesd.h. */
#include "model/taesd.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "file/fields.h"
#include "model/detect.h"
#include "model/hash.h"
#include "model/load.h"
#include "model/nn.h"

enum { CONFIG_LIMIT = 1 << 20 };

/* ---- the network ---- */

static tensor *conv(const scope *s, tensor *x, int64_t width, bool bias, tensor *add_to)
{
    tensor *w = nn_weight(s, "weight", 4, (int64_t[]){width, channels(x), 3, 3});
    tensor *b = bias ? nn_weight(s, "bias", 1, &width) : NULL;
    return conv2d(s->g, x, w, b, 1, pad_same, add_to);
}

static tensor *relu(const scope *s, tensor *x) { return unary(s->g, x, UNARY_RELU); }

/* AutoencoderTinyBlock */
static tensor *block(const scope *s, tensor *x)
{
    tensor *h = x;
    for (int i = 0; i < 5; i += 2) {
        scope layer = scope_in(s, "conv.%d", i);
        h = relu(s, conv(&layer, h, channels(x), true, i == 4 ? x : NULL));
    }
    return h;
}

/* DecoderTiny: torch.tanh(x / 3) * 3 */
float taesd_clamp(float latent) { return tanhf(latent / 3) * 3; }

tensor *taesd_build(graph *g, const taesd_config *c, tensor *latent)
{
    scope root = scope_root(g), first = scope_in(&root, "decoder.layers.0");
    tensor *x = relu(&root, conv(&first, latent, c->channels, true, NULL));
    for (int i = 0, layer = 2; i < c->stages; i++) {
        bool last = i == c->stages - 1;
        for (int k = 0; k < c->blocks[i]; k++) {
            scope s = scope_in(&root, "decoder.layers.%d", layer++);
            x = block(&s, x);
        }
        if (!last) {
            x = upsample(g, cast_compute(g, x), 2 * x->dim[1], 2 * x->dim[2]);
            layer++;
        }
        scope s = scope_in(&root, "decoder.layers.%d", layer++);
        x = conv(&s, x, last ? 3 : c->channels, last, NULL);
    }
    return x;
}

/* ---- opening ---- */

static graph *record(const taesd_config *c, error *e)
{
    graph *g;
    if (!graph_open(&g, DTYPE_F32, e)) return NULL;
    taesd_build(g, c,
                graph_input(g, "latent", DTYPE_F32, 4, (int64_t[]){1, 1, 1, c->latent_channels}));
    return g;
}

static bool open_files(weight_files **out, const char *path, error *e)
{
    if (!path_exists(path))
        return error_set(e, ERROR_FILE,
                         "%s: no such tiny autoencoder (a diffusers folder, or a .safetensors or "
                         ".pth file)",
                         path);
    return path_is_dir(path) ? component_open(out, path, "diffusion_pytorch_model", e)
                             : weight_files_open(out, (char *[]){(char *)(uintptr_t)path}, 1, e);
}

/* Whose names the file has. */
static bool find_names(const weight_files *files, const char *path, naming *names, error *e)
{
    naming vae;
    if (detect_taesd(files, names)) return true;
    if (detect_vae(files, &vae))
        return error_set(e, ERROR_MODEL,
                         "%s: this is a whole VAE, not a tiny one: give it with --vae", path);
    if (weight_files_find(files, "encoder.layers.0.weight") ||
        weight_files_find(files, "taesd_encoder.0.weight") ||
        weight_files_find(files, "encoder.0.weight") ||
        (weight_files_find(files, "0.weight") && weight_files_find(files, "1.conv.0.weight")))
        return error_set(e, ERROR_MODEL,
                         "%s: this is a tiny autoencoder's encoder alone: give its decoder "
                         "(taesd_decoder.safetensors)",
                         path);
    return error_set(e, ERROR_MODEL,
                     "%s: this is no tiny autoencoder: it has neither diffusers' names "
                     "(decoder.layers.0.weight...) nor the original ones (1.weight...)",
                     path);
}

/* A folder's config.json, or that beside a file where it is an AutoencoderTiny's. */
static bool read_sizes(taesd *t, error *e)
{
    const char *slash = strrchr(t->path, '/');
    bool is_folder = path_is_dir(t->path), its = is_folder;
    char *folder = is_folder ? strdup(t->path)
                   : slash   ? strndup(t->path, (size_t)(slash - t->path) + 1)
                             : strdup(".");
    char *config = folder ? path_join(folder, "config.json") : NULL;
    bool ok = config || error_memory(e, t->path, strlen(t->path));
    fields f;
    if (ok && !is_folder && path_is_file(config) && fields_open(&f, config, CONFIG_LIMIT, NULL)) {
        its = !strcmp(field_text(&f, "_class_name", ""), "AutoencoderTiny");
        fields_close(&f);
    }
    if (ok && its)
        ok = taesd_config_read(&t->config, config, e);
    else
        taesd_config_sd1(&t->config);
    free(config);
    free(folder);
    return ok;
}

/* Whether it makes pictures of this model's latents: before the shapes are compared one by one. */
static bool check_fits(const taesd *t, const naming *names, const weight_files *files,
                       const model *m, error *e)
{
    char first[NAME_LENGTH];
    naming_spell(names, "decoder.layers.0.weight", 0, first);
    const safetensors_entry *w = weight_files_find(files, first);
    int reads = w && w->rank == 4 ? (int)w->dim[1] : t->config.latent_channels;
    if (reads != m->vae.latent_channels)
        return error_set(e, ERROR_MODEL,
                         "%s: is a tiny autoencoder for latents of %d channels, and this model's "
                         "have %d: Stable Diffusion 1's is taesd",
                         t->path, reads, m->vae.latent_channels);
    if (t->config.stages != m->vae.blocks)
        return error_set(e, ERROR_MODEL,
                         "%s: makes pictures %d times as large as their latents, this model's are "
                         "%d times as large",
                         t->path, 1 << (t->config.stages - 1), 1 << (m->vae.blocks - 1));
    return true;
}

static bool load(taesd *t, const model *m, thread_pool *pool, error *e)
{
    naming names;
    weight_files *files = NULL;
    graph *expected = NULL;
    char where[1024];
    snprintf(where, sizeof where, "%s (tiny autoencoder)", t->path);
    bool ok = open_files(&files, t->path, e) && find_names(files, t->path, &names, e) &&
              read_sizes(t, e) && check_fits(t, &names, files, m, e) &&
              (expected = record(&t->config, e)) && graph_recorded(expected, e) &&
              weights_load(&t->weights, files, &names, expected, where, e) &&
              weights_check_finite(&t->weights, where, pool, NULL, e);
    if (ok) weight_set_hash(&t->weights, pool, t->hash);
    graph_close(&expected);
    weight_files_release(&files);
    return ok;
}

bool model_set_taesd(model *m, const char *path, thread_pool *pool, error *e)
{
    if (m->kind != MODEL_STABLE_DIFFUSION)
        return error_set(e, ERROR_MODEL,
                         "%s: is an unconditional model, which has no latents that a tiny "
                         "autoencoder could decode",
                         m->path);
    taesd *t = calloc(1, sizeof *t);
    if (!t) return error_memory(e, "a tiny autoencoder", sizeof *t);
    t->path = strdup(path);
    if (t->path ? load(t, m, pool, e) : error_memory(e, path, strlen(path))) {
        taesd_close(&m->tiny);
        m->tiny = t;
        return true;
    }
    taesd_close(&t);
    return false;
}

void taesd_close(taesd **handle)
{
    taesd *t = *handle;
    *handle = NULL;
    if (!t) return;
    weight_set_close(&t->weights);
    free(t->path);
    free(t);
}
