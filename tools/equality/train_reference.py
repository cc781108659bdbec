# SPDX-License-Identifier: Apache-2.0
"""The judge of `likeness train`: trains as diffusers' examples/dreambooth/train_dreambooth.py does, on the CPU in
float32 (or, for what autocast does to the UNet, --mixed_precision bf16), and writes down what every micro-step drew and lost.

python tools/equality/train_reference.py --pretrained_model_name_or_path models/pocket --instance_data_dir examples/subject \\
    --instance_prompt "a photo of sks dog" --resolution 128 --train_batch_size 1 --max_train_steps 50 --seed 7 \\
    [the script's other flags] [--output_dir DIR] [--log LOSSES.json] [--threads 2]

Accelerate, torch, bitsandbytes, diffusers and transformers do the work and the drawing of random numbers, called in
the script's order. Where it differs from the script, on purpose:
* pictures are taken in the order of their names (the script: of the directory, which is the file system's);
* class pictures must be there: none are generated (so it is the script run with enough of them), at most
  --num_class_images are used;
* --snr_gamma weighs each instance sample by its own timestep. The script uses the timesteps of the class half too,
  which fails or broadcasts with prior preservation. For a velocity the weight is min(snr, gamma) / (snr + 1), as in
  diffusers' text-to-image script; some versions of this one have min(snr, gamma) / snr + 1;
* the whole model is float32 whatever the files are (transformers 5 would keep the text encoder in the files' type);
* --output_dir is optional; no validation, no checkpoints, no trackers.

With --rank it is train_dreambooth_lora.py: PEFT's matrices beside the attentions' products are trained, drawn where that
script draws them, and --output_dir is what its save_lora_weights writes. --lora_alpha (there: the rank) is ours.

The record: a list per micro-step of "loss" (undivided by the accumulation), "instance" and "prior" (its two parts, the
prior before its weight), "pictures" and "classes" (indices of the batch), "crops" ([top, left] of each of the batch's
pictures, the instances first), "timesteps"; and a list per update of "lr" (the rate it used), "norm" (the gradient's,
before clipping) and "synced" (the micro-steps done by then). "moved": the 2-norm of the change of all weights.
"""
import argparse
import json
import math
import os
import pathlib
import sys

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import compute_snr
from PIL import Image, ImageOps
from transformers import CLIPTextModel, CLIPTokenizer

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def flags():
    p = argparse.ArgumentParser()
    for name in ("pretrained_model_name_or_path", "instance_data_dir", "instance_prompt"):
        p.add_argument("--" + name, required=True)
    for name in ("class_data_dir", "class_prompt", "output_dir", "log"):
        p.add_argument("--" + name)
    for name in ("center_crop", "scale_lr", "use_8bit_adam", "train_text_encoder", "offset_noise",
                 "with_prior_preservation", "set_grads_to_none"):
        p.add_argument("--" + name, action="store_true")
    for name, default in (("resolution", 512), ("train_batch_size", 4), ("gradient_accumulation_steps", 1),
                          ("max_train_steps", None), ("num_train_epochs", 1), ("num_class_images", 100),
                          ("lr_warmup_steps", 500), ("lr_num_cycles", 1), ("seed", None), ("threads", None), ("rank", None)):
        p.add_argument("--" + name, type=int, default=default)
    for name, default in (("learning_rate", 5e-6), ("lr_power", 1.0), ("adam_beta1", 0.9), ("adam_beta2", 0.999),
                          ("adam_weight_decay", 1e-2), ("adam_epsilon", 1e-8), ("max_grad_norm", 1.0),
                          ("snr_gamma", None), ("prior_loss_weight", 1.0), ("lora_alpha", None)):
        p.add_argument("--" + name, type=float, default=default)
    p.add_argument("--lr_scheduler", default="constant")
    p.add_argument("--mixed_precision", default="no")
    return p


def settings(**given):
    """The flags with their defaults, for callers in Python."""
    p = flags()
    values = {action.dest: action.default for action in p._actions if action.dest != "help"}
    unknown = set(given) - set(values)
    if unknown:
        raise ValueError(f"no such flag: {', '.join(sorted(unknown))}")
    return argparse.Namespace(**(values | given))


