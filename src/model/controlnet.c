/* SPDX-License-Identifier: Apache-2.0
 *
 * controlnet: see controlnet.h. */
#include "model/controlnet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/platform.h"
#include "model/hash.h"
#include "model/load.h"
#include "model/nn.h"

enum { MOST_SKIPS = CONFIG_MAX_BLOCKS * 33 + 1 };

/* ---- the network ---- */

/* ControlNetConditioningEmbedding */
tensor *controlnet_build_hint(graph *g, const controlnet_config *c, tensor *picture)
{
    scope root = scope_root(g), s = scope_in(&root, "controlnet_cond_embedding");
    tensor *x = nn_conv(&s, "conv_in", picture, c->hint[0], 1, pad_same, NULL);
    x = unary(g, x, UNARY_SILU);
    for (int i = 0; i < 2 * (c->hints - 1); i++) { /* one of each size, one that halves it */
        char name[32];
        snprintf(name, sizeof name, "blocks.%d", i);
        x = nn_conv(&s, name, x, c->hint[(i + 1) / 2], 1 + i % 2, pad_same, NULL);
        x = unary(g, x, UNARY_SILU);
    }
    return nn_conv(&s, "conv_out", x, c->unet.channels[0], 1, pad_same, NULL);
}

void controlnet_build(graph *g, const controlnet_config *c, tensor *x, tensor *t, tensor *context,
                      tensor *const *kv, int texts, tensor *hint, tensor **out)
{
    tensor *skip[MOST_SKIPS];
    scope s = scope_root(g);
    int count = unet_skip_count(&c->unet);
    x = unet_build_lower(g, &c->unet, x, t, context, kv, texts, hint, skip);
    for (int i = 0; i < count; i++) {
        scope zero = scope_in(&s, "controlnet_down_blocks.%d", i);
        out[i] = nn_conv1x1(&s, zero.name, skip[i], channels(skip[i]), NULL);
    }
    out[count] = nn_conv1x1(&s, "controlnet_mid_block", x, channels(x), NULL);
}

/* ---- opening ---- */

static graph *record(const controlnet_config *c, error *e)
{
    graph *g;
    tensor *out[MOST_SKIPS + 1];
    if (!graph_open(&g, DTYPE_F32, e)) return NULL;
    int64_t side = (int64_t)1 << c->unet.blocks, wide = side << (c->hints - 1);
    tensor *picture = graph_input(g, "picture", DTYPE_F32, 4, (int64_t[]){1, wide, wide, 3});
    tensor *x = graph_input(g, "x", DTYPE_F32, 4, (int64_t[]){1, side, side, c->unet.in_channels});
    tensor *t = graph_input(g, "t", DTYPE_F32, 1, (int64_t[]){1});
    tensor *context = graph_input(g, "context", DTYPE_F32, 3, (int64_t[]){1, 2, c->unet.cross_dim});
    controlnet_build(g, c, x, t, context, NULL, 1, controlnet_build_hint(g, c, picture), out);
    return g;
}

/* Whose names the file has. */
static bool find_names(const weight_files *files, const char *path, naming *names, error *e)
{
    static const char *const xl[] = {"add_embedding.linear_1.weight", "label_emb.0.0.weight",
                                     "control_model.label_emb.0.0.weight"};
    for (size_t i = 0; i < sizeof xl / sizeof *xl; i++)
        if (weight_files_find(files, xl[i]))
            return error_set(e, ERROR_MODEL,
                             "%s: this is a ControlNet of Stable Diffusion XL, not supported: give "
                             "one of Stable Diffusion 1",
                             path);
    names->network = NETWORK_CONTROLNET;
    names->ldm = true;
    names->prefix = "control_model.";
    if (weight_files_have_prefix(files, "control_model.input_hint_block.")) return true;
    names->prefix = "";
    if (weight_files_have_prefix(files, "input_hint_block.")) return true;
    names->ldm = false;
    return weight_files_have_prefix(files, "controlnet_cond_embedding.") ||
           error_set(e, ERROR_MODEL,
                     "%s: this is no ControlNet: it has neither diffusers' names "
                     "(controlnet_cond_embedding...) nor the original ones (control_model...)",
                     path);
}

/* The folder of path, or path where it is one; malloc'ed. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (path_is_dir(path)) return strdup(path);
    return slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
}

static bool read_sizes(controlnet *c, error *e)
{
    char *folder = folder_of(c->path), *config = folder ? path_join(folder, "config.json") : NULL;
    bool ok = config || error_memory(e, c->path, strlen(c->path));
    if (ok && (path_is_dir(c->path) || path_is_file(config)))
        ok = controlnet_config_read(&c->config, config, e);
    else
        controlnet_config_sd1(&c->config);
    free(config);
    free(folder);
    return ok;
}

static bool open_files(weight_files **out, const char *path, error *e)
{
    if (!path_exists(path))
        return error_set(e, ERROR_FILE,
                         "%s: no such ControlNet (a diffusers folder, or a .safetensors file)",
                         path);
    return path_is_dir(path) ? component_open(out, path, "diffusion_pytorch_model", e)
                             : weight_files_open(out, (char *[]){(char *)(uintptr_t)path}, 1, e);
}

static bool load(controlnet *c, thread_pool *pool, error *e)
{
    naming names = {.unet = &c->config.unet};
    weight_files *files = NULL;
    graph *expected = NULL;
    char where[1024];
    snprintf(where, sizeof where, "%s (ControlNet of Stable Diffusion 1)", c->path);
    bool ok = open_files(&files, c->path, e) && find_names(files, c->path, &names, e) &&
              read_sizes(c, e) && (expected = record(&c->config, e)) && graph_recorded(expected, e);
    names.hints = c->config.hints;
    ok = ok && weights_load(&c->weights, files, &names, expected, where, e) &&
         weights_check_finite(&c->weights, where, pool, NULL, e);
    if (ok) weight_set_hash(&c->weights, pool, c->hash);
    graph_close(&expected);
    weight_files_release(&files);
    return ok;
}

bool controlnet_open(controlnet **out, const char *path, thread_pool *pool, error *e)
{
    controlnet *c = *out = calloc(1, sizeof *c);
    if (!c) return error_memory(e, "a ControlNet", sizeof *c);
    atomic_init(&c->shares, 1);
    c->path = strdup(path);
    if (c->path ? load(c, pool, e) : error_memory(e, path, strlen(path))) return true;
    controlnet_close(out);
    return false;
}

controlnet *controlnet_share(controlnet *c)
{
    atomic_fetch_add(&c->shares, 1);
    return c;
}

void controlnet_close(controlnet **handle)
{
    controlnet *c = *handle;
    *handle = NULL;
    if (!c || atomic_fetch_sub(&c->shares, 1) > 1) return;
    weight_set_close(&c->weights);
    free(c->path);
    free(c);
}
