/* SPDX-License-Identifier: Apache-2.0
 *
 * unet: diffusers UNet2DConditionModel and UNet2DModel, recorded on a graph. Both are one skeleton:
 * down blocks that push skips, a middle, up blocks that pop them; they differ in the attention
 * after a resnet. Sizes and names follow from the configuration. */
#include "model/model.h"
#include "model/nn.h"

#include <assert.h>

enum { MAX_SKIPS = CONFIG_MAX_BLOCKS * 33 + 1 };
#define TRANSFORMER_EPS 1e-6f /* Transformer2DModel's group norm */
#define LAYER_EPS 1e-5f

/* What all blocks share while one network is recorded. The text's keys and values come either from
 * `context` [B,N,cross_dim], or ready from `kv`, two per cross-attention in the order of recording.
 */
typedef struct unet_state {
    const unet_config *c;
    tensor *temb; /* silu(time embedding) [B, 4*channels[0]], in the type that every resnet wants */
    tensor *context;
    tensor *const *kv;
    size_t kv_next;
    int texts; /* of each sample that the text has not told apart yet; 1 from there on */
    tensor *skip[MAX_SKIPS];
    int skips;
    tensor *hint; /* a ControlNet's: NULL, or the picture that joins the first convolution */
    tensor *const *control; /* NULL, or what is added to each skip and, the last, to the middle */
    tensor **deep;          /* NULL, or set to what the last layer reads beside the first skip */
} unet_state;

static void push(unet_state *u, tensor *x)
{
    assert(u->skips < MAX_SKIPS);
    u->skip[u->skips++] = x;
}

/* [B,..] -> [B * texts,..]: each sample `texts` times, one behind the other. */
static tensor *repeat(graph *g, tensor *x, int texts)
{
    int64_t one = 1, dim[ARRAY_MAX_RANK] = {x->dim[0] * texts};
    for (int i = 1; i < x->rank; i++) one *= dim[i] = x->dim[i];
    tensor *whole = reshape(g, x, 2, (int64_t[]){x->dim[0], one}), *all = whole;
    for (int i = 1; i < texts; i++) all = concat(g, all, whole);
    return reshape(g, all, x->rank, dim);
}

/* Up to the first text a sample is the same under all of its texts: it, and all that is kept for
 * later, is repeated here, and returned. */
static tensor *tell_apart(const scope *s, unet_state *u, tensor *x)
{
    if (u->texts < 2) return x;
    for (int i = 0; i < u->skips; i++) u->skip[i] = repeat(s->g, u->skip[i], u->texts);
    x = repeat(s->g, x, u->texts);
    u->texts = 1;
    return x;
}

/* ---- attention ---- */

static tensor *self_attention(const scope *s, tensor *x, int heads, tensor *add_to)
{
    int64_t c = channels(x);
    tensor *q = nn_linear_compute(s, "to_q", x, c, false);
    tensor *k = nn_linear_compute(s, "to_k", x, c, false);
    tensor *v = nn_linear_compute(s, "to_v", x, c, false);
    return nn_linear(s, "to_out.0", attention(s->g, q, k, v, heads, false), c, add_to);
}

/* x [B,HW,C], text [B,N,cross_dim] -> [B,HW,C] */
static tensor *cross_attention(const scope *s, unet_state *u, tensor *x, int heads, tensor *add_to)
{
    int64_t c = channels(x);
    tensor *q = nn_linear_compute(s, "to_q", x, c, false), *k, *v;
    if (u->kv) {
        k = u->kv[u->kv_next++];
        v = u->kv[u->kv_next++];
    } else {
        k = nn_linear_compute(s, "to_k", u->context, c, false);
        v = nn_linear_compute(s, "to_v", u->context, c, false);
    }
    return nn_linear(s, "to_out.0", attention(s->g, q, k, v, heads, false), c, add_to);
}

