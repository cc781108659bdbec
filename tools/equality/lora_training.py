# SPDX-License-Identifier: Apache-2.0
"""lora_training.py WORK: WORK/refs/NAME, the pictures of the pocket model with each LoRA that lora_training.sh made, by diffusers'
load_lora_weights on the CPU in float32; and how far the products of both/ are from those of reference/, which PEFT trained by
the same settings."""
import pathlib
import sys

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file

from reference_pictures import slug

work = pathlib.Path(sys.argv[1])
pocket = pathlib.Path(__file__).resolve().parent.parent.parent / "models/pocket"
PROMPTS = ("a photo of sks dog", "a photo of a cat")
FILES = {"": "pytorch_lora_weights.safetensors", "-kohya": "pytorch_lora_weights_kohya.safetensors"}


def pictures(name, folder, file):
    pipe = StableDiffusionPipeline.from_pretrained(pocket, torch_dtype=torch.float32, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.load_lora_weights(folder, weight_name=file)
    out = work / "refs" / name
    out.mkdir(parents=True, exist_ok=True)
    for prompt in PROMPTS:
        generator = torch.Generator("cpu").manual_seed(42)
        picture = pipe(prompt, num_inference_steps=20, guidance_scale=7.5, generator=generator).images[0]
        picture.save(out / f"{slug(prompt)}-42.png")


def products(folder):
    """{layer: up @ down}"""
    tensors = {k.replace("text_model.", ""): v for k, v in load_file(folder / FILES[""]).items()}
    return {k: tensors[k.replace("down.weight", "up.weight")].double() @ v.double()
            for k, v in tensors.items() if k.endswith("down.weight")}


for name in ("unet", "both", "alpha"):
    for ending, file in FILES.items():
        pictures(name + ending, work / name, file)
pictures("reference", work / "reference", FILES[""])
ours, theirs = products(work / "both"), products(work / "reference")
assert ours.keys() == theirs.keys()
worst = max(((ours[k] - theirs[k]).norm() / theirs[k].norm()).item() for k in theirs)
print(f"both, against reference: {len(theirs)} products within {worst:.1e} of PEFT's after 50 steps")
