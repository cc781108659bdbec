# SPDX-License-Identifier: Apache-2.0
"""Makes, with diffusers on the CPU in float32, pictures in which two models take turns.

python tools/equality/mix_reference.py BASE TUNED DIR [--prompts 7] [--threads 1]

BASE and TUNED are diffusers folders of one architecture. DDIM, 50 steps, guidance 7.5, seeds 42, 43, 44.
DIR/base-tuned-N/<slug>-<seed>.png   the first N steps by BASE, the rest by TUNED, N = 0, 15, 40
DIR/tuned-base-N/<slug>-<seed>.png   the first N by TUNED, the rest by BASE, N = 10, 35, 50

The pipeline is diffusers' own; a callback at the end of a step swaps its UNet and the text embeddings, which each
model makes with its own text encoder. The autoencoder is that of the model that predicts the last step.
"""
import argparse
import os
import time

from reference_pictures import SEVEN, slug

RUNS = [("base", "tuned", n) for n in (0, 15, 40)] + [("tuned", "base", n) for n in (10, 35, 50)]
STEPS = 50


def main():
    p = argparse.ArgumentParser()
    p.add_argument("base")
    p.add_argument("tuned")
    p.add_argument("dir")
    p.add_argument("--prompts", type=int, default=len(SEVEN))
    p.add_argument("--seeds", type=lambda t: [int(s) for s in t.split(",")], default=[42, 43, 44])
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()

    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    torch.set_num_threads(a.threads)
    pipes = {}
    for name, path in (("base", a.base), ("tuned", a.tuned)):
        pipes[name] = StableDiffusionPipeline.from_pretrained(path, torch_dtype=torch.float32, safety_checker=None)
        pipes[name].set_progress_bar_config(disable=True)
    runner = StableDiffusionPipeline(**pipes["base"].components, requires_safety_checker=False)
    runner.set_progress_bar_config(disable=True)
    runner.scheduler = DDIMScheduler.from_config(pipes["base"].scheduler.config)

    def embeddings(name, prompt):
        """[2,N,C]: unconditional, conditional"""
        with torch.no_grad():
            cond, uncond = pipes[name].encode_prompt(prompt, "cpu", 1, True)
        return torch.cat([uncond, cond])

    start = time.time()
    for prompt in SEVEN[:a.prompts]:
        text = {name: embeddings(name, prompt) for name in pipes}
        for first, second, at in RUNS:
            folder = os.path.join(a.dir, f"{first}-{second}-{at}")
            os.makedirs(folder, exist_ok=True)
            begin, end = first if at > 0 else second, second if at < STEPS else first

            def swap(pipe, i, t, kw):
                if i + 1 != at or at == STEPS:
                    return {}
                pipe.unet = pipes[second].unet
                return {"prompt_embeds": text[second]}

            for seed in a.seeds:
                runner.unet, runner.vae = pipes[begin].unet, pipes[end].vae
                uncond, cond = text[begin].chunk(2)
                image = runner(prompt_embeds=cond, negative_prompt_embeds=uncond, num_inference_steps=STEPS,
                               guidance_scale=7.5, generator=torch.Generator("cpu").manual_seed(seed),
                               callback_on_step_end=swap,
                               callback_on_step_end_tensor_inputs=["prompt_embeds"]).images[0]
                image.save(os.path.join(folder, f"{slug(prompt)}-{seed}.png"))
        print(f"{time.time() - start:7.1f} s  {prompt}", flush=True)


if __name__ == "__main__":
    main()
