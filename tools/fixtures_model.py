# SPDX-License-Identifier: Apache-2.0
"""Makes tests/fixtures/model with diffusers and transformers (an environment outside the repository; README of tests).

layout/NAME/ holds the configuration files of a toy model as saved in one layout, and tensors.txt: for every
tensor "key canonical type dims" below its file's "@ path", canonical being the name the weights' formula goes by
("=" where it is the key, "-" for a tensor that belongs to no weight). The test writes the safetensors files from that,
so no weights are stored. Weights by formula: docs/NUMERICS.md, 8.

gradients.txt: for every weight of four toy networks the gradient of a mean squared error, by torch autograd in
float64 (weights: scatter below): largest absolute value, its dot products with cos(0.21 i + 0.5) and sin(0.37 i + 0.2), the middle value.

Run: python tools/fixtures_model.py
"""
import json
import math
import os
import shutil
import tempfile

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers import UNet2DModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "fixtures", "model")
LAYOUT = os.path.join(OUT, "layout")

UNET = dict(block_out_channels=(8, 16, 16), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), layers_per_block=(1, 2, 1),
            cross_attention_dim=12, attention_head_dim=2, norm_num_groups=4, sample_size=8)
PLAIN = dict(block_out_channels=(8, 16), down_block_types=("DownBlock2D", "AttnDownBlock2D"),
             up_block_types=("AttnUpBlock2D", "UpBlock2D"), layers_per_block=1, attention_head_dim=8,
             norm_num_groups=4, sample_size=8, downsample_padding=0, flip_sin_to_cos=False, freq_shift=1,
             norm_eps=1e-6)
VAE = dict(block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
           up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1, norm_num_groups=4, sample_size=16)
TEXT = dict(hidden_size=12, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=8, vocab_size=518, bos_token_id=516, eos_token_id=517, pad_token_id=517)


def fill(module):
    """docs/NUMERICS.md, 8, by transformers 4's names (text_model.)."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            name = canonical_text(name) if isinstance(module, CLIPTextModel) else name
            i = torch.arange(p.numel(), dtype=torch.float64)
            s = 1 / math.sqrt(p.numel() / p.shape[0]) if p.dim() >= 2 else 0.1
            v = torch.sin(0.37 * i + 0.11 * len(name)) * s
            if p.dim() == 1 and "norm" in name and name.endswith("weight"):
                v = 1 + v
            p.copy_(v.float().reshape(p.shape))
    return module.eval()


def scatter(module):
    """As fill, but with weights that look random: sines leave a deep network badly conditioned, and a gradient's
    last digits would be float32's noise."""
    mask = 0xFFFFFFFF
    with torch.no_grad():
        for name, p in module.named_parameters():
            name = canonical_text(name) if isinstance(module, CLIPTextModel) else name
            x = (torch.arange(p.numel(), dtype=torch.int64) * 2654435761 + 97 * len(name)) & mask
            x = ((x ^ (x >> 15)) * 73244475) & mask
            x = ((x ^ (x >> 13)) * 73244475) & mask
            v = (x ^ (x >> 16)).double() / 2**31 - 1
            v = v / math.sqrt(p.numel() / p.shape[0]) if p.dim() >= 2 else 0.1 * v
            if p.dim() == 1 and "norm" in name and name.endswith("weight"):
                v = 1 + v
            p.copy_(v.float().reshape(p.shape))
    return module.eval()


def canonical_text(name):
    return name if name.startswith("text_model.") else "text_model." + name


def byte_signs():
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    other = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(other))]


def tokenizer():
    signs = byte_signs()
    words = signs + [s + "</w>" for s in signs] + ["do", "dog</w>", "ca", "cat</w>"]
    vocab = {w: i for i, w in enumerate(words + ["<|startoftext|>", "<|endoftext|>"])}
    merges = [("d", "o"), ("do", "g</w>"), ("c", "a"), ("ca", "t</w>")]
    return vocab, merges, CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=8)