/* BasicTransformerBlock: x [B,HW,C] */
static tensor *transformer_block(const scope *s, unet_state *u, tensor *x, int heads)
{
    int64_t c = channels(x);
    scope attn1 = scope_in(s, "attn1"), attn2 = scope_in(s, "attn2"), ff = scope_in(s, "ff.net");
    x = self_attention(&attn1, nn_layer_norm(s, "norm1", x, LAYER_EPS), heads, x);
    x = tell_apart(s, u, x);
    x = cross_attention(&attn2, u, nn_layer_norm(s, "norm2", x, LAYER_EPS), heads, x);
    tensor *h = nn_linear_compute(&ff, "0.proj", nn_layer_norm(s, "norm3", x, LAYER_EPS), 8 * c,
                                  true);
    return nn_linear(&ff, "2", geglu(s->g, h), c, x);
}

/* Transformer2DModel: x [B,H,W,C] -> the same; channels-last, so flattening is a view. */
static tensor *transformer(const scope *s, unet_state *u, tensor *x, int heads, int layers)
{
    int64_t c = channels(x);
    int64_t tokens[3] = {x->dim[0], x->dim[1] * x->dim[2], c};
    int texts = u->texts;
    tensor *h = nn_group_norm(s, "norm", x, u->c->groups, TRANSFORMER_EPS, false);
    h = reshape(s->g, h, 3, tokens);
    tensor *(*project)(const scope *, const char *, tensor *, int64_t,
                       tensor *) = u->c->linear_projection ? nn_linear : nn_conv1x1;
    h = project(s, "proj_in", h, c, NULL);
    for (int k = 0; k < layers; k++) {
        scope block = scope_in(s, "transformer_blocks.%d", k);
        h = transformer_block(&block, u, h, heads);
    }
    if (texts > u->texts) x = repeat(s->g, x, texts);
    return reshape(s->g, project(s, "proj_out", h, c, reshape(s->g, x, 3, h->dim)), 4, x->dim);
}

/* The attention after a resnet; level: the down block of this width, whose sizes it has. */
static tensor *unet_attention(const scope *s, unet_state *u, tensor *x, int level)
{
    const unet_config *c = u->c;
    if (c->conditional) return transformer(s, u, x, c->heads[level], c->transformer_layers[level]);
    int heads = c->head_size ? c->channels[level] / c->head_size : 1;
    return nn_attention_block(s, x, heads, c->groups, c->eps);
}

/* ---- blocks ---- */

static tensor *resnet(const scope *s, unet_state *u, tensor *x, int64_t width)
{
    return nn_resnet(s, x, u->temb, width, u->c->groups, u->c->eps);
}

/* One resnet, of x and the skip (may be NULL) side by side, and the attention behind it where the
 * block has one; each is a segment, as diffusers' gradient checkpointing has it. */
static tensor *unet_layer(const scope *block, unet_state *u, tensor *x, tensor *skip, int level,
                          int j, bool has_attention)
{
    scope res = scope_in(block, "resnets.%d", j), attn = scope_in(block, "attentions.%d", j);
    graph_segment_begin(block->g);
    if (skip) x = concat(block->g, x, skip);
    x = resnet(&res, u, x, u->c->channels[level]);
    graph_segment_end(block->g);
    if (!has_attention) return x;
    graph_segment_begin(block->g);
    x = unet_attention(&attn, u, x, level);
    graph_segment_end(block->g);
    return x;
}

static tensor *down_block(const scope *s, unet_state *u, tensor *x, int i)
{
    const unet_config *c = u->c;
    scope block = scope_in(s, "down_blocks.%d", i);
    for (int j = 0; j < c->layers[i]; j++) {
        x = unet_layer(&block, u, x, NULL, i, j, c->down_attention[i]);
        push(u, x);
    }
    if (i < c->blocks - 1) {
        x = nn_downsample(&block, x, c->downsample_padding);
        push(u, x);
    }
    return x;
}

static tensor *mid_block(const scope *s, unet_state *u, tensor *x)
{
    const unet_config *c = u->c;
    int last = c->blocks - 1;
    if (!c->mid_block) return x;
    scope block = scope_in(s, "mid_block"), second = scope_in(&block, "resnets.1");
    x = unet_layer(&block, u, x, NULL, last, 0, c->mid_attention);
    /* A conditional UNet without attention here has UNetMidBlock2D(num_layers=0): one resnet. */
    return c->mid_attention || !c->conditional ? resnet(&second, u, x, c->channels[last]) : x;
}

