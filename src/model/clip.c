/* SPDX-License-Identifier: Apache-2.0
 *
 * clip: the text encoder (transformers CLIPTextModel), recorded on a graph. */
#include "model/model.h"
#include "model/nn.h"

/* CLIPEncoderLayer: x [B,N,C] -> [B,N,C]. Padding is not masked; every token sees those before it.
 */
static tensor *clip_layer(const scope *s, const clip_config *c, tensor *x)
{
    scope attn = scope_in(s, "self_attn"), mlp = scope_in(s, "mlp");
    tensor *h = nn_layer_norm(s, "layer_norm1", x, c->eps);
    tensor *q = nn_linear_compute(&attn, "q_proj", h, c->hidden, true);
    tensor *k = nn_linear_compute(&attn, "k_proj", h, c->hidden, true);
    tensor *v = nn_linear_compute(&attn, "v_proj", h, c->hidden, true);
    x = nn_linear(&attn, "out_proj", attention(s->g, q, k, v, c->heads, true), c->hidden, x);
    h = nn_layer_norm(s, "layer_norm2", x, c->eps);
    h = nn_linear_compute(&mlp, "fc1", h, c->intermediate, true);
    return nn_linear(&mlp, "fc2", unary(s->g, h, (unary_kind)c->activation), c->hidden, x);
}

/* clip_skip as in StableDiffusionPipeline.encode_prompt: the last clip_skip layers are left out,
 * the final norm is not. */
tensor *clip_build_rows(graph *g, const clip_config *c, tensor *rows, int clip_skip)
{
    scope root = scope_root(g);
    root.lora = c->lora;
    scope text = scope_in(&root, "text_model");
    scope embeddings = scope_in(&text, "embeddings");
    int64_t positions[2] = {c->positions, c->hidden};
    tensor *x = add(g, rows, nn_weight(&embeddings, "position_embedding.weight", 2, positions));
    for (int i = 0; i < c->layers - clip_skip; i++) {
        scope layer = scope_in(&text, "encoder.layers.%d", i);
        x = clip_layer(&layer, c, x);
    }
    return nn_layer_norm(&text, "final_layer_norm", x, c->eps);
}

tensor *clip_build(graph *g, const clip_config *c, tensor *ids, int clip_skip)
{
    int64_t tokens[2] = {c->vocab, c->hidden};
    tensor *table = graph_weight(g, CLIP_TOKENS, 2, tokens);
    return clip_build_rows(g, c, embedding(g, ids, table), clip_skip);
}