# ---- layouts ----

def tensors(folder, canonical, only=None):
    """Lines of tensors.txt for every safetensors file below a folder."""
    lines = []
    for root, _, files in sorted(os.walk(folder)):
        for file in sorted(files):
            if not file.endswith(".safetensors"):
                continue
            path = os.path.relpath(os.path.join(root, file), folder)
            with safe_open(os.path.join(root, file), "pt") as f:
                for key in f.keys():
                    part = f.get_slice(key)
                    dims = ",".join(map(str, part.get_shape()))
                    name = canonical(path, key)
                    lines.append(f"{path} {key} {'=' if name == key else name} {part.get_dtype()} {dims}")
    return lines


def keep(name, folder, lines):
    """Puts the small files of a saved folder and its tensors into the fixtures."""
    out = os.path.join(LAYOUT, name)
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    for root, _, files in os.walk(folder):
        for file in files:
            if file.endswith((".json", ".txt")):
                target = os.path.join(out, os.path.relpath(os.path.join(root, file), folder))
                os.makedirs(os.path.dirname(target), exist_ok=True)
                if file.endswith(".json"):  # compact: the fixtures are to stay small
                    with open(os.path.join(root, file)) as f:
                        data = json.load(f)
                    with open(target, "w") as f:
                        json.dump(data, f, separators=(",", ":"), ensure_ascii=False)
                        f.write("\n")
                else:
                    shutil.copyfile(os.path.join(root, file), target)
    with open(os.path.join(out, "tensors.txt"), "w") as f:
        file = None
        for line in lines:
            path, rest = line.split(" ", 1)
            if path != file:
                f.write(f"@ {path}\n")
                file = path
            f.write(rest + "\n")


def by_component(path, key):
    return canonical_text(key) if path.startswith("text_encoder") else key


LEGACY = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def legacy_attention(key):
    for new, old in LEGACY.items():
        if f".{new}." in key and "transformer_blocks" not in key:
            return key.replace(f".{new}.", f".{old}.")
    return key


def old_layout(new_lines):
    """As of 2022: text_model., position_ids, and the VAE's attention under its older names."""
    lines = []
    for line in new_lines:
        path, key, name, dtype, dims = line.split(" ")
        name = key if name == "=" else name
        old = name if path.startswith("text_encoder") else legacy_attention(name) if path.startswith("vae") else key
        lines.append(f"{path} {old} {'=' if old == name else name} {dtype} {dims}")
    lines.append("text_encoder/model.safetensors text_model.embeddings.position_ids - I64 1,8")
    return sorted(lines)  # file by file


# ---- original names ----

def numbers(layers):
    """Numbers of the original names' blocks by (block, layer); "d" and "u" are the samplers."""
    down, up, at = {}, {}, 1
    for i, n in enumerate(layers):
        for j in [*range(n), "d"]:
            down[i, j] = at
            at += 1
    at = 0
    for i, n in enumerate(reversed(layers)):
        for j in range(n + 1):
            up[i, j] = up[i, "u"] = at
            at += 1
    return down, up


def ldm_unet_name(name, layers):
    """Our own way back, for UNET's blocks with attention in the middle level only."""
    resnet = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
              "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
    down, up = numbers(layers)
    p = name.split(".")
    if p[0] == "mid_block":
        part = f"{resnet[p[3]]}.{p[4]}" if p[1] == "resnets" else ".".join(p[3:])
        return f"middle_block.{2 * int(p[2]) if p[1] == 'resnets' else 1}.{part}"
    if p[0] in ("down_blocks", "up_blocks"):
        side, at = ("input", down) if p[0] == "down_blocks" else ("output", up)
        block = int(p[1])
        if p[2] == "resnets":
            return f"{side}_blocks.{at[block, int(p[3])]}.0.{resnet[p[4]]}.{p[5]}"
        if p[2] == "attentions":
            return f"{side}_blocks.{at[block, int(p[3])]}.1." + ".".join(p[4:])
        if p[2] == "downsamplers":
            return f"input_blocks.{at[block, 'd']}.0.op.{p[5]}"
        return f"output_blocks.{at[block, 'u']}.{2 if block == 1 else 1}.conv.{p[5]}"
    head = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
            "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}[".".join(p[:-1])]
    return f"{head}.{p[-1]}"