class Pictures(torch.utils.data.Dataset):
    """Example i: instance i modulo the instances and class picture i modulo the class pictures, cropped. Loading an
    example draws its random crops, the instance's before the class picture's, as torchvision's RandomCrop draws."""

    def __init__(self, a):
        self.size, self.center = a.resolution, a.center_crop
        self.instances = self.files(a.instance_data_dir)
        self.classes = self.files(a.class_data_dir)[:a.num_class_images] if a.with_prior_preservation else []

    @staticmethod
    def files(folder):
        found = sorted(p for p in pathlib.Path(folder).iterdir() if p.suffix.lower() in PICTURES)
        if not found:
            sys.exit(f"train_reference: no pictures in {folder}")
        return found

    def __len__(self):
        return max(len(self.instances), len(self.classes))

    def __getitem__(self, i):
        out = {"instance": self.load(self.instances, i)}
        if self.classes:
            out["class"] = self.load(self.classes, i)
        return out

    def load(self, files, i):
        """(pixels [3,S,S] in -1..1, index, top, left)"""
        i, size = i % len(files), self.size
        with Image.open(files[i]) as picture:
            picture = ImageOps.exif_transpose(picture).convert("RGB")
        width, height = picture.size
        short, long = min(width, height), int(size * max(width, height) / min(width, height))
        if short != size:
            picture = picture.resize((size, long) if width <= height else (long, size), Image.Resampling.BILINEAR)
            width, height = picture.size
        if self.center:
            top, left = round((height - size) / 2), round((width - size) / 2)
        elif width == size and height == size:
            top, left = 0, 0
        else:
            top = torch.randint(0, height - size + 1, (1,)).item()
            left = torch.randint(0, width - size + 1, (1,)).item()
        picture = picture.crop((left, top, left + size, top + size))
        values = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(size, size, 3)
        return (values.permute(2, 0, 1).contiguous().float() / 255 - 0.5) / 0.5, i, top, left


def together(examples):
    """A batch: all instances, then all class pictures; "where" [N,3] holds index, top and left of each."""
    rows = [e["instance"] for e in examples] + [e["class"] for e in examples if "class" in e]
    return {"pixels": torch.stack([r[0] for r in rows]), "where": torch.tensor([r[1:] for r in rows])}


def tokens(tokenizer, prompt):
    return tokenizer(prompt, truncation=True, padding="max_length", max_length=tokenizer.model_max_length,
                     return_tensors="pt").input_ids


def snr_weights(scheduler, timesteps, gamma):
    snr = compute_snr(scheduler, timesteps)
    velocity = scheduler.config.prediction_type == "v_prediction"
    return torch.clamp(snr, max=gamma) / (snr + 1 if velocity else snr)


def losses(a, scheduler, prediction, target, timesteps):
    """(total, instance part, prior part or None)"""
    prior = None
    if a.with_prior_preservation:
        prediction, prior_prediction = prediction.chunk(2)
        target, prior_target = target.chunk(2)
        prior = F.mse_loss(prior_prediction, prior_target)
    if a.snr_gamma is None:
        instance = F.mse_loss(prediction, target)
    else:
        each = F.mse_loss(prediction, target, reduction="none").mean(dim=(1, 2, 3))
        instance = (each * snr_weights(scheduler, timesteps[:len(each)], a.snr_gamma)).mean()
    return instance if prior is None else instance + a.prior_loss_weight * prior, instance, prior


def draw(a, vae, scheduler, pixels):
    """The step's random numbers in the script's order: posterior, noise, offset, timesteps. Returns the noised
    latents, what the network is to say, and the timesteps.

    randn_like depends on the latents' strides. The VAE's attention leaves its output channels-last, which the layers
    behind it keep in a batch of two or more (not in a batch of one): the noise then comes one value after the other
    in the order [N,H,W,C], by torch's path for small and strided tensors (doubles), not in blocks of 16."""
    with torch.no_grad():
        latents = vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor
        noise = torch.randn_like(latents)
        if a.offset_noise:
            noise = noise + 0.1 * torch.randn(latents.shape[0], latents.shape[1], 1, 1)
        timesteps = torch.randint(0, scheduler.config.num_train_timesteps, (latents.shape[0],))
        noised = scheduler.add_noise(latents, noise, timesteps)
        if scheduler.config.prediction_type == "v_prediction":
            return noised, scheduler.get_velocity(latents, noise, timesteps), timesteps
        return noised, noise, timesteps


def make_optimizer(a, parameters, rate):
    if a.use_8bit_adam:
        import bitsandbytes
        kind = bitsandbytes.optim.AdamW8bit
    else:
        kind = torch.optim.AdamW
    return kind(parameters, lr=rate, betas=(a.adam_beta1, a.adam_beta2), weight_decay=a.adam_weight_decay,
                eps=a.adam_epsilon)


def add_lora(a, unet, text):
    """What train_dreambooth_lora.py adds, in its order; the trained parameters."""
    from peft import LoraConfig, inject_adapter_in_model
    unet.requires_grad_(False)
    text.requires_grad_(False)
    same = dict(r=a.rank, lora_alpha=a.lora_alpha or a.rank, lora_dropout=0.0, init_lora_weights="gaussian")
    unet.add_adapter(LoraConfig(**same, target_modules=["to_k", "to_q", "to_v", "to_out.0", "add_k_proj", "add_v_proj"]))
    if a.train_text_encoder:
        # what transformers' add_adapter does, whatever it asks of PEFT's version
        inject_adapter_in_model(LoraConfig(**same, target_modules=["q_proj", "k_proj", "v_proj", "out_proj"]), text)
    return [p for network in (unet, text) for p in network.parameters() if p.requires_grad]


