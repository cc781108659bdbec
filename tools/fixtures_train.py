# SPDX-License-Identifier: Apache-2.0
"""Writes tests/fixtures/train/losses.json: DreamBooth runs of the pocket model by tools/train_reference.py, which the
tests of src/train repeat. Run from anywhere, with a Python that has torch, diffusers 0.42 and accelerate:

python tools/fixtures_train.py [--folders DIR] [--only TEXT] [--threads 2]

{"runs": [{"name", "prediction_type", "settings": {flag: value}, "loss": [..], ..}]}: the lists are those of
train_reference.py. Paths are relative to the repository. The model of a run is models/pocket with that
prediction_type in its scheduler's config. --folders keeps each run's trained pipeline as DIR/NAME (spaces as -), for
tools/compare_training.py; --only runs those whose names hold TEXT, and prints them in place of writing.

The pictures it trains on are made where they are missing, and committed:
class/  seven pictures of the pocket model, "a photo of a dog", DDIM 10 steps, guidance 5, seeds 100 to 106;
wide/   four pictures of examples/subject, resized and cut so that each needs a crop, a shrink or a stretch first.
No run has 8-bit AdamW: bitsandbytes' CPU back end is not its CUDA one, which Likeness follows.
"""
import argparse
import json
import multiprocessing
import os
import pathlib
import shutil
import sys
import tempfile
import time

import train_reference

ROOT = pathlib.Path(__file__).resolve().parent.parent
TRAIN = "tests/fixtures/train"
MODEL = "models/pocket"

PLAIN = dict(instance_data_dir="examples/subject", instance_prompt="a photo of sks dog", resolution=128,
             train_batch_size=1, gradient_accumulation_steps=1, max_train_steps=10, learning_rate=5e-6,
             scale_lr=False, lr_scheduler="constant", lr_warmup_steps=0, lr_num_cycles=1, lr_power=1.0,
             adam_beta1=0.9, adam_beta2=0.999, adam_weight_decay=1e-2, adam_epsilon=1e-8, max_grad_norm=1.0,
             center_crop=False, train_text_encoder=False, offset_noise=False, with_prior_preservation=False)
PRIOR = dict(with_prior_preservation=True, class_data_dir=f"{TRAIN}/class", class_prompt="a photo of a dog",
             prior_loss_weight=1.0, num_class_images=7)
WIDE = dict(instance_data_dir=f"{TRAIN}/wide")
FAST = dict(learning_rate=1e-4)
LONG = dict(max_train_steps=50)


def runs():
    """(name, what differs from PLAIN, prediction type); each run's seed is 7 and its place."""
    v = "v_prediction"
    yield "batch 1", LONG, None
    yield "batch 2", LONG | dict(train_batch_size=2), None
    yield "prior batch 1", LONG | PRIOR, None
    yield "prior batch 2", LONG | PRIOR | dict(train_batch_size=2), None
    yield "batch 1 fast", LONG | FAST, None
    yield "adamw fast", FAST | dict(adam_beta1=0.8, adam_beta2=0.99, adam_weight_decay=0.1, adam_epsilon=1e-6), None
    yield "batch larger than the data", dict(train_batch_size=8, max_train_steps=4), None
    yield "accumulation", FAST | dict(gradient_accumulation_steps=2, max_train_steps=6), None
    yield "accumulation scaled rate", dict(gradient_accumulation_steps=2, train_batch_size=2, max_train_steps=6,
                                           learning_rate=2e-5, scale_lr=True), None
    yield "clipping", FAST | dict(max_grad_norm=0.05, adam_epsilon=1e-3), None
    for name, extra in (("constant", {}), ("constant_with_warmup", {}), ("linear", {}), ("cosine", {}),
                        ("cosine_with_restarts", dict(lr_num_cycles=2)), ("polynomial", dict(lr_power=2.0))):
        yield f"rate {name}", FAST | dict(lr_scheduler=name, lr_warmup_steps=3) | extra, None
    yield "snr_gamma", dict(snr_gamma=5.0, train_batch_size=2), None
    yield "snr_gamma prior", PRIOR | dict(snr_gamma=5.0, train_batch_size=2), None
    yield "prior weight and limit", PRIOR | dict(prior_loss_weight=0.4, num_class_images=4), None
    yield "offset noise", dict(offset_noise=True, train_batch_size=2), None
    yield "text encoder", FAST | dict(train_text_encoder=True, max_train_steps=20), None
    yield "text encoder prior", FAST | PRIOR | dict(train_text_encoder=True), None
    yield "v_prediction", {}, v
    yield "v_prediction snr_gamma", dict(snr_gamma=5.0), v
    yield "centre crops", WIDE | dict(center_crop=True), None
    yield "random crops", WIDE | dict(train_batch_size=2), None
    yield "random crops prior", WIDE | PRIOR | dict(train_batch_size=2), None


