/* SPDX-License-Identifier: Apache-2.0
 *
 * vit: the towers recorded on graphs, their folders opened, pictures and prompts embedded. The
 * class token and the positions are inputs of the graph: so the class token comes before the
 * patches by a concatenation, and DINOv2's positions can be those of another number of patches. */
#include "model/vit.h"

#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/platform.h"
#include "file/fields.h"
#include "model/hash.h"
#include "model/load.h"
#include "model/nn.h"
#include "model/tokenizer.h"

enum { CONFIG_LIMIT = 1 << 20, MAX_WIDTH = 1 << 14 };

struct vit {
    device *device;
    vit_config config;
    vit_processor processor;
    weight_set weights, text_weights;
    device_weights *copy, *text_copy; /* the device's of the two */
    char hash[65];
    float *scaled;            /* weights of DINOv2 with the layer scale in them */
    float *first, *positions; /* [C] class token and its position; [patches,C] */
    float *pixels;            /* [size,size,3] */
    int size, side;           /* pixels and patches of an input's side */
    graph *graph;
    tensor *image, *class_token, *position, *embedding;
    clip_config text; /* CLIP: */
    int end;          /* the token whose state is a prompt's; 2: the highest of the prompt */
    tokenizer *tokens;
    int32_t *ids;  /* [positions] */
    float *states; /* [positions, projection] */
    graph *text_graph;
    tensor *prompt, *projected;
};

/* ---- networks -------------------------------------------------------------------------------- */

/* CLIPEncoderLayer */
static tensor *clip_vision_layer(const scope *root, const vit_config *c, int i, tensor *x)
{
    scope layer = scope_in(root, "vision_model.encoder.layers.%d", i);
    scope attn = scope_in(&layer, "self_attn"), mlp = scope_in(&layer, "mlp");
    tensor *h = nn_layer_norm(&layer, "layer_norm1", x, c->eps);
    tensor *q = nn_linear_compute(&attn, "q_proj", h, c->hidden, true);
    tensor *k = nn_linear_compute(&attn, "k_proj", h, c->hidden, true);
    tensor *v = nn_linear_compute(&attn, "v_proj", h, c->hidden, true);
    x = nn_linear(&attn, "out_proj", attention(root->g, q, k, v, c->heads, false), c->hidden, x);
    h = nn_layer_norm(&layer, "layer_norm2", x, c->eps);
    h = nn_linear_compute(&mlp, "fc1", h, c->intermediate, true);
    return nn_linear(&mlp, "fc2", unary(root->g, h, (unary_kind)c->activation), c->hidden, x);
}

/* ViTLayer and Dinov2Layer, whose layer scale is in the weights that precede it (scale_layers). */
static tensor *vit_layer(const scope *root, const vit_config *c, int i, tensor *x)
{
    bool two = c->kind == VIT_DINOV2;
    scope layer = scope_in(root, "encoder.layer.%d", i);
    scope attn = scope_in(&layer, "attention.attention"),
          out = scope_in(&layer, "attention.output");
    tensor *h = nn_layer_norm(&layer, two ? "norm1" : "layernorm_before", x, c->eps);
    tensor *q = nn_linear_compute(&attn, "query", h, c->hidden, true);
    tensor *k = nn_linear_compute(&attn, "key", h, c->hidden, true);
    tensor *v = nn_linear_compute(&attn, "value", h, c->hidden, true);
    x = nn_linear(&out, "dense", attention(root->g, q, k, v, c->heads, false), c->hidden, x);
    h = nn_layer_norm(&layer, two ? "norm2" : "layernorm_after", x, c->eps);
    h = nn_linear_compute(&layer, two ? "mlp.fc1" : "intermediate.dense", h, c->intermediate, true);
    h = unary(root->g, h, (unary_kind)c->activation);
    if (two) {
        int64_t width = c->hidden;
        nn_weight(&layer, "layer_scale1.lambda1", 1, &width);
        nn_weight(&layer, "layer_scale2.lambda1", 1, &width);
    }
    return nn_linear(&layer, two ? "mlp.fc2" : "output.dense", h, c->hidden, x);
}

