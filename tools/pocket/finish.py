# SPDX-License-Identifier: Apache-2.0
"""After the training: the rest of the model's folder, and sample pictures made from it with diffusers."""
import json
import shutil

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image

from shared import HERE, log

PROMPTS = ["a sailboat at sea", "a child playing", "a photo of a cat", "a photo of a dog", "a photo of sks dog",
           "a dog running on the beach", "a photo of a dog in the park"]
INDEX = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.30.0", "feature_extractor": [None, None],
         "image_encoder": [None, None], "requires_safety_checker": False, "safety_checker": [None, None],
         "scheduler": ["diffusers", "DDIMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
         "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
         "vae": ["diffusers", "AutoencoderKL"]}


def run(o):
    model = o.out + "/model"
    shutil.copytree(HERE + "/tok", model + "/tokenizer", dirs_exist_ok=True)
    DDIMScheduler(beta_start=.00085, beta_end=.012, beta_schedule="scaled_linear", clip_sample=False,
                  set_alpha_to_one=False, steps_offset=1).save_pretrained(model + "/scheduler")
    with open(model + "/model_index.json", "w") as f:
        json.dump(INDEX, f, indent=2)
    log("the model is in", model)
    pipe = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32, safety_checker=None).to(o.device)
    pipe.set_progress_bar_config(disable=True)
    sheet = Image.new("RGB", (6 * 131, len(PROMPTS) * 131), "white")
    for y, prompt in enumerate(PROMPTS):
        for x in range(6):
            g = torch.Generator("cpu").manual_seed(42 + x)
            picture = pipe(prompt, num_inference_steps=2 if o.tiny else 50, generator=g).images[0]
            sheet.paste(picture, (x * 131, y * 131))
    sheet.save(o.out + "/samples.png")
    log("samples.png: prompts down, seeds 42 to 47 across")