def make_pictures():
    from PIL import Image
    wide = ROOT / TRAIN / "wide"
    wide.mkdir(parents=True, exist_ok=True)
    for name, source, side, size in (("1-wide", "03", 150, (150, 128)), ("2-tall", "05", 170, (128, 170)),
                                     ("3-small", "04", 140, (100, 140)), ("4-large", "05", 256, (256, 200))):
        if not (wide / f"{name}.png").exists():
            with Image.open(ROOT / f"examples/subject/{source}.png") as picture:
                picture = picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
            left, top = (side - size[0]) // 2, (side - size[1]) // 2
            picture.crop((left, top, left + size[0], top + size[1])).save(wide / f"{name}.png", optimize=True)
    folder = ROOT / TRAIN / "class"
    folder.mkdir(exist_ok=True)
    missing = [seed for seed in range(100, 107) if not (folder / f"dog-{seed}.png").exists()]
    if missing:
        import torch
        from diffusers import StableDiffusionPipeline
        pipe = StableDiffusionPipeline.from_pretrained(ROOT / MODEL, torch_dtype=torch.float32, safety_checker=None)
        pipe.set_progress_bar_config(disable=True)
        for seed in missing:
            picture = pipe(PRIOR["class_prompt"], num_inference_steps=10, guidance_scale=5.0,
                           generator=torch.Generator("cpu").manual_seed(seed)).images[0]
            picture.save(folder / f"dog-{seed}.png", optimize=True)


def model_of(prediction_type, folder):
    """models/pocket, or a copy of it under folder with another prediction type."""
    if prediction_type is None:
        return MODEL
    model = os.path.join(folder, prediction_type)
    shutil.copytree(MODEL, model)
    path = os.path.join(model, "scheduler", "scheduler_config.json")
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    config["prediction_type"] = prediction_type
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config, f)
    return model


def one(job):
    """A run, in a process of its own: accelerate keeps state between the runs of a process."""
    name, settings, prediction_type, folders, threads = job
    with tempfile.TemporaryDirectory() as temporary:
        output = os.path.join(folders, name.replace(" ", "-")) if folders else None
        log = train_reference.train(train_reference.settings(
            pretrained_model_name_or_path=model_of(prediction_type, temporary), output_dir=output, log=None,
            threads=threads, **settings))
    return train_reference.short(dict(name=name, prediction_type=prediction_type or "epsilon", settings=settings) |
                                 log)


def separate(function, *arguments):
    """Calls it in a process of its own, so that this one never computes and can be forked."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--folders")
    p.add_argument("--only")
    p.add_argument("--threads", type=int, default=2)
    a = p.parse_args()
    if a.folders:
        a.folders = os.path.abspath(a.folders)
    os.chdir(ROOT)
    separate(make_pictures)
    rows = []
    for i, (name, changes, prediction_type) in enumerate(runs()):
        if a.only and a.only not in name:
            continue
        start = time.time()
        settings = PLAIN | changes | dict(seed=7 + i)
        rows.append(separate(one, (name, settings, prediction_type, a.folders, a.threads)))
        print(f"{name:28} {len(rows[-1]['loss']):3} losses, {time.time() - start:5.1f} s", file=sys.stderr, flush=True)
    text = '{"runs": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]}\n"
    if a.only:
        print(text, end="")
    else:
        with open(f"{TRAIN}/losses.json", "w", encoding="utf-8") as f:
            f.write(text)


if __name__ == "__main__":
    main()