static const char *class_name(const vit_config *c)
{
    return c->kind == VIT_CLIP ? "vision_model.embeddings.class_embedding" : "embeddings.cls_token";
}

static const char *position_name(const vit_config *c)
{
    return c->kind == VIT_CLIP ? "vision_model.embeddings.position_embedding.weight"
                               : "embeddings.position_embeddings";
}

/* pixels [1,S,S,3], class token [1,C], positions [1,s,s,C] -> [1,1+s*s,C] */
static tensor *embed_patches(const scope *root, const vit_config *c, tensor *pixels, tensor *first,
                             tensor *positions)
{
    bool clip = c->kind == VIT_CLIP;
    int64_t width = c->hidden, made = c->image_size / c->patch;
    int64_t patch[4] = {width, 3, c->patch, c->patch};
    scope s = scope_in(root, clip ? "vision_model.embeddings.patch_embedding"
                                  : "embeddings.patch_embeddings.projection");
    /* of the file's own size; read when it is opened */
    nn_weight(root, class_name(c), clip ? 1 : 3, clip ? &width : (int64_t[]){1, 1, width});
    nn_weight(root, position_name(c), clip ? 2 : 3,
              clip ? (int64_t[]){made * made + 1, width} : (int64_t[]){1, made * made + 1, width});
    tensor *x = conv2d(root->g, pixels, nn_weight(&s, "weight", 4, patch),
                       clip ? NULL : nn_weight(&s, "bias", 1, &width), c->patch,
                       (conv_pad){0, 0, 0, 0}, NULL);
    int64_t tokens = positions->dim[1] * positions->dim[2];
    x = reshape(root->g, add(root->g, x, positions), 2, (int64_t[]){1, tokens * width});
    return reshape(root->g, concat(root->g, first, x), 3, (int64_t[]){1, tokens + 1, width});
}

/* The same, and all that follows -> the embedding [1,width] */
static tensor *vit_build(graph *g, const vit_config *c, tensor *pixels, tensor *first,
                         tensor *positions)
{
    bool clip = c->kind == VIT_CLIP;
    scope root = scope_root(g);
    tensor *x = embed_patches(&root, c, pixels, first, positions);
    if (clip) x = cast(g, nn_layer_norm(&root, "vision_model.pre_layrnorm", x, c->eps), DTYPE_F32);
    for (int i = 0; i < c->layers; i++)
        x = clip ? clip_vision_layer(&root, c, i, x) : vit_layer(&root, c, i, x);
    x = reshape(g, x, 2, (int64_t[]){1, x->dim[1] * x->dim[2]});
    x = nn_layer_norm(&root, clip ? "vision_model.post_layernorm" : "layernorm",
                      slice(g, x, 0, c->hidden), c->eps);
    if (!clip) return cast(g, x, DTYPE_F32);
    int64_t projection[2] = {c->projection, c->hidden};
    return linear(g, x, nn_weight(&root, "visual_projection.weight", 2, projection), NULL, NULL);
}

static graph *record_image(const vit_config *c, device *d, int side, vit *v, error *e)
{
    graph *g;
    if (!graph_open(&g, d ? d->compute : DTYPE_F32, e)) return NULL;
    int64_t size = (int64_t)side * c->patch;
    tensor *pixels = graph_input(g, "pixels", DTYPE_F32, 4, (int64_t[]){1, size, size, 3});
    tensor *first = graph_input(g, "class token", DTYPE_F32, 2, (int64_t[]){1, c->hidden});
    tensor *position = graph_input(g, "positions", DTYPE_F32, 4,
                                   (int64_t[]){1, side, side, c->hidden});
    tensor *embedding = vit_build(g, c, pixels, first, position);
    if (v) {
        v->image = pixels, v->class_token = first, v->position = position, v->embedding = embedding;
        graph_output(g, embedding);
    }
    return g;
}

