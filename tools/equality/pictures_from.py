# SPDX-License-Identifier: Apache-2.0
"""Makes the pictures from pictures that Likeness must equal, with diffusers on the CPU in float32.

python tools/equality/pictures_from.py DIR [--model models/pocket] [--part NAME] [--threads 2]

DIR/inputs/init.png, mask.png                 what they are made from: 131x117, so that it is cut to 128x112; half of it
DIR/inputs/plms/, inpainting/                 the model with Stable Diffusion 1.5's scheduler; with 9 input channels
DIR/img2img/<slug>-<sampler>-20-42.png        StableDiffusionImg2ImgPipeline at strength 0.6
DIR/strength/<slug>-<strength>-<seed>.png     DDIM at other strengths and seeds, Euler a at strength 1
DIR/inpaint/<slug>-<sampler>-20-42.png        StableDiffusionInpaintPipeline at strength 0.75, blended latents
DIR/whole/<slug>-<sampler>-20-42.png          the same at strength 1
DIR/nine/<slug>-<sampler>-20-42.png           the same with 9 input channels, strength 0.75; nine-whole: strength 1
DIR/hires/<slug>-<sampler>-20-42.png          from text, then again over latents 1.5 times as large, as AUTOMATIC1111 does:
                                              the last 20 of int(20 / 0.7) steps, noise of the same seed
DIR/tile/text.png, picture.png                 DDIM, 208x160, the autoencoder in tiles (enable_vae_tiling)
DIR/hires/<slug>-<upscaler>-42.png            the same by DDIM, 8 of int(8 / 0.6) steps, otherwise enlarged
"""
import argparse
import json
import os
import shutil

import numpy as np

from reference_pictures import SAMPLERS, Path, slug

PROMPT = "a photo of a dog"
KARRAS = ("euler", "heun", "lms", "dpm2", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "deis")
FEW = ("ddim", "ddpm", "pndm", "euler", "euler_a", "heun", "dpm2", "dpmpp_2m", "unipc", "lcm")
UPSCALERS = {"latent-antialiased": dict(mode="bilinear", antialias=True), "latent-bicubic": dict(mode="bicubic"),
             "latent-nearest-exact": dict(mode="nearest-exact")}
HERE = os.path.dirname(os.path.abspath(__file__))


def inputs(folder, model):
    """The pictures, and the two models that differ from the pocket model."""
    from PIL import Image
    from safetensors.torch import load_file, save_file
    import torch
    os.makedirs(folder, exist_ok=True)
    with Image.open(os.path.join(HERE, "..", "..", "examples", "subject", "01.png")) as im:
        im.convert("RGB").crop((20, 30, 151, 147)).save(os.path.join(folder, "init.png"))
    y, x = np.mgrid[0:117, 0:131]
    inside = ((x - 70) / 45.0) ** 2 + ((y - 50) / 30.0) ** 2
    mask = np.clip(255 * (1.5 - inside), 0, 255).astype(np.uint8)
    Image.fromarray(mask).convert("RGB").save(os.path.join(folder, "mask.png"))
    for name in ("plms", "inpainting"):
        to = os.path.join(folder, name)
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(model, to)
    with open(os.path.join(folder, "plms", "scheduler", "scheduler_config.json"), "r+") as f:
        config = json.load(f)
        config.update(_class_name="PNDMScheduler", skip_prk_steps=True)
        f.seek(0)
        f.truncate()
        json.dump(config, f)
    unet = os.path.join(folder, "inpainting", "unet")
    with open(os.path.join(unet, "config.json"), "r+") as f:
        config = json.load(f)
        config["in_channels"] = 9
        f.seek(0)
        f.truncate()
        json.dump(config, f)
    weights = os.path.join(unet, "diffusion_pytorch_model.safetensors")
    tensors = load_file(weights)
    old = tensors["conv_in.weight"]
    more = 0.05 * torch.randn((old.shape[0], 5, *old.shape[2:]), generator=torch.Generator().manual_seed(9))
    tensors["conv_in.weight"] = torch.cat([old, more.to(old.dtype)], dim=1).contiguous()
    save_file(tensors, weights, metadata={"format": "pt"})


def steps_of(sampler):
    """LCM is made for 4 to 8. At 20 this model, which was not distilled for it, blows up differences of rounding."""
    return 4 if sampler == "lcm" else 20


def jobs():
    """(folder, name, model, sampler, scheduler settings, call)"""
    for sampler in SAMPLERS:
        for rule in ("", "karras"):
            if rule and sampler not in KARRAS:
                continue
            extra = {"use_karras_sigmas": True} if rule else {}
            name = f"{slug(PROMPT)}-{sampler}{'_' if rule else ''}{rule}-{steps_of(sampler)}-42"
            yield "img2img", name, "plms", sampler, extra, dict(strength=0.6)
    for seed in (42, 43):
        for strength in (0.05, 0.1, 0.35, 0.95, 1):
            yield "strength", f"{slug(PROMPT)}-{strength}-{seed}", "plms", "ddim", {}, dict(strength=strength, seed=seed)
    for folder, model, strength in (("inpaint", "plms", 0.75), ("whole", "plms", 1.0), ("nine", "inpainting", 0.75),
                                    ("nine-whole", "inpainting", 1.0)):
        for sampler in SAMPLERS if folder == "inpaint" else FEW:
            if model == "inpainting" and sampler == "pndm":
                continue
            name = f"{slug(PROMPT)}-{sampler}-{steps_of(sampler)}-42"
            yield folder, name, model, sampler, {}, dict(strength=strength, mask=True)


