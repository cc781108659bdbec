/* SPDX-License-Identifier: Apache-2.0
 *
 * nn: layers with names. A scope is a graph and the dotted name one stands at; a layer asks for its
 * weights by that name ("...conv1" + ".weight"), so a network reads like the diffusers Python of
 * the same block and its checkpoint names are the ones it was written with. Shapes come from the
 * input's channels and the width asked for. */
#ifndef LIKENESS_MODEL_NN_H
#define LIKENESS_MODEL_NN_H

#include "graph/graph.h"
#include "model/config.h"

typedef struct scope {
    graph *g;
    char name[160];
    lora_branch lora; /* that adapted layers have beside their weights */
} scope;

scope scope_root(graph *g);
/* s.name + "." + the formatted name; at the root without the dot. */
scope scope_in(const scope *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether a LoRA's branch stands beside this layer ("...attn1.to_q"): diffusers' choice in its
 * training scripts. Its matrices are LAYER.lora_A.weight [rank, in] and LAYER.lora_B.weight
 * [out, rank], as PEFT names them. */
bool nn_is_adapted(const char *layer);

int64_t channels(const tensor *x); /* the last dimension */
tensor *nn_weight(const scope *s, const char *name, int rank, const int64_t *dim);
/* kernel x kernel convolution with bias, [B,H,W,C] -> [B,H',W',width] (+ add_to, may be NULL). */
tensor *nn_conv(const scope *s, const char *name, tensor *x, int64_t width, int stride,
                conv_pad pad, tensor *add_to);
/* A 1x1 convolution, which channels-last is a linear layer over [..,C] with weight [O,C,1,1]. */
tensor *nn_conv1x1(const scope *s, const char *name, tensor *x, int64_t width, tensor *add_to);
tensor *nn_linear(const scope *s, const char *name, tensor *x, int64_t width, tensor *add_to);
/* Output in the compute type, because attention, GEGLU or an activation reads it. */
tensor *nn_linear_compute(const scope *s, const char *name, tensor *x, int64_t width, bool bias);
tensor *nn_group_norm(const scope *s, const char *name, tensor *x, int groups, float eps,
                      bool silu);
tensor *nn_layer_norm(const scope *s, const char *name, tensor *x, float eps);

/* diffusers ResnetBlock2D: x [B,H,W,C], temb = silu(time embedding) [B,T], [1,T] or NULL ->
 * [B,H,W,width].
 */
tensor *nn_resnet(const scope *s, tensor *x, tensor *temb, int64_t width, int groups, float eps);
/* diffusers Attention with group norm and residual (UNet2DModel, VAE): x [B,H,W,C] -> the same. */
tensor *nn_attention_block(const scope *s, tensor *x, int heads, int groups, float eps);
/* diffusers Downsample2D: padding 0 means one row and column of zeros at the right and bottom. */
tensor *nn_downsample(const scope *s, tensor *x, int padding);
/* diffusers Upsample2D: nearest to [B,height,width,C], then a 3x3 convolution. */
tensor *nn_upsample(const scope *s, tensor *x, int64_t height, int64_t width);

extern const conv_pad pad_same; /* 1 on every side: what a 3x3 convolution wants */

#endif