/* CLIPTextModelWithProjection, every token projected: ids [1,N] -> [1,N,projection] */
static graph *record_text(const clip_config *c, int projection, device *d, vit *v, error *e)
{
    graph *g;
    if (!graph_open(&g, d ? d->compute : DTYPE_F32, e)) return NULL;
    scope root = scope_root(g);
    int64_t shape[2] = {projection, c->hidden};
    tensor *ids = graph_input(g, "tokens", DTYPE_I32, 2, (int64_t[]){1, c->positions});
    tensor *all = linear(g, clip_build(g, c, ids, 0),
                         nn_weight(&root, "text_projection.weight", 2, shape), NULL, NULL);
    if (v) {
        v->prompt = ids, v->projected = all;
        graph_output(g, all);
    }
    return g;
}

/* ---- config.json ----------------------------------------------------------------------------- */

static bool refuse_type(fields *f, const char *type)
{
    return error_set(f->e, ERROR_MODEL,
                     "%s: \"model_type\" is \"%.60s\"; only clip (CLIPModel), vit (DINO) "
                     "and dinov2 look at pictures here",
                     f->where, type);
}

static bool read_activation(fields *f, vit_config *c, const char *usual)
{
    const char *name = field_text(f, "hidden_act", usual);
    c->activation = strcmp(name, "gelu") ? UNARY_QUICK_GELU : UNARY_GELU;
    if (f->ok && strcmp(name, "gelu") && strcmp(name, "quick_gelu"))
        f->ok = error_set(f->e, ERROR_MODEL,
                          "%s: \"hidden_act\" is \"%.40s\", which is not supported (only "
                          "quick_gelu and gelu are)",
                          f->where, name);
    return f->ok;
}

static void read_sizes(fields *f, vit_config *c, int size, int patch, float eps)
{
    c->hidden = field_int(f, "hidden_size", 768, 1, MAX_WIDTH);
    c->layers = field_int(f, "num_hidden_layers", 12, 1, 256);
    c->heads = field_int(f, "num_attention_heads", 12, 1, MAX_WIDTH);
    c->image_size = field_int(f, "image_size", size, 1, 4096);
    c->patch = field_int(f, "patch_size", patch, 1, 256);
    c->eps = field_float(f, "layer_norm_eps", eps);
    field_only(f, "num_channels", "3");
    if (f->ok && c->hidden % c->heads)
        f->ok = error_set(f->e, ERROR_FORMAT,
                          "%s: \"hidden_size\" %d does not divide into %d heads", f->where,
                          c->hidden, c->heads);
    if (f->ok && c->image_size / c->patch < 1)
        f->ok = error_set(f->e, ERROR_FORMAT, "%s: a patch is larger than the picture", f->where);
}

/* f: of config.json; its root is an object. */
static void read_config(fields *f, vit_config *c, int *end)
{
    json_t *whole = f->root, *vision = field(f, "vision_config"), *text = field(f, "text_config");
    const char *type = field_text(f, "model_type", "");
    *c = (vit_config){0};
    if (!strcmp(type, "clip") && json_is_object(vision) && json_is_object(text)) {
        c->kind = VIT_CLIP;
        c->projection = field_int(f, "projection_dim", 512, 1, MAX_WIDTH);
        f->root = text;
        *end = field_int(f, "eos_token_id", 49407, 0, 1 << 24);
        f->root = vision;
        read_sizes(f, c, 224, 32, 1e-5f);
        c->intermediate = field_int(f, "intermediate_size", 3072, 1, 1 << 16);
        read_activation(f, c, "quick_gelu");
        f->root = whole;
    } else if (!strcmp(type, "vit") || !strcmp(type, "dinov2")) {
        c->kind = strcmp(type, "vit") ? VIT_DINOV2 : VIT_DINO;
        read_sizes(f, c, 224, c->kind == VIT_DINO ? 16 : 14, c->kind == VIT_DINO ? 1e-12f : 1e-6f);
        int ratio = field_int(f, "mlp_ratio", 4, 1, 64);
        c->intermediate = c->kind == VIT_DINO ? field_int(f, "intermediate_size", 3072, 1, 1 << 16)
                                              : ratio * c->hidden;
        read_activation(f, c, "gelu");
        field_only(f, "qkv_bias", "true");
        field_only(f, "use_swiglu_ffn", "false");
    } else {
        f->ok = refuse_type(f, *type ? type : "not there");
    }
}