/* Up block i has the width of down block blocks-1-i and takes one skip per resnet. */
static tensor *up_layers(const scope *block, unet_state *u, tensor *x, int i)
{
    const unet_config *c = u->c;
    int level = c->blocks - 1 - i;
    for (int j = 0; j < c->layers[level] + 1; j++) {
        if (u->deep && u->skips == 1) *u->deep = x = tell_apart(block, u, x);
        tensor *skip = u->skip[--u->skips];
        x = unet_layer(block, u, x, skip, level, j, c->up_attention[i]);
    }
    return x;
}

static tensor *up_block(const scope *s, unet_state *u, tensor *x, int i)
{
    scope block = scope_in(s, "up_blocks.%d", i);
    x = up_layers(&block, u, x, i);
    if (i < u->c->blocks - 1) {
        /* The next skip's size: twice this one, or one less where a side was odd. */
        const tensor *skip = u->skip[u->skips - 1];
        x = nn_upsample(&block, x, skip->dim[1], skip->dim[2]);
    }
    return x;
}

/* The first convolution, whose result is the first skip; and the timestep's embedding. */
static tensor *first_layer(const scope *s, unet_state *u, tensor *x, tensor *t)
{
    const unet_config *c = u->c;
    scope time = scope_in(s, "time_embedding");
    int64_t width = c->channels[0];

    tensor *temb = time_embedding(s->g, t, width, c->flip_sin_to_cos, c->freq_shift);
    temb = unary(s->g, nn_linear(&time, "linear_1", temb, 4 * width, NULL), UNARY_SILU);
    temb = nn_linear(&time, "linear_2", temb, 4 * width, NULL);
    u->temb = cast_compute(s->g, unary(s->g, temb, UNARY_SILU));

    x = nn_conv(s, "conv_in", x, width, 1, pad_same, NULL);
    if (u->hint) x = add(s->g, x, u->hint);
    push(u, x);
    return x;
}

/* What comes before the up blocks. */
static tensor *lower_half(const scope *s, unet_state *u, tensor *x, tensor *t)
{
    const unet_config *c = u->c;
    x = first_layer(s, u, x, t);
    for (int i = 0; i < c->blocks; i++) x = down_block(s, u, x, i);
    x = mid_block(s, u, x);
    if (!u->control) return x;
    x = tell_apart(s, u, x);
    for (int i = 0; i < u->skips; i++) u->skip[i] = add(s->g, u->skip[i], u->control[i]);
    return add(s->g, x, u->control[u->skips]);
}

static tensor *last_layer(const scope *s, unet_state *u, tensor *x)
{
    const unet_config *c = u->c;
    x = nn_group_norm(s, "conv_norm_out", tell_apart(s, u, x), c->groups, c->eps, true);
    return nn_conv(s, "conv_out", x, c->out_channels, 1, pad_same, NULL);
}

static tensor *unet_record(graph *g, unet_state *u, tensor *x, tensor *t)
{
    scope s = scope_root(g);
    s.lora = u->c->lora;
    x = lower_half(&s, u, x, t);
    for (int i = 0; i < u->c->blocks; i++) x = up_block(&s, u, x, i);
    return last_layer(&s, u, x);
}

tensor *unet_build(graph *g, const unet_config *c, tensor *x, tensor *t, tensor *context)
{
    unet_state u = {.c = c, .context = context};
    return unet_record(g, &u, x, t);
}

tensor *unet_build_cached(graph *g, const unet_config *c, tensor *x, tensor *t, tensor *const *kv,
                          int texts, tensor *const *control, tensor **deep)
{
    unet_state u = {.c = c, .kv = kv, .texts = texts, .control = control, .deep = deep};
    return unet_record(g, &u, x, t);
}

