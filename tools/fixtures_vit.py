# SPDX-License-Identifier: Apache-2.0
"""Makes tests/fixtures/model/layout/{clip,dino,dinov2} and tests/fixtures/model/vit.txt with transformers: toy towers
with weights by formula (fixtures_model.py's scatter), and what they give: of a wave of pixels, of a picture through their
Pillow processors, of prompts.

Run: python tools/fixtures_vit.py
"""
import os
import tempfile

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, Dinov2Config, Dinov2Model, ViTConfig, ViTModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from fixtures_model import OUT, by_component, keep, scatter, tensors, tokenizer, wave

SCENE = os.path.join(OUT, "..", "image", "scene.png")
PROMPTS = ["a dog", "cat", "", "a dog and a cat and another dog"]
IMAGENET = dict(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])


def clip():
    text = dict(hidden_size=12, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=518,
                max_position_embeddings=8, bos_token_id=516, eos_token_id=517, pad_token_id=517)
    vision = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, image_size=32,
                  patch_size=8)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=10))
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return model, processor, 32


def dino():
    config = ViTConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, image_size=32,
                       patch_size=8)
    return ViTModel(config), ViTImageProcessorPil(size={"height": 32, "width": 32}, resample=2, **IMAGENET), 32


def dinov2():
    """Made for 56 pixels, used at 36: positions are interpolated, and the last 1 of 36 pixels is no patch's."""
    config = Dinov2Config(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, mlp_ratio=2, image_size=56,
                          patch_size=7)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 36, "width": 36}, resample=3,
                                      **IMAGENET)
    return Dinov2Model(config), processor, 36


def filled(model, folder):
    """Weights by the names in the file, which are not always the module's."""
    path = os.path.join(folder, "model.safetensors")
    values = load_file(path)
    module = torch.nn.Module()
    module.named_parameters = lambda: values.items()
    scatter(module)
    save_file(values, path, metadata={"format": "pt"})
    return type(model).from_pretrained(folder).eval()


def image_embedding(model, pixels):
    if isinstance(model, CLIPModel):
        pooled = model.vision_model(pixel_values=pixels).pooler_output
        return model.visual_projection(pooled)[0]
    return model(pixel_values=pixels).last_hidden_state[0, 0]


def row(name, what, values):
    return f"{name} {what} " + " ".join(f"{v:.9g}" for v in values.tolist())


@torch.no_grad()
def main():
    rows = []
    for name, make in (("clip", clip), ("dino", dino), ("dinov2", dinov2)):
        model, processor, size = make()
        with tempfile.TemporaryDirectory() as work:
            model.save_pretrained(work)
            model = filled(model, work)
            processor.save_pretrained(work)
            if name == "clip":
                tokens = tokenizer()[2]
                tokens.save_pretrained(work)
            keep(name, work, tensors(work, by_component))
        rows.append(row(name, "pixels", image_embedding(model, wave(1, 3, size, size).float())))
        scene = processor(images=Image.open(SCENE).convert("RGB"), return_tensors="pt").pixel_values
        rows.append(row(name, "picture", image_embedding(model, scene)))
        for i, prompt in enumerate(PROMPTS if name == "clip" else []):
            ids = tokens(prompt, padding="max_length", truncation=True, return_tensors="pt").input_ids
            state = model.text_model(input_ids=ids).pooler_output
            rows.append(row(name, f"prompt{i}", model.text_projection(state)[0]))
    with open(os.path.join(OUT, "vit.txt"), "w") as f:
        f.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