def same_shapes(back, module):
    assert {k: v.shape for k, v in back.items()} == {k: v.shape for k, v in module.state_dict().items()}


def check_ldm_unet_names():
    """convert_ldm_unet_checkpoint knows one layer count for all blocks: checked with two such counts."""
    for n in (1, 2):
        unet = UNet2DConditionModel(**dict(UNET, layers_per_block=n))
        ldm = {"model.diffusion_model." + ldm_unet_name(k, [n] * 3): t for k, t in unet.state_dict().items()}
        same_shapes(convert_ldm_unet_checkpoint(ldm, dict(unet.config)), unet)


def ldm_vae_name(name):
    p = name.split(".")
    attn = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}
    if len(p) > 4 and p[1] in ("down_blocks", "up_blocks") and p[3] == "resnets":
        level = int(p[2]) if p[1] == "down_blocks" else 1 - int(p[2])
        part = p[5].replace("conv_shortcut", "nin_shortcut")
        return f"{p[0]}.{p[1][:-7]}.{level}.block.{p[4]}.{part}.{p[6]}"
    if len(p) > 4 and p[1] == "down_blocks":
        return f"{p[0]}.down.{p[2]}.downsample.conv.{p[6]}"
    if len(p) > 4 and p[1] == "up_blocks":
        return f"{p[0]}.up.{1 - int(p[2])}.upsample.conv.{p[6]}"
    if len(p) > 4 and p[1] == "mid_block" and p[2] == "resnets":
        return f"{p[0]}.mid.block_{int(p[3]) + 1}.{p[4]}.{p[5]}"
    if len(p) > 4:
        return f"{p[0]}.mid.attn_1.{attn[p[4]]}.{p[-1]}"
    return name.replace("conv_norm_out", "norm_out")


def ldm_lines(unet, vae, text):
    def shape(t, wide):
        return ",".join(map(str, list(t.shape) + [1, 1] * wide))
    lines, ldm = [], {}
    for name, t in unet.state_dict().items():
        key = "model.diffusion_model." + ldm_unet_name(name, UNET["layers_per_block"])
        lines.append(f"model.safetensors {key} {name} F32 {shape(t, False)}")
    for name, t in vae.state_dict().items():
        attention = ".attentions." in name and t.dim() == 2
        key = "first_stage_model." + ldm_vae_name(name)
        ldm[key] = t[:, :, None, None] if attention else t
        lines.append(f"model.safetensors {key} {name} F32 {shape(t, attention)}")
    same_shapes(convert_ldm_vae_checkpoint(ldm, dict(vae.config)), vae)
    for name, t in text.state_dict().items():
        if "position_ids" not in name:
            name = canonical_text(name)
            lines.append(f"model.safetensors cond_stage_model.transformer.{name} {name} F32 {shape(t, False)}")
    lines += ["model.safetensors cond_stage_model.transformer.text_model.embeddings.position_ids - I64 1,8",
              "model.safetensors model_ema.diffusion_modeltime_embed0weight - F32 32,8",
              "model.safetensors model_ema.decay - F32 ", "model.safetensors betas - F32 1000",
              "model.safetensors first_stage_model.loss.logvar - F32 "]
    return lines