static bool open_config(vit *v, const char *folder, error *e)
{
    fields f;
    char *path = path_join(folder, "config.json");
    if (!path) return error_memory(e, folder, strlen(folder));
    bool ok = path_is_file(path) ||
              error_set(e, ERROR_FILE,
                        "%s: no config.json there; give the folder of a CLIP, DINO or DINOv2 as "
                        "transformers saves it",
                        folder);
    ok = ok && fields_open(&f, path, CONFIG_LIMIT, e);
    if (ok) {
        read_config(&f, &v->config, &v->end);
        ok = f.ok;
        fields_close(&f);
    }
    ok = ok && (v->config.kind != VIT_CLIP || clip_config_read(&v->text, path, e));
    free(path);
    return ok;
}

/* ---- weights --------------------------------------------------------------------------------- */

static bool load(weight_set *out, weight_files *files, network which, graph *expected,
                 const char *where, error *e)
{
    naming names = {.network = which, .prefix = ""};
    bool ok = expected && graph_recorded(expected, e) &&
              weights_load(out, files, &names, expected, where, e) &&
              weights_check_finite(out, where, NULL, NULL, e);
    graph_close(&expected);
    return ok;
}

static bool open_weights(vit *v, const char *folder, error *e)
{
    weight_files *files = NULL;
    const vit_config *c = &v->config;
    bool ok = component_open(&files, folder, "model", e) &&
              load(&v->weights, files, NETWORK_VIT, record_image(c, NULL, v->side, NULL, e), folder,
                   e);
    if (c->kind == VIT_CLIP)
        ok = ok && load(&v->text_weights, files, NETWORK_CLIP,
                        record_text(&v->text, c->projection, NULL, NULL, e), folder, e);
    weight_files_release(&files);
    if (ok) weight_set_hash(&v->weights, NULL, v->hash);
    return ok;
}

/* W and b of a layer whose output is scaled by lambda, scaled themselves; returns what is left of
 * room. */
static float *scale_one(weight_set *set, const char *lambda, const char *layer, int rows,
                        float *room)
{
    char name[2][NAME_LENGTH];
    const weight *by = weight_find(set, lambda);
    snprintf(name[0], NAME_LENGTH, "%s.weight", layer);
    snprintf(name[1], NAME_LENGTH, "%s.bias", layer);
    for (int k = 0; k < 2; k++) {
        weight *w = weight_find(set, name[k]);
        size_t n = (size_t)weight_elements(w), columns = n / (size_t)rows;
        float *factor = room + n;
        convert_to_float(room, w->data, w->type, n);
        convert_to_float(factor, by->data, by->type, (size_t)rows);
        for (size_t i = 0; i < n; i++) room[i] *= factor[i / columns];
        w->data = room;
        w->type = DTYPE_F32;
        room += n;
    }
    return room;
}