def save_lora(a, unet, text):
    from diffusers.training_utils import _collate_lora_metadata
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict
    trained = {"unet": unet} | ({"text_encoder": text} if a.train_text_encoder else {})
    layers = {f"{name}_lora_layers": convert_state_dict_to_diffusers(get_peft_model_state_dict(network))
              for name, network in trained.items()}
    StableDiffusionPipeline.save_lora_weights(a.output_dir, **layers, **_collate_lora_metadata(trained))


def note(log, a, where, timesteps, total, instance, prior):
    """One micro-step's line of the record."""
    half = len(where) // 2 if a.with_prior_preservation else len(where)
    log["loss"].append(total.item())
    log["instance"].append(instance.item())
    log["pictures"].append(where[:half, 0].tolist())
    if prior is not None:
        log["prior"].append(prior.item())
        log["classes"].append(where[half:, 0].tolist())
    log["crops"].append(where[:, 1:].tolist())
    log["timesteps"].append(timesteps.tolist())


def train(a):
    """Runs the settings and returns the record."""
    if a.with_prior_preservation and not (a.class_data_dir and a.class_prompt):
        sys.exit("train_reference: --with_prior_preservation needs --class_data_dir and --class_prompt")
    if a.threads:
        torch.set_num_threads(a.threads)
    folder = a.pretrained_model_name_or_path
    accelerator = Accelerator(gradient_accumulation_steps=a.gradient_accumulation_steps, mixed_precision=a.mixed_precision, cpu=True)
    if a.seed is not None:
        set_seed(a.seed)
    tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")
    scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    text = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", torch_dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=torch.float32)
    vae.requires_grad_(False)
    text.requires_grad_(a.train_text_encoder)
    trained = [unet, text] if a.train_text_encoder else [unet]
    parameters = add_lora(a, unet, text) if a.rank else [p for network in trained for p in network.parameters()]
    before = [p.detach().clone() for p in parameters]

    rate = a.learning_rate * (a.gradient_accumulation_steps * a.train_batch_size if a.scale_lr else 1)
    optimizer = make_optimizer(a, parameters, rate)
    loader = torch.utils.data.DataLoader(Pictures(a), batch_size=a.train_batch_size, shuffle=True,
                                         collate_fn=together)
    updates = a.max_train_steps or a.num_train_epochs * math.ceil(len(loader) / a.gradient_accumulation_steps)
    schedule = get_scheduler(a.lr_scheduler, optimizer=optimizer, num_warmup_steps=a.lr_warmup_steps,
                             num_training_steps=updates, num_cycles=a.lr_num_cycles, power=a.lr_power)
    *trained, optimizer, loader, schedule = accelerator.prepare(*trained, optimizer, loader, schedule)
    unet = trained[0]
    if a.train_text_encoder:
        text = trained[1]
    prompts = [tokens(tokenizer, a.instance_prompt)]
    if a.with_prior_preservation:
        prompts.append(tokens(tokenizer, a.class_prompt))

    log = {name: [] for name in ("loss", "instance", "prior", "pictures", "classes", "crops", "timesteps", "lr",
                                 "norm", "synced")}
    while len(log["lr"]) < updates:
        for network in trained:
            network.train()
        for batch in loader:
            with accelerator.accumulate(unet):
                noised, target, timesteps = draw(a, vae, scheduler, batch["pixels"])
                ids = torch.cat([p.repeat(len(noised) // len(prompts), 1) for p in prompts])
                prediction = unet(noised, timesteps, text(ids)[0]).sample
                total, instance, prior = losses(a, scheduler, prediction, target, timesteps)
                accelerator.backward(total)
                if accelerator.sync_gradients:
                    log["norm"].append(accelerator.clip_grad_norm_(parameters, a.max_grad_norm).item())
                    log["lr"].append(schedule.get_last_lr()[0])
                    log["synced"].append(len(log["loss"]) + 1)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=a.set_grads_to_none)
            note(log, a, batch["where"], timesteps, total, instance, prior)
            if len(log["lr"]) >= updates:
                break
    moved = sum((p.detach().double() - b.double()).square().sum().item() for p, b in zip(parameters, before))
    log["moved"] = math.sqrt(moved)
    if a.output_dir and a.rank:
        save_lora(a, accelerator.unwrap_model(unet), accelerator.unwrap_model(text))
    elif a.output_dir:
        StableDiffusionPipeline.from_pretrained(
            folder, unet=accelerator.unwrap_model(unet), text_encoder=accelerator.unwrap_model(text), vae=vae,
            safety_checker=None, requires_safety_checker=False).save_pretrained(a.output_dir)
    return log


def short(value):
    """Numbers with the 9 digits that a float32 needs."""
    if isinstance(value, dict):
        return {k: short(v) for k, v in value.items() if v != []}
    if isinstance(value, list):
        return [short(v) for v in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def main():
    a = flags().parse_args()
    log = short(train(a))
    if a.log:
        os.makedirs(os.path.dirname(a.log) or ".", exist_ok=True)
        with open(a.log, "w", encoding="utf-8") as f:
            json.dump(log, f)
            f.write("\n")
    else:
        print(json.dumps(log))


if __name__ == "__main__":
    main()
