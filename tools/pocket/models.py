# SPDX-License-Identifier: Apache-2.0
"""The three networks: UNet and autoencoder are diffusers' own; the text encoder is CLIP's, written plainly here with
the tensor names of transformers 4, which are those that Stable Diffusion's files have.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel

TEXT, LAYERS, HEADS, LENGTH = 160, 4, 4, 32
UNET, GROUPS = (112, 160, 192), 16
VAE = (48, 64, 128, 160)


def build_unet(tiny=False):
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 32, 64) if tiny else UNET,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT,
        attention_head_dim=4,
        norm_num_groups=GROUPS,
    )


def build_vae(tiny=False):
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=(16, 16, 32, 32) if tiny else VAE,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=128,
    )


def text_config(vocab, bos, eos):
    return dict(
        architectures=["CLIPTextModel"],
        attention_dropout=0.0,
        bos_token_id=bos,
        eos_token_id=eos,
        hidden_act="quick_gelu",
        hidden_size=TEXT,
        initializer_factor=1.0,
        initializer_range=0.02,
        intermediate_size=4 * TEXT,
        layer_norm_eps=1e-05,
        max_position_embeddings=LENGTH,
        model_type="clip_text_model",
        num_attention_heads=HEADS,
        num_hidden_layers=LAYERS,
        pad_token_id=eos,
        projection_dim=TEXT,
        torch_dtype="float16",
        transformers_version="4.44.0",
        vocab_size=vocab,
    )


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        for n in ("k_proj", "v_proj", "q_proj", "out_proj"):
            setattr(self, n, nn.Linear(TEXT, TEXT))

    def forward(self, x):
        B, T, C = x.shape
        sp = lambda t: t.view(B, T, HEADS, C // HEADS).transpose(1, 2)
        o = F.scaled_dot_product_attention(sp(self.q_proj(x)), sp(self.k_proj(x)), sp(self.v_proj(x)), is_causal=True)
        return self.out_proj(o.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(TEXT, 4 * TEXT), nn.Linear(4 * TEXT, TEXT)

    def forward(self, x):
        h = self.fc1(x)
        return self.fc2(h * torch.sigmoid(1.702 * h))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attn, self.layer_norm1 = Attention(), nn.LayerNorm(TEXT)
        self.mlp, self.layer_norm2 = MLP(), nn.LayerNorm(TEXT)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Text(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        m = self.text_model = nn.Module()
        e = m.embeddings = nn.Module()
        e.token_embedding, e.position_embedding = nn.Embedding(vocab, TEXT), nn.Embedding(LENGTH, TEXT)
        m.encoder = nn.Module()
        m.encoder.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        m.final_layer_norm = nn.LayerNorm(TEXT)
        for t in (e.token_embedding, e.position_embedding):
            nn.init.normal_(t.weight, std=0.02)
        for l in m.encoder.layers:  # CLIP's own beginnings
            a = l.self_attn
            s = TEXT**-0.5 * (2 * LAYERS) ** -0.5
            for p in (a.q_proj, a.k_proj, a.v_proj, l.mlp.fc2):
                nn.init.normal_(p.weight, std=s)
            nn.init.normal_(a.out_proj.weight, std=TEXT**-0.5)
            nn.init.normal_(l.mlp.fc1.weight, std=(2 * TEXT) ** -0.5)
            for p in (a.q_proj, a.k_proj, a.v_proj, a.out_proj, l.mlp.fc1, l.mlp.fc2):
                nn.init.zeros_(p.bias)

    def forward(self, ids):
        m = self.text_model
        x = m.embeddings.token_embedding(ids) + m.embeddings.position_embedding.weight[: ids.shape[1]]
        for l in m.encoder.layers:
            x = l(x)
        return m.final_layer_norm(x)


class Schedule:
    """The noise schedule of Stable Diffusion 1.x, and the min-SNR weight of each timestep."""

    def __init__(self, device):
        b = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.ac = torch.cumprod(1 - b, 0).float().to(device)
        snr = self.ac / (1 - self.ac)
        self.weight = torch.clamp(snr, max=5.0) / snr
