/* SPDX-License-Identifier: Apache-2.0
 *
 * vae: diffusers AutoencoderKL, encoder and decoder, recorded on a graph. */
#include "model/model.h"
#include "model/nn.h"

#define VAE_EPS 1e-6f

/* UNetMidBlock2D: resnet, attention with one head, resnet. */
static tensor *vae_mid(const scope *s, const vae_config *c, tensor *x)
{
    int64_t width = channels(x);
    scope first = scope_in(s, "mid_block.resnets.0"), second = scope_in(s, "mid_block.resnets.1");
    scope attention = scope_in(s, "mid_block.attentions.0");
    x = nn_resnet(&first, x, NULL, width, c->groups, VAE_EPS);
    if (c->mid_attention) x = nn_attention_block(&attention, x, 1, c->groups, VAE_EPS);
    return nn_resnet(&second, x, NULL, width, c->groups, VAE_EPS);
}

/* norm, SiLU, 3x3 convolution: the end of both halves. */
static tensor *vae_out(const scope *s, const vae_config *c, tensor *x, int64_t width)
{
    x = nn_group_norm(s, "conv_norm_out", x, c->groups, VAE_EPS, true);
    return nn_conv(s, "conv_out", x, width, 1, pad_same, NULL);
}

tensor *vae_build_encoder(graph *g, const vae_config *c, tensor *image)
{
    scope root = scope_root(g), encoder = scope_in(&root, "encoder");
    tensor *x = nn_conv(&encoder, "conv_in", image, c->channels[0], 1, pad_same, NULL);
    for (int i = 0; i < c->blocks; i++) {
        scope block = scope_in(&encoder, "down_blocks.%d", i);
        for (int j = 0; j < c->layers; j++) {
            scope resnet = scope_in(&block, "resnets.%d", j);
            x = nn_resnet(&resnet, x, NULL, c->channels[i], c->groups, VAE_EPS);
        }
        if (i < c->blocks - 1) x = nn_downsample(&block, x, 0);
    }
    x = vae_out(&encoder, c, vae_mid(&encoder, c, x), 2 * c->latent_channels);
    return c->quant_conv ? nn_conv1x1(&root, "quant_conv", x, channels(x), NULL) : x;
}

tensor *vae_build_decoder(graph *g, const vae_config *c, tensor *latent)
{
    scope root = scope_root(g), decoder = scope_in(&root, "decoder");
    tensor *x = latent;
    if (c->post_quant_conv) x = nn_conv1x1(&root, "post_quant_conv", x, channels(x), NULL);
    x = nn_conv(&decoder, "conv_in", x, c->channels[c->blocks - 1], 1, pad_same, NULL);
    x = vae_mid(&decoder, c, x);
    for (int i = 0; i < c->blocks; i++) {
        scope block = scope_in(&decoder, "up_blocks.%d", i);
        for (int j = 0; j < c->layers + 1; j++) {
            scope resnet = scope_in(&block, "resnets.%d", j);
            x = nn_resnet(&resnet, x, NULL, c->channels[c->blocks - 1 - i], c->groups, VAE_EPS);
        }
        if (i < c->blocks - 1) x = nn_upsample(&block, x, 2 * x->dim[1], 2 * x->dim[2]);
    }
    return vae_out(&decoder, c, x, c->out_channels);
}
