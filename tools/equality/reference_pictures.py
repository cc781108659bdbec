# SPDX-License-Identifier: Apache-2.0
"""Makes the pictures that Likeness must equal, with diffusers on the CPU in float32.

python tools/equality/reference_pictures.py DIR [--model models/pocket] [--only prompts|sweep|fixed_large|samplers] [--threads 1]

DIR/<slug>-<seed>.png                          part 2: seven prompts, DDIM 50 steps
DIR/<slug>-<sampler>-<steps>-<seed>.png        part 1: DDPM (fixed_small) and DDIM at 200, 50 and 10 steps
DIR/fixed_large/<slug>-ddpm-<steps>-<seed>.png part 1 again, with variance_type fixed_large
DIR/samplers/<slug>-<sampler>-20-42.png         with --only samplers: each of them at 20 steps, some with Karras' sigmas too
                                               (it wants scipy and torchsde besides)
DIR/latents/<the same name>.safetensors        first and last latents of each picture
DIR/trace/<the same name>.safetensors          every step of a few pictures: latents, guided prediction, text embedding,
                                               decoded image before rounding

Each picture has its own torch.Generator("cpu").manual_seed(seed), and is made alone, so that the batch size is 1.
"""
import argparse
import os
import re
import time

SEVEN = ["a sailboat at sea", "a child playing", "a photo of a cat", "a photo of a dog", "a photo of sks dog",
         "a dog running on the beach", "a photo of a dog in the park"]
TWO = ["a photo of a dog", "a photo of sks dog"]


def slug(text):
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def jobs():
    """(set, name, prompt, sampler, extra scheduler settings, steps, seed)"""
    for prompt in SEVEN:
        for seed in (42, 43, 44):
            yield "prompts", f"{slug(prompt)}-{seed}", prompt, "ddim", {}, 50, seed
    for kind, samplers, extra in (("sweep", ("ddim", "ddpm"), {}),
                                  ("fixed_large", ("ddpm",), {"variance_type": "fixed_large"})):
        for steps in (10, 50, 200):
            for sampler in samplers:
                for prompt in TWO:
                    for seed in (42, 43, 44, 45):
                        folder = "fixed_large/" if kind == "fixed_large" else ""
                        name = f"{folder}{slug(prompt)}-{sampler}-{steps}-{seed}"
                        yield kind, name, prompt, sampler, extra, steps, seed


SAMPLERS = {
    "ddim": "DDIMScheduler", "ddpm": "DDPMScheduler", "pndm": "PNDMScheduler", "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler", "heun": "HeunDiscreteScheduler", "lms": "LMSDiscreteScheduler",
    "dpm2": "KDPM2DiscreteScheduler", "dpm2_a": "KDPM2AncestralDiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler", "dpmpp_2m_sde": "DPMSolverMultistepScheduler",
    "dpmpp_sde": "DPMSolverSDEScheduler", "unipc": "UniPCMultistepScheduler", "deis": "DEISMultistepScheduler",
    "lcm": "LCMScheduler", "tcd": "TCDScheduler",
}
WITH_KARRAS = ("euler", "heun", "lms", "dpm2", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_sde", "unipc", "deis")


def sampler_jobs():
    for sampler in SAMPLERS:
        for rule in ("", "karras", "exponential", "beta"):
            if rule == "karras" and sampler not in WITH_KARRAS or rule in ("exponential", "beta") and sampler != "dpmpp_2m":
                continue
            extra = {f"use_{rule}_sigmas": True} if rule else {}
            if sampler == "dpmpp_2m_sde":
                extra["algorithm_type"] = "sde-dpmsolver++"
            name = f"samplers/{slug(TWO[0])}-{sampler}{'_' if rule else ''}{rule}-20-42"
            yield "samplers", name, TWO[0], sampler, extra, 20, 42


class Path:
    """What stands for DPM++ SDE's Brownian path, whose seed no generator gives: a draw to the step's middle, another
    from there to its end, out of the picture's generator."""

    def __init__(self, generator, shape):
        self.generator, self.shape = generator, shape
        self.middle = None

    def __call__(self, sigma, sigma_next):
        import torch
        draw = torch.randn(self.shape, generator=self.generator)
        if self.middle is None:
            self.middle, self.way = sigma_next, draw * (sigma - sigma_next).sqrt()
            return draw
        way = self.way + draw * (self.middle - sigma_next).sqrt()
        self.middle = None
        return way / (sigma - sigma_next).sqrt()


TRACED = {"a-photo-of-a-dog-42", "a-photo-of-a-dog-ddpm-10-42", "fixed_large/a-photo-of-a-dog-ddpm-10-42"}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("dir")
    p.add_argument("--model", default=os.path.join(os.path.dirname(__file__), "..", "..", "models", "pocket"))
    p.add_argument("--only", choices=["prompts", "sweep", "fixed_large", "samplers"])
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()

    import diffusers
    import torch
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import save_file

    torch.set_num_threads(a.threads)
    pipe = StableDiffusionPipeline.from_pretrained(a.model, torch_dtype=torch.float32, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    pipe._callback_tensor_inputs = ["latents", "prompt_embeds", "noise_pred"]  # the prediction after guidance
    config = pipe.scheduler.config
    for folder in ("", "fixed_large", "samplers", "latents/fixed_large", "latents/samplers", "trace/fixed_large"):
        os.makedirs(os.path.join(a.dir, folder), exist_ok=True)

    decoded = {}
    decode = pipe.vae.decode

    def keep_decoded(*args, **kw):
        out = decode(*args, **kw)
        decoded["image"] = out[0].detach()
        return out

    pipe.vae.decode = keep_decoded
    start = time.time()
    for kind, name, prompt, sampler, extra, steps, seed in sampler_jobs() if a.only == "samplers" else jobs():
        if a.only and a.only != kind:
            continue
        pipe.scheduler = getattr(diffusers, SAMPLERS[sampler]).from_config(config, **extra)
        shape = (1, pipe.unet.config.in_channels, pipe.unet.config.sample_size, pipe.unet.config.sample_size)
        first = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))
        generator = torch.Generator("cpu").manual_seed(seed)
        if sampler == "dpmpp_sde":
            path = Path(generator, shape)
            diffusers.schedulers.scheduling_dpmsolver_sde.BrownianTreeNoiseSampler = lambda *_, path=path: path
        trace = {"initial": first}
        last = {}

        def step(_, i, t, kw):
            last["latents"] = kw["latents"].detach().clone()
            if name in TRACED:
                trace[f"prediction.{i:03d}"] = kw["noise_pred"].detach().clone()
                trace[f"latents.{i:03d}"] = last["latents"]
                trace["timesteps"] = pipe.scheduler.timesteps.clone().to(torch.int64)
                trace["text"] = kw["prompt_embeds"].detach().clone()  # [2,N,C]: unconditional, conditional
            return {}

        picture = pipe(prompt, num_inference_steps=steps, guidance_scale=7.5,
                       generator=generator, callback_on_step_end=step,
                       callback_on_step_end_tensor_inputs=["latents", "prompt_embeds", "noise_pred"]).images[0]
        save_file({"initial": first, "final": last["latents"].contiguous()},
                  os.path.join(a.dir, "latents", name + ".safetensors"))
        if name in TRACED:
            trace["image"] = decoded["image"]
            save_file({k: v.contiguous() for k, v in trace.items()},
                      os.path.join(a.dir, "trace", name + ".safetensors"))
        picture.save(os.path.join(a.dir, name + ".png"))
        print(f"{time.time() - start:7.1f} s  {name}.png", flush=True)


if __name__ == "__main__":
    main()