/* Dinov2LayerScale multiplies what a linear layer gives, channel by channel. */
static bool scale_layers(vit *v, error *e)
{
    const vit_config *c = &v->config;
    size_t hidden = (size_t)c->hidden, one = hidden * (hidden + (size_t)c->intermediate + 2);
    size_t n = one * (size_t)c->layers + hidden;
    if (c->kind != VIT_DINOV2) return true;
    float *room = v->scaled = malloc(n * sizeof *room);
    if (!room) return error_memory(e, "a picture network's weights", n * sizeof *room);
    for (int i = 0; i < c->layers; i++) {
        char lambda[NAME_LENGTH], layer[NAME_LENGTH];
        snprintf(lambda, sizeof lambda, "encoder.layer.%d.layer_scale1.lambda1", i);
        snprintf(layer, sizeof layer, "encoder.layer.%d.attention.output.dense", i);
        room = scale_one(&v->weights, lambda, layer, c->hidden, room);
        snprintf(lambda, sizeof lambda, "encoder.layer.%d.layer_scale2.lambda1", i);
        snprintf(layer, sizeof layer, "encoder.layer.%d.mlp.fc2", i);
        room = scale_one(&v->weights, lambda, layer, c->hidden, room);
    }
    return true;
}

/* The class token with its position added, and the patches' positions for this input's size. */
static bool open_positions(vit *v, error *e)
{
    const vit_config *c = &v->config;
    const weight *token = weight_find(&v->weights, class_name(c));
    const weight *table = weight_find(&v->weights, position_name(c));
    size_t hidden = (size_t)c->hidden, n = (size_t)weight_elements(table);
    int made = c->image_size / c->patch;
    float *all = malloc(n * sizeof *all);
    size_t numbers = (size_t)v->side * (size_t)v->side * hidden;
    v->first = malloc(hidden * sizeof *v->first);
    v->positions = malloc(numbers * sizeof *v->positions);
    bool ok = (all && v->first && v->positions) ||
              error_memory(e, "positions", (n + numbers) * sizeof(float));
    if (ok) {
        convert_to_float(all, table->data, table->type, n);
        convert_to_float(v->first, token->data, token->type, hidden);
        for (size_t i = 0; i < hidden; i++) v->first[i] += all[i];
        if (v->side == made)
            memcpy(v->positions, all + hidden, numbers * sizeof *all);
        else
            vit_interpolate(all + hidden, made, v->positions, v->side, c->hidden);
    }
    free(all);
    return ok;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* The size that pictures are brought to must be one that the network takes. */
static bool fit_input(vit *v, const char *folder, error *e)
{
    const vit_config *c = &v->config;
    v->size = vit_processor_size(&v->processor);
    v->side = v->size / c->patch;
    if (c->kind != VIT_DINOV2 && v->size != c->image_size)
        return error_set(e, ERROR_MODEL,
                         "%s: its processor makes pictures of %d pixels, its network takes %d; "
                         "use the two as they were published",
                         folder, v->size, c->image_size);
    return v->side > 0 || error_set(e, ERROR_MODEL,
                                    "%s: its processor's pictures of %d pixels are smaller "
                                    "than a patch",
                                    folder, v->size);
}

static bool open_graph(graph *g, device *d, const weight_set *weights, device_weights **copy,
                       error *e)
{
    return g && graph_plan(g, d, e) && device_weights_open(d, weights, copy, e) &&
           graph_bind(g, copy, 1, e) && graph_allocate(g, e);
}

static bool open_text(vit *v, const char *folder, error *e)
{
    size_t positions = (size_t)v->text.positions, n = positions * (size_t)v->config.projection;
    v->ids = malloc(positions * sizeof *v->ids);
    v->states = malloc(n * sizeof *v->states);
    if (!v->ids || !v->states) return error_memory(e, "a prompt's tokens", n * sizeof *v->states);
    if (!tokenizer_open(&v->tokens, folder, e)) return false;
    v->text_graph = record_text(&v->text, v->config.projection, v->device, v, e);
    return open_graph(v->text_graph, v->device, &v->text_weights, &v->text_copy, e);
}

static bool open_parts(vit *v, const char *folder, error *e)
{
    if (!open_config(v, folder, e) ||
        !vit_processor_read(&v->processor, v->config.kind, folder, e) || !fit_input(v, folder, e) ||
        !open_weights(v, folder, e) || !scale_layers(v, e) || !open_positions(v, e))
        return false;
    size_t pixels = 3 * (size_t)v->size * (size_t)v->size;
    v->pixels = malloc(pixels * sizeof *v->pixels);
    if (!v->pixels) return error_memory(e, "a picture's pixels", pixels * sizeof *v->pixels);
    v->graph = record_image(&v->config, v->device, v->side, v, e);
    return open_graph(v->graph, v->device, &v->weights, &v->copy, e) &&
           (v->config.kind != VIT_CLIP || open_text(v, folder, e));
}

bool vit_open(vit **out, device *d, const char *folder, error *e)
{
    vit *v = *out = calloc(1, sizeof *v);
    if (!v) return error_memory(e, folder, sizeof *v);
    v->device = d;
    if (open_parts(v, folder, e)) return true;
    vit_close(out);
    return false;
}

void vit_close(vit **out)
{
    vit *v = *out;
    if (!v) return;
    graph_close(&v->graph);
    graph_close(&v->text_graph);
    device_weights_close(&v->copy);
    device_weights_close(&v->text_copy);
    weight_set_close(&v->weights);
    weight_set_close(&v->text_weights);
    tokenizer_close(&v->tokens);
    free(v->scaled), free(v->first), free(v->positions), free(v->pixels), free(v->ids),
        free(v->states);
    free(v);
    *out = NULL;
}

/* ---- embedding ------------------------------------------------------------------------------- */

vit_kind vit_kind_of(const vit *v) { return v->config.kind; }
const char *vit_hash(const vit *v) { return v->hash; }
int vit_input_size(const vit *v) { return v->size; }

int vit_width(const vit *v)
{
    return v->config.kind == VIT_CLIP ? v->config.projection : v->config.hidden;
}

/* A side that is no multiple of a patch loses its rest, as the convolution drops it. */
static bool write_pixels(vit *v, const float *pixels, error *e)
{
    size_t row = 3 * (size_t)v->side * (size_t)v->config.patch, given = 3 * (size_t)v->size;
    if (row == given) return graph_write(v->graph, v->image, pixels, e);
    for (size_t y = 0; y < row / 3; y++)
        memmove(v->pixels + y * row, pixels + y * given, row * sizeof *pixels);
    return graph_write(v->graph, v->image, v->pixels, e);
}

bool vit_embed_pixels(vit *v, const float *pixels, float *out, error *e)
{
    return write_pixels(v, pixels, e) && graph_write(v->graph, v->class_token, v->first, e) &&
           graph_write(v->graph, v->position, v->positions, e) && graph_run_checked(v->graph, e) &&
           graph_read(v->graph, v->embedding, out, e);
}

bool vit_embed(vit *v, const image *picture, float *out, error *e)
{
    return vit_pixels(&v->processor, picture, v->pixels, e) &&
           vit_embed_pixels(v, v->pixels, out, e);
}

/* The first token that is the end, or (in files of before transformers 4.31) the highest of all. */
static size_t end_of(const vit *v)
{
    size_t best = 0;
    for (int i = 1; i < v->text.positions; i++) {
        if (v->end != 2 && v->ids[best] == v->end) break;
        if (v->end == 2 ? v->ids[i] > v->ids[best] : v->ids[i] == v->end) best = (size_t)i;
    }
    return best;
}

bool vit_embed_text(vit *v, const char *prompt, float *out, error *e)
{
    size_t width = (size_t)v->config.projection;
    if (!tokenizer_encode(v->tokens, prompt, v->text.positions, v->ids, NULL, e) ||
        !graph_write(v->text_graph, v->prompt, v->ids, e) || !graph_run_checked(v->text_graph, e) ||
        !graph_read(v->text_graph, v->projected, v->states, e))
        return false;
    memcpy(out, v->states + end_of(v) * width, width * sizeof *out);
    return true;
}
