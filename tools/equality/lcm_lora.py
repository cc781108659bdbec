# SPDX-License-Identifier: Apache-2.0
"""Makes a LoRA in the form of lcm-lora-sdv1-5 for the pocket model, and with diffusers and peft, on the CPU in float32,
the pictures of four steps of LCM that it gives.

python tools/equality/lcm_lora.py DIR [--model models/pocket] [--threads 1]

DIR-lora/lcm.safetensors   lora_unet_..., with alpha, over all layers of blocks, convolutions too; random weights
DIR/<guidance>-<seed>.png  guidance 1, 1.5 and 2
"""
import argparse
import os

RANK, ALPHA = 8, 4.0
LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2",
          "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj")


def make_lora(path, unet):
    import torch
    from safetensors.torch import save_file
    torch.manual_seed(0)
    out = {}
    for name, module in unet.named_modules():
        if not name.endswith(LAYERS) or not hasattr(module, "weight"):
            continue
        w = module.weight
        key = "lora_unet_" + name.replace(".", "_")
        fan_in = w[0].numel()
        out[key + ".lora_down.weight"] = torch.randn(RANK, *w.shape[1:]) / fan_in**0.5
        out[key + ".lora_up.weight"] = torch.randn(w.shape[0], RANK, *(1,) * (w.dim() - 2)) * 0.02
        out[key + ".alpha"] = torch.tensor(ALPHA)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_file(out, path)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("dir")
    p.add_argument("--model", default=os.path.join(os.path.dirname(__file__), "../../models/pocket"))
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()

    import diffusers
    import torch

    torch.set_num_threads(a.threads)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(a.model, torch_dtype=torch.float32, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    path = os.path.join(a.dir + "-lora", "lcm.safetensors")
    make_lora(path, pipe.unet)
    pipe.load_lora_weights(os.path.dirname(path), weight_name=os.path.basename(path))
    pipe.scheduler = diffusers.LCMScheduler.from_config(pipe.scheduler.config)
    os.makedirs(a.dir, exist_ok=True)
    for guidance in ("1", "1.5", "2"):
        for seed in (42, 43):
            image = pipe("a photo of a dog", num_inference_steps=4, guidance_scale=float(guidance),
                         generator=torch.Generator("cpu").manual_seed(seed)).images[0]
            image.save(os.path.join(a.dir, f"{guidance}-{seed}.png"))


if __name__ == "__main__":
    main()
