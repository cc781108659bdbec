# SPDX-License-Identifier: Apache-2.0
"""Makes ControlNets for the pocket model, and with diffusers on the CPU in float32 the pictures that they give.

python tools/equality/control.py DIR [--model models/pocket] [--threads 1]

DIR-nets/a, b              ControlNetModel.from_unet with random weights where training begins with zeros
DIR-nets/original          a once more as one file in the original names (control_model...), its config.json beside it
DIR-nets/edges.png         what they see: 128x128; wide.png: 200x150, which is resized
DIR/<name>.png             the pictures, as in jobs()
"""
import argparse
import os
import re


def jobs():
    """(name, sampler, steps, guidance, [(net, picture, scale)])"""
    yield "one", "ddim", 20, 7.5, [("a", "edges", 1.0)]
    yield "resized", "ddim", 20, 7.5, [("a", "wide", 1.0)]
    yield "scaled", "euler_a", 20, 7.5, [("b", "edges", 0.45)]
    yield "two", "dpmpp_2m", 20, 5.0, [("a", "edges", 0.7), ("b", "wide", 0.4)]
    yield "unguided", "heun", 10, 1.0, [("a", "edges", 1.0)]


def original_name(name, layers, blocks):
    """diffusers' name -> the original one (without control_model.)"""
    first = lambda i: 1 + i * (layers + 1)
    resnet = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
              "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}

    def res(rest):
        head, tail = rest.split(".", 1)
        return f"{resnet[head]}.{tail}"
    for pattern, to in (
            (r"time_embedding\.linear_(\d)\.(.*)", lambda m: f"time_embed.{2 * int(m[1]) - 2}.{m[2]}"),
            (r"conv_in\.(.*)", lambda m: f"input_blocks.0.0.{m[1]}"),
            (r"down_blocks\.(\d+)\.resnets\.(\d+)\.(.*)", lambda m: f"input_blocks.{first(int(m[1])) + int(m[2])}.0.{res(m[3])}"),
            (r"down_blocks\.(\d+)\.attentions\.(\d+)\.(.*)", lambda m: f"input_blocks.{first(int(m[1])) + int(m[2])}.1.{m[3]}"),
            (r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.(.*)", lambda m: f"input_blocks.{first(int(m[1]) + 1) - 1}.0.op.{m[2]}"),
            (r"mid_block\.resnets\.(\d)\.(.*)", lambda m: f"middle_block.{2 * int(m[1])}.{res(m[2])}"),
            (r"mid_block\.attentions\.0\.(.*)", lambda m: f"middle_block.1.{m[1]}"),
            (r"controlnet_cond_embedding\.conv_in\.(.*)", lambda m: f"input_hint_block.0.{m[1]}"),
            (r"controlnet_cond_embedding\.blocks\.(\d+)\.(.*)", lambda m: f"input_hint_block.{2 * int(m[1]) + 2}.{m[2]}"),
            (r"controlnet_cond_embedding\.conv_out\.(.*)", lambda m: f"input_hint_block.{2 * blocks + 2}.{m[1]}"),
            (r"controlnet_down_blocks\.(\d+)\.(.*)", lambda m: f"zero_convs.{m[1]}.0.{m[2]}"),
            (r"controlnet_mid_block\.(.*)", lambda m: f"middle_block_out.0.{m[1]}")):
        m = re.fullmatch(pattern, name)
        if m:
            return to(m)
    raise ValueError(name)


def make_nets(folder, unet):
    import torch
    from diffusers import ControlNetModel
    from safetensors.torch import save_file
    from PIL import Image, ImageDraw
    nets = {}
    for k, name in enumerate("ab"):
        torch.manual_seed(k)
        net = ControlNetModel.from_unet(unet)
        for key, p in net.named_parameters():
            if key.startswith(("controlnet_down", "controlnet_mid", "controlnet_cond_embedding.conv_out")):
                torch.nn.init.normal_(p, std=0.05)
        net.save_pretrained(os.path.join(folder, name))
        nets[name] = net.eval()
    there = os.path.join(folder, "original")
    os.makedirs(there, exist_ok=True)
    a = nets["a"]
    layers, blocks = a.config.layers_per_block, len(a.controlnet_cond_embedding.blocks)
    save_file({"control_model." + original_name(k, layers, blocks): v.contiguous() for k, v in a.state_dict().items()},
              os.path.join(there, "control.safetensors"))
    a.save_config(there)
    pictures = {}
    for name, size in (("edges", (128, 128)), ("wide", (200, 150))):
        im = Image.new("RGB", size)
        draw = ImageDraw.Draw(im)
        draw.ellipse((size[0] // 5, size[1] // 4, size[0] * 4 // 5, size[1] * 3 // 4), outline=(255, 255, 255), width=3)
        draw.line((0, size[1] - 20, size[0], size[1] // 2), fill=(255, 120, 0), width=2)
        im.save(os.path.join(folder, name + ".png"))
        pictures[name] = im
    return nets, pictures


def main():
    p = argparse.ArgumentParser()
    p.add_argument("dir")
    p.add_argument("--model", default=os.path.join(os.path.dirname(__file__), "../../models/pocket"))
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()

    import diffusers
    import torch
    from reference_pictures import SAMPLERS

    torch.set_num_threads(a.threads)
    base = diffusers.StableDiffusionPipeline.from_pretrained(a.model, torch_dtype=torch.float32, safety_checker=None)
    os.makedirs(a.dir + "-nets", exist_ok=True)
    os.makedirs(a.dir, exist_ok=True)
    nets, pictures = make_nets(a.dir + "-nets", base.unet)
    for name, sampler, steps, guidance, controls in jobs():
        several = len(controls) > 1
        pick = lambda list: list if several else list[0]
        pipe = diffusers.StableDiffusionControlNetPipeline(**{**base.components, "controlnet": pick([nets[n] for n, _, _ in controls])},
                                                           requires_safety_checker=False)
        pipe.set_progress_bar_config(disable=True)
        pipe.scheduler = getattr(diffusers, SAMPLERS[sampler]).from_config(base.scheduler.config)
        image = pipe("a photo of a dog", image=pick([pictures[i] for _, i, _ in controls]), num_inference_steps=steps,
                     guidance_scale=guidance, width=128, height=128,
                     controlnet_conditioning_scale=pick([s for _, _, s in controls]),
                     generator=torch.Generator("cpu").manual_seed(42)).images[0]
        image.save(os.path.join(a.dir, name + ".png"))
        print(name, flush=True)


if __name__ == "__main__":
    main()