tensor *unet_build_shallow(graph *g, const unet_config *c, tensor *x, tensor *t, tensor *deep,
                           tensor *const *kv, int texts, tensor *control)
{
    int last = c->blocks - 1;
    unet_state u = {.c = c, .kv = kv, .texts = texts};
    scope s = scope_root(g), block = scope_in(&s, "up_blocks.%d", last);
    x = tell_apart(&s, &u, first_layer(&s, &u, x, t));
    if (control) x = add(g, x, control);
    x = unet_layer(&block, &u, deep, x, 0, c->layers[0], c->up_attention[last]);
    return last_layer(&s, &u, x);
}

int unet_skip_count(const unet_config *c)
{
    int count = c->blocks;
    for (int i = 0; i < c->blocks; i++) count += c->layers[i];
    return count;
}

tensor *unet_build_lower(graph *g, const unet_config *c, tensor *x, tensor *t, tensor *context,
                         tensor *const *kv, int texts, tensor *hint, tensor **skip)
{
    unet_state u = {.c = c, .context = context, .kv = kv, .texts = texts, .hint = hint};
    scope s = scope_root(g);
    x = tell_apart(&s, &u, lower_half(&s, &u, x, t));
    assert(u.skips == unet_skip_count(c));
    for (int i = 0; i < u.skips; i++) skip[i] = u.skip[i];
    return x;
}

tensor *unet_build_features(graph *g, const unet_config *c, tensor *x, tensor *t, tensor *context,
                            int block)
{
    unet_state u = {.c = c, .context = context};
    scope s = scope_root(g), last = scope_in(&s, "up_blocks.%d", block);
    x = lower_half(&s, &u, x, t);
    for (int i = 0; i < block; i++) x = up_block(&s, &u, x, i);
    return up_layers(&last, &u, x, block);
}

/* ---- the text's share ---- */

/* Cross-attentions of one block, in the order of recording; kv NULL only counts. Returns how many
 * keys and values there are. */
static size_t text_block(const scope *s, const unet_config *c, int level, int attentions,
                         tensor *context, tensor **kv)
{
    size_t n = 0;
    for (int j = 0; j < attentions; j++)
        for (int k = 0; k < c->transformer_layers[level]; k++, n += 2)
            if (kv) {
                scope attn2 = scope_in(s, "attentions.%d.transformer_blocks.%d.attn2", j, k);
                kv[n] = nn_linear_compute(&attn2, "to_k", context, c->channels[level], false);
                kv[n + 1] = nn_linear_compute(&attn2, "to_v", context, c->channels[level], false);
            }
    return n;
}

static size_t text_walk(graph *g, const unet_config *c, tensor *context, tensor **kv, bool lower)
{
    scope root = scope_root(g);
    size_t n = 0;
    if (!c->conditional) return 0;
    for (int i = 0; i < c->blocks; i++) {
        scope block = scope_in(&root, "down_blocks.%d", i);
        if (c->down_attention[i])
            n += text_block(&block, c, i, c->layers[i], context, kv ? kv + n : NULL);
    }
    scope mid = scope_in(&root, "mid_block");
    if (c->mid_block && c->mid_attention)
        n += text_block(&mid, c, c->blocks - 1, 1, context, kv ? kv + n : NULL);
    for (int i = 0; !lower && i < c->blocks; i++) {
        scope block = scope_in(&root, "up_blocks.%d", i);
        int level = c->blocks - 1 - i;
        if (c->up_attention[i])
            n += text_block(&block, c, level, c->layers[level] + 1, context, kv ? kv + n : NULL);
    }
    return n;
}

size_t unet_text_last(const unet_config *c)
{
    return c->conditional && c->up_attention[c->blocks - 1] ? 2 * (size_t)c->transformer_layers[0]
                                                            : 0;
}

size_t unet_text_count(const unet_config *c) { return text_walk(NULL, c, NULL, NULL, false); }

void unet_build_text(graph *g, const unet_config *c, tensor *context, tensor **kv)
{
    text_walk(g, c, context, kv, false);
}

size_t unet_text_count_lower(const unet_config *c) { return text_walk(NULL, c, NULL, NULL, true); }

void unet_build_text_lower(graph *g, const unet_config *c, tensor *context, tensor **kv)
{
    text_walk(g, c, context, kv, true);
}
