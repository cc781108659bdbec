# SPDX-License-Identifier: Apache-2.0
"""noise.py PROGRAM FOLDER: see noise.sh. Exit status 1 where a row is above 1 grey level."""

import pathlib
import subprocess
import sys

import diffusers
import numpy as np
import torch
from PIL import Image

from reference_pictures import SAMPLERS

program, work = sys.argv[1], pathlib.Path(sys.argv[2])
root = pathlib.Path(__file__).parent.parent.parent
sys.path.insert(0, str(root / "tools/fixtures"))
from philox import MASK, TURN, UNIT  # noqa: E402

pocket = root / "models/pocket"
work.mkdir(parents=True, exist_ok=True)
PROMPT, SEED, STEPS, STRENGTH = "a photo of a dog", 42, 20, 0.6
failed, pictures, worst_of_all = False, 0, 0


def randn(seed, call, shape):
    """philox.py's numbers, all at once."""
    n = int(np.prod(shape))
    a, b, c, d = (np.full(n, call, np.uint64), np.zeros(n, np.uint64), np.arange(n, dtype=np.uint64), np.zeros(n, np.uint64))
    low, high, word, half = seed & MASK, seed >> 32, np.uint64(MASK), np.uint64(32)
    for _ in range(10):
        p, q = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = (q >> half) ^ b ^ np.uint64(low), q & word, (p >> half) ^ d ^ np.uint64(high), p & word
        low, high = (low + 0x9E3779B9) & MASK, (high + 0xBB67AE85) & MASK
    x = np.sqrt(-2 * np.log(a * UNIT + UNIT / 2)) * np.sin(b * TURN + TURN / 2)
    return torch.from_numpy(x.astype(np.float32)).reshape(shape)


class Draws:
    """Numbers of a seed, call by call. latents: a picture's latents take no call of their own (a1111), but the first."""

    def __init__(self, order, delta=0):
        self.order, self.delta = order, delta
        self.restart()

    def restart(self):
        self.seed, self.call, self.begun = SEED, 0, False

    def latents(self, shape, *_, **__):
        return randn(SEED, 0, tuple(shape)) if self.order == "a1111" else self.noise(shape)

    def noise(self, shape, *_, **__):
        x = randn(self.seed, self.call, tuple(shape))
        self.call += 1
        if self.delta and not self.begun:
            self.seed, self.call = SEED + self.delta, 0
        self.begun = True
        return x


def patch(draws, sampler):
    """What draws in diffusers: the autoencoder's posterior, the pipelines' noise, the scheduler's."""
    from diffusers.models.autoencoders import vae
    from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion, pipeline_stable_diffusion_img2img
    vae.randn_tensor = draws.latents
    for module in (pipeline_stable_diffusion, pipeline_stable_diffusion_img2img,
                   sys.modules[getattr(diffusers, SAMPLERS[sampler]).__module__]):
        module.randn_tensor = draws.noise


first = diffusers.StableDiffusionPipeline.from_pretrained(pocket, torch_dtype=torch.float32, safety_checker=None,
                                                          local_files_only=True)
second = diffusers.StableDiffusionImg2ImgPipeline(**first.components)
own = dict(first.scheduler.config)
for pipe in (first, second):
    pipe.set_progress_bar_config(disable=True)
init = work / "init.png"
with Image.open(root / "examples/subject/01.png") as im:
    im.convert("RGB").resize((128, 112), Image.LANCZOS).save(init)


def theirs(kind, sampler, draws):
    extra = {"algorithm_type": "sde-dpmsolver++"} if sampler == "dpmpp_2m_sde" else {}
    for pipe in (first, second):
        pipe.scheduler = getattr(diffusers, SAMPLERS[sampler]).from_config(own, **extra)
    patch(draws, sampler)
    how = dict(guidance_scale=7.5, generator=torch.Generator())
    if kind == "picture":
        return second(PROMPT, image=Image.open(init), strength=STRENGTH, num_inference_steps=STEPS, **how).images[0]
    if kind == "text":
        return first(PROMPT, num_inference_steps=STEPS, **how).images[0]
    latents = first(PROMPT, num_inference_steps=STEPS, output_type="latent", **how).images
    latents = torch.nn.functional.interpolate(latents, size=(24, 24), mode="bilinear")
    draws.restart()
    whole = int(STEPS / 0.7)
    return second(PROMPT, image=latents, strength=(STEPS + 0.5) / whole, num_inference_steps=whole, **how).images[0]


def row(kind, sampler, order, delta=0):
    global failed, pictures, worst_of_all
    out = work / "ours.png"
    flags = {"text": [], "picture": ["-i", init, "--strength", STRENGTH], "hires": ["--hires", 1.5]}[kind]
    flags += ["--eta-noise-seed-delta", delta] if delta else []
    subprocess.run([program, "generate", "--overwrite", "-p", PROMPT, "-s", str(SEED), "--steps", str(STEPS), "--rng", order,
                    "--sampler", sampler, "-o", str(out), *map(str, flags)], check=True, capture_output=True)
    a = np.asarray(Image.open(out)).astype(int)
    b = np.asarray(theirs(kind, sampler, Draws(order, delta))).astype(int)
    worst, square = int(np.abs(a - b).max()), float(((a - b) ** 2).mean())
    psnr = 10 * np.log10(255**2 / square) if square else float("inf")
    failed = failed or worst > 1
    pictures, worst_of_all = pictures + 1, max(worst, worst_of_all)
    name = f"{kind} {sampler} {order}{f' delta {delta}' if delta else ''}"
    print(f"{name:36} worst {worst}  {psnr:.1f} dB{'  FAILED' if worst > 1 else ''}", flush=True)


for sampler in ("ddim", "ddpm", "euler_a", "dpm2_a", "dpmpp_2m_sde"):
    row("text", sampler, "a1111")
row("text", "euler_a", "a1111", 31337)
for order in ("a1111", "cuda"):
    row("picture", "ddim", order)
    row("picture", "euler_a", order)
row("hires", "euler_a", "a1111")
row("hires", "euler_a", "a1111", 31337)
print(f"{pictures} pictures: worst {worst_of_all}")
sys.exit(failed)