def layouts():
    unet, vae = fill(UNet2DConditionModel(**UNET)), fill(AutoencoderKL(**VAE))
    text = fill(CLIPTextModel(CLIPTextConfig(**TEXT)))
    vocab, merges, tokens = tokenizer()
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                              set_alpha_to_one=False, steps_offset=1)
    pipe = StableDiffusionPipeline(vae=vae, text_encoder=text, tokenizer=tokens, unet=unet, scheduler=scheduler,
                                   safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    with tempfile.TemporaryDirectory() as work:
        new = os.path.join(work, "new")
        pipe.save_pretrained(new)
        lines = tensors(new, by_component)
        keep("new", new, lines)
        old = os.path.join(LAYOUT, "old")
        keep("old", new, old_layout(lines))
        os.remove(os.path.join(old, "tokenizer", "tokenizer.json"))
        with open(os.path.join(old, "tokenizer", "vocab.json"), "w") as f:
            json.dump(vocab, f, separators=(",", ":"))
        with open(os.path.join(old, "tokenizer", "merges.txt"), "w") as f:
            f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
        keep("single", os.path.join(work, "none"), ldm_lines(unet, vae, text))
        shards = os.path.join(work, "shards")  # an overlay: new's VAE in pieces
        vae.save_pretrained(os.path.join(shards, "vae"), max_shard_size="60KB")
        keep("sharded", shards, tensors(shards, by_component))
        half = os.path.join(work, "half")
        pipe.to(torch.float16).save_pretrained(half, variant="fp16")
        renamed = [line.replace(".safetensors", ".fp16.safetensors").replace(" F32 ", " F16 ") for line in lines]
        assert tensors(half, by_component) == renamed  # so the test derives this layout from new's
        flat = os.path.join(work, "flat")
        fill(UNet2DModel(**PLAIN)).save_pretrained(flat)
        DDPMScheduler(variance_type="fixed_large").save_pretrained(flat)
        flat_lines = []
        for line in tensors(flat, by_component):  # the published ones have the older names
            path, key, name, dtype, dims = line.split(" ")
            old_key = legacy_attention(key)
            flat_lines.append(f"{path} {old_key} {'=' if old_key == key else key} {dtype} {dims}")
        keep("flat", flat, flat_lines)


# ---- gradients ----

def wave(*shape, rate=0.21):
    return torch.cos(rate * torch.arange(math.prod(shape), dtype=torch.float64)).reshape(shape)


def mse(y):
    return ((y - wave(*y.shape, rate=0.13)) ** 2).mean()


def gradients():
    rows = []

    def note(network, module, loss):
        module.zero_grad()
        loss.backward()
        rows.append(f"{network} loss {loss.item():.9g}")
        for name, p in module.named_parameters():
            g = p.grad.double().flatten()
            i = torch.arange(g.numel(), dtype=torch.float64)
            dots = (g * torch.cos(0.21 * i + 0.5)).sum(), (g * torch.sin(0.37 * i + 0.2)).sum()
            values = [g.abs().max(), *dots, g[g.numel() // 2]]
            name = canonical_text(name) if network == "clip" else name
            rows.append(f"{network} {name} " + " ".join(f"{v.item():.7g}" for v in values))

    unet = scatter(UNet2DConditionModel(**UNET)).double()
    note("unet", unet, mse(unet(wave(2, 4, 8, 8), torch.tensor([37.0, 801.0]), wave(2, 5, 12)).sample))
    plain = scatter(UNet2DModel(**PLAIN)).double()
    note("plain", plain, mse(plain(wave(2, 3, 8, 8), torch.tensor([37.0, 801.0])).sample))
    vae = scatter(AutoencoderKL(**VAE)).double()
    moments = vae.encode(wave(1, 3, 16, 16)).latent_dist.parameters
    note("vae", vae, mse(moments) + mse(vae.decode(wave(1, 4, 8, 8)).sample))
    text = scatter(CLIPTextModel(CLIPTextConfig(**TEXT))).double()
    note("clip", text, mse(text(torch.tensor([[516, 5, 17, 3, 500, 517, 517, 517]])).last_hidden_state))
    with open(os.path.join(OUT, "gradients.txt"), "w") as f:
        f.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(2)
    check_ldm_unet_names()
    layouts()
    gradients()