def hires(dir, where, torch, diffusers):
    """The pictures in two passes."""
    from torch.nn.functional import interpolate
    at = os.path.join(where, "plms")
    first = diffusers.StableDiffusionPipeline.from_pretrained(at, torch_dtype=torch.float32, safety_checker=None)
    second = diffusers.StableDiffusionImg2ImgPipeline(**first.components)
    own = dict(first.scheduler.config)
    rows = [(s, s + "-20", dict(mode="bilinear"), 20, 0.7) for s in ("ddim", "pndm", "euler_a", "dpmpp_2m", "heun")]
    rows += [("ddim", name, how, 8, 0.6) for name, how in UPSCALERS.items()]
    os.makedirs(os.path.join(dir, "hires"), exist_ok=True)
    for sampler, name, how, steps, strength in rows:
        for pipe in (first, second):
            pipe.set_progress_bar_config(disable=True)
            pipe.scheduler = getattr(diffusers, SAMPLERS[sampler]).from_config(own)
        latents = first(PROMPT, num_inference_steps=20, guidance_scale=7.5, output_type="latent",
                        generator=torch.Generator("cpu").manual_seed(42)).images
        latents = interpolate(latents, size=(24, 24), **how)
        all_steps = int(steps / strength)
        picture = second(PROMPT, image=latents, strength=(steps + 0.5) / all_steps, num_inference_steps=all_steps,
                         guidance_scale=7.5, generator=torch.Generator("cpu").manual_seed(42)).images[0]
        picture.save(os.path.join(dir, "hires", f"{slug(PROMPT)}-{name}-42.png"))
        print(f"hires/{slug(PROMPT)}-{name}-42.png", flush=True)


def tiled(dir, where, init, torch, diffusers):
    """The autoencoder in tiles: 208x160 from text, and from a picture."""
    at = os.path.join(where, "plms")
    first = diffusers.StableDiffusionPipeline.from_pretrained(at, torch_dtype=torch.float32, safety_checker=None)
    first.scheduler = diffusers.DDIMScheduler.from_config(first.scheduler.config)
    first.vae.enable_tiling()
    second = diffusers.StableDiffusionImg2ImgPipeline(**first.components)
    how = dict(num_inference_steps=20, guidance_scale=7.5)
    from PIL import Image
    large = init.resize((208, 160), Image.LANCZOS)
    pictures = {
        "text": first(PROMPT, width=208, height=160, generator=torch.Generator("cpu").manual_seed(42), **how),
        "picture": second(PROMPT, image=large, strength=0.6, generator=torch.Generator("cpu").manual_seed(42), **how),
    }
    os.makedirs(os.path.join(dir, "tile"), exist_ok=True)
    for name, made in pictures.items():
        made.images[0].save(os.path.join(dir, "tile", f"{name}.png"))
        print(f"tile/{name}.png", flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("dir")
    p.add_argument("--model", default=os.path.join(HERE, "..", "..", "models", "pocket"))
    p.add_argument("--part", default="")
    p.add_argument("--sampler", default="")
    p.add_argument("--threads", type=int, default=2)
    a = p.parse_args()

    import diffusers
    import torch
    from PIL import Image

    torch.set_num_threads(a.threads)
    where = os.path.join(a.dir, "inputs")
    inputs(where, a.model)
    init, mask = (Image.open(os.path.join(where, f"{n}.png")).convert("RGB") for n in ("init", "mask"))
    if a.part in ("", "hires"):
        hires(a.dir, where, torch, diffusers)
    if a.part in ("", "tile"):
        tiled(a.dir, where, init, torch, diffusers)
    pipes = {}
    for folder, name, model, sampler, extra, call in jobs():
        if a.part and a.part != folder or a.sampler and a.sampler != sampler:
            continue
        kind = "Inpaint" if "mask" in call else "Img2Img"
        if (model, kind) not in pipes:
            pipes[model, kind] = getattr(diffusers, f"StableDiffusion{kind}Pipeline").from_pretrained(
                os.path.join(where, model), torch_dtype=torch.float32, safety_checker=None)
            pipes[model, kind].set_progress_bar_config(disable=True)
            pipes[model, kind].own = dict(pipes[model, kind].scheduler.config)
        pipe = pipes[model, kind]
        if sampler == "dpmpp_2m_sde":
            extra = dict(extra, algorithm_type="sde-dpmsolver++")
        pipe.scheduler = getattr(diffusers, SAMPLERS[sampler]).from_config(pipe.own, **extra)
        generator = torch.Generator("cpu").manual_seed(call.get("seed", 42))
        if sampler == "dpmpp_sde":
            path = Path(generator, (1, 4, 14, 16))
            diffusers.schedulers.scheduling_dpmsolver_sde.BrownianTreeNoiseSampler = lambda *_, path=path: path
        given = dict(image=init, strength=call["strength"])
        if "mask" in call:
            given.update(mask_image=mask, height=112, width=128)
        picture = pipe(PROMPT, num_inference_steps=steps_of(sampler), guidance_scale=7.5, generator=generator, **given).images[0]
        os.makedirs(os.path.join(a.dir, folder), exist_ok=True)
        picture.save(os.path.join(a.dir, folder, f"{name}.png"))
        print(f"{folder}/{name}.png", flush=True)


if __name__ == "__main__":
    main()
