/* SPDX-License-Identifier: Apache-2.0
 *
 * nn: see nn.h. Everything here is recorded on the graph; nothing is computed. */
#include "model/nn.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const conv_pad pad_same = {1, 1, 1, 1};

scope scope_root(graph *g) { return (scope){.g = g}; }

scope scope_in(const scope *s, const char *format, ...)
{
    scope inner = *s;
    size_t length = strlen(inner.name);
    if (length) inner.name[length++] = '.';
    va_list args;
    va_start(args, format);
    int added = vsnprintf(inner.name + length, sizeof inner.name - length, format, args);
    va_end(args);
    assert(added >= 0 && length + (size_t)added < sizeof inner.name);
    (void)added;
    return inner;
}

int64_t channels(const tensor *x) { return x->rank ? x->dim[x->rank - 1] : 1; }

tensor *nn_weight(const scope *s, const char *name, int rank, const int64_t *dim)
{
    return graph_weight(s->g, scope_in(s, "%s", name).name, rank, dim);
}

static tensor *weight_2d(const scope *s, int64_t out, int64_t in)
{
    return nn_weight(s, "weight", 2, (int64_t[]){out, in});
}

static tensor *weight_4d(const scope *s, int64_t out, int64_t in, int64_t kernel)
{
    return nn_weight(s, "weight", 4, (int64_t[]){out, in, kernel, kernel});
}

static tensor *weight_1d(const scope *s, const char *name, int64_t width)
{
    return nn_weight(s, name, 1, &width);
}

tensor *nn_conv(const scope *s, const char *name, tensor *x, int64_t width, int stride,
                conv_pad pad, tensor *add_to)
{
    scope layer = scope_in(s, "%s", name);
    return conv2d(s->g, x, weight_4d(&layer, width, channels(x), 3),
                  weight_1d(&layer, "bias", width), stride, pad, add_to);
}

tensor *nn_conv1x1(const scope *s, const char *name, tensor *x, int64_t width, tensor *add_to)
{
    scope layer = scope_in(s, "%s", name);
    return linear(s->g, x, weight_4d(&layer, width, channels(x), 1),
                  weight_1d(&layer, "bias", width), add_to);
}

bool nn_is_adapted(const char *layer)
{
    static const char *const ends[] = {".to_q",   ".to_k",   ".to_v",   ".to_out.0",
                                       ".q_proj", ".k_proj", ".v_proj", ".out_proj"};
    size_t n = strlen(layer);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t end = strlen(ends[i]);
        if (n > end && strcmp(layer + n - end, ends[i]) == 0) return true;
    }
    return false;
}

/* Of an adapted layer scale * B(A x) (+ add_to); else add_to. */
static tensor *branch(const scope *layer, tensor *x, int64_t width, tensor *add_to)
{
    int64_t rank = layer->lora.rank, down[2] = {rank, channels(x)}, up[2] = {width, rank};
    if (!rank || !nn_is_adapted(layer->name)) return add_to;
    tensor *h = linear(layer->g, x, nn_weight(layer, "lora_A.weight", 2, down), NULL, NULL);
    if (layer->lora.scale != 1) h = scale(layer->g, h, layer->lora.scale);
    return linear(layer->g, h, nn_weight(layer, "lora_B.weight", 2, up), NULL, add_to);
}

tensor *nn_linear(const scope *s, const char *name, tensor *x, int64_t width, tensor *add_to)
{
    scope layer = scope_in(s, "%s", name);
    return linear(s->g, x, weight_2d(&layer, width, channels(x)), weight_1d(&layer, "bias", width),
                  branch(&layer, x, width, add_to));
}

tensor *nn_linear_compute(const scope *s, const char *name, tensor *x, int64_t width, bool bias)
{
    scope layer = scope_in(s, "%s", name);
    tensor *w = weight_2d(&layer, width, channels(x)), *more = branch(&layer, x, width, NULL);
    tensor *b = bias ? weight_1d(&layer, "bias", width) : NULL;
    return more ? cast_compute(s->g, linear(s->g, x, w, b, more)) : linear_compute(s->g, x, w, b);
}

tensor *nn_group_norm(const scope *s, const char *name, tensor *x, int groups, float eps, bool silu)
{
    scope layer = scope_in(s, "%s", name);
    return group_norm(s->g, x, weight_1d(&layer, "weight", channels(x)),
                      weight_1d(&layer, "bias", channels(x)), groups, eps, silu);
}

tensor *nn_layer_norm(const scope *s, const char *name, tensor *x, float eps)
{
    scope layer = scope_in(s, "%s", name);
    return layer_norm(s->g, x, weight_1d(&layer, "weight", channels(x)),
                      weight_1d(&layer, "bias", channels(x)), eps);
}

tensor *nn_resnet(const scope *s, tensor *x, tensor *temb, int64_t width, int groups, float eps)
{
    tensor *h = nn_group_norm(s, "norm1", x, groups, eps, true);
    h = nn_conv(s, "conv1", h, width, 1, pad_same, NULL);
    if (temb) {
        tensor *v = nn_linear(s, "time_emb_proj", temb, width, NULL);
        h = v->dim[0] == h->dim[0] ? add_channel(s->g, h, v) : add(s->g, h, v);
    }
    h = nn_group_norm(s, "norm2", h, groups, eps, true);
    tensor *residual = channels(x) == width ? x : nn_conv1x1(s, "conv_shortcut", x, width, NULL);
    return nn_conv(s, "conv2", h, width, 1, pad_same, residual);
}

tensor *nn_attention_block(const scope *s, tensor *x, int heads, int groups, float eps)
{
    int64_t c = channels(x);
    int64_t tokens[3] = {x->dim[0], x->dim[1] * x->dim[2], c};
    tensor *h = reshape(s->g, nn_group_norm(s, "group_norm", x, groups, eps, false), 3, tokens);
    tensor *q = nn_linear_compute(s, "to_q", h, c, true);
    tensor *k = nn_linear_compute(s, "to_k", h, c, true);
    tensor *v = nn_linear_compute(s, "to_v", h, c, true);
    h = attention(s->g, q, k, v, heads, false);
    h = nn_linear(s, "to_out.0", h, c, reshape(s->g, x, 3, tokens));
    return reshape(s->g, h, 4, x->dim);
}

tensor *nn_downsample(const scope *s, tensor *x, int padding)
{
    conv_pad right_bottom = {0, 0, 1, 1};
    return nn_conv(s, "downsamplers.0.conv", x, channels(x), 2, padding ? pad_same : right_bottom,
                   NULL);
}

tensor *nn_upsample(const scope *s, tensor *x, int64_t height, int64_t width)
{
    tensor *h = upsample(s->g, cast_compute(s->g, x), height, width);
    return nn_conv(s, "upsamplers.0.conv", h, channels(x), 1, pad_same, NULL);
}
