# SPDX-License-Identifier: Apache-2.0
"""Writes a diffusers folder with the names, shapes and sizes of Stable Diffusion 1.5 and random float16 weights
(686 + 248 + 196 tensors, 2.1 GB), for measuring speed and memory. Needs no network.

python tools/bench/make_sd15.py [DIR=/tmp/sd15-random] [--tokenizer ../shared/data/clip-tokenizer]

Names are those that the original repository has: text encoder with `text_model.`, VAE attention as query, key, value and
proj_attn. Weights are scaled so that every output stays finite. Where the folder of CLIP's tokenizer is missing, a
tokenizer of single bytes with as many entries takes its place.
"""
import argparse
import json
import os
import shutil

HERE = os.path.dirname(os.path.abspath(__file__))
UNET = dict(sample_size=64, in_channels=4, out_channels=4, center_input_sample=False, flip_sin_to_cos=True,
            freq_shift=0, down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
            up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3, block_out_channels=[320, 640, 1280, 1280],
            layers_per_block=2, downsample_padding=1, mid_block_scale_factor=1, act_fn="silu", norm_num_groups=32,
            norm_eps=1e-5, cross_attention_dim=768, attention_head_dim=8)
VAE = dict(in_channels=3, out_channels=3, down_block_types=["DownEncoderBlock2D"] * 4,
           up_block_types=["UpDecoderBlock2D"] * 4, block_out_channels=[128, 256, 512, 512], layers_per_block=2,
           act_fn="silu", latent_channels=4, norm_num_groups=32, sample_size=512)
CLIP = dict(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
            max_position_embeddings=77, hidden_act="quick_gelu", layer_norm_eps=1e-5, bos_token_id=0, eos_token_id=2,
            pad_token_id=1, projection_dim=768)
SCHEDULER = dict(_class_name="PNDMScheduler", _diffusers_version="0.6.0", beta_start=0.00085, beta_end=0.012,
                 beta_schedule="scaled_linear", num_train_timesteps=1000, set_alpha_to_one=False, skip_prk_steps=True,
                 steps_offset=1, trained_betas=None, clip_sample=False)
INDEX = dict(_class_name="StableDiffusionPipeline", _diffusers_version="0.6.0", feature_extractor=[None, None],
             safety_checker=[None, None], requires_safety_checker=False, scheduler=["diffusers", "PNDMScheduler"],
             text_encoder=["transformers", "CLIPTextModel"], tokenizer=["transformers", "CLIPTokenizer"],
             unet=["diffusers", "UNet2DConditionModel"], vae=["diffusers", "AutoencoderKL"])


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=2)


def random_weights(shapes, seed):
    """{name: float16}: matrices of unit gain (residual ends weaker), norms near 1, small biases."""
    import torch
    g = torch.Generator().manual_seed(seed)
    out = {}
    for name in sorted(shapes):
        shape = shapes[name]
        w = torch.randn(shape, generator=g)
        if len(shape) > 1:
            fan_in = w[0].numel()
            gain = 0.3 if "conv2" in name or "to_out" in name or "fc2" in name or "ff.net.2" in name else 1.0
            w *= 0.02 if "embedding" in name and "text_model" in name else gain / fan_in ** 0.5
        elif name.endswith("bias"):
            w *= 0.02
        else:
            w = 1 + 0.1 * w
        out[name] = w.to(torch.float16)
    return out


def shapes_of(model):
    return {k: tuple(v.shape) for k, v in model.state_dict().items() if "position_ids" not in k}


def vae_legacy(name):
    if ".attentions." in name:
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            name = name.replace(f".{new}.", f".{old}.")
    return name


def byte_tokenizer(folder, size):
    """A stand-in: CLIP's 256 byte symbols, the same at a word's end, and unused entries up to `size`."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    symbols = [chr(b) for b in keep] + [chr(256 + i) for i in range(256 - len(keep))]
    words = symbols + [s + "</w>" for s in symbols]
    words += [f"unused{i}</w>" for i in range(size - len(words) - 2)] + ["<|startoftext|>", "<|endoftext|>"]
    write_json(os.path.join(folder, "vocab.json"), {w: i for i, w in enumerate(words)})
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n")
    write_json(os.path.join(folder, "tokenizer_config.json"),
               dict(tokenizer_class="CLIPTokenizer", model_max_length=77, bos_token="<|startoftext|>",
                    eos_token="<|endoftext|>", pad_token="<|endoftext|>", unk_token="<|endoftext|>",
                    do_lower_case=True))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("dir", nargs="?", default="/tmp/sd15-random")
    p.add_argument("--tokenizer", default=os.path.join(HERE, "..", "..", "..", "shared", "data", "clip-tokenizer"))
    a = p.parse_args()

    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet = shapes_of(UNet2DConditionModel(**UNET))
        vae = {vae_legacy(k): v for k, v in shapes_of(AutoencoderKL(**VAE)).items()}
        clip = shapes_of(CLIPTextModel(CLIPTextConfig(**CLIP)))
    clip = {k if k.startswith("text_model.") else "text_model." + k: v for k, v in clip.items()}
    assert (len(unet), len(vae), len(clip)) == (686, 248, 196), (len(unet), len(vae), len(clip))

    parts = (("unet", "diffusion_pytorch_model", unet, dict(_class_name="UNet2DConditionModel", **UNET)),
             ("vae", "diffusion_pytorch_model", vae, dict(_class_name="AutoencoderKL", **VAE)),
             ("text_encoder", "model", clip, dict(architectures=["CLIPTextModel"], model_type="clip_text_model",
                                                  torch_dtype="float16", **CLIP)))
    for seed, (name, file, shapes, config) in enumerate(parts):
        write_json(os.path.join(a.dir, name, "config.json"), config)
        path = os.path.join(a.dir, name, file + ".safetensors")
        save_file(random_weights(shapes, seed), path, metadata={"format": "pt"})
        print(f"{path}: {len(shapes)} tensors, {os.path.getsize(path) / 1e6:.0f} MB", flush=True)
    write_json(os.path.join(a.dir, "scheduler", "scheduler_config.json"), SCHEDULER)
    tokenizer = os.path.join(a.dir, "tokenizer")
    if os.path.isfile(os.path.join(a.tokenizer, "vocab.json")):
        shutil.copytree(a.tokenizer, tokenizer, dirs_exist_ok=True, copy_function=shutil.copyfile)
    else:
        byte_tokenizer(tokenizer, CLIP["vocab_size"])
    write_json(os.path.join(a.dir, "model_index.json"), INDEX)


if __name__ == "__main__":
    main()
