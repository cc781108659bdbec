# SPDX-License-Identifier: Apache-2.0
"""files.py PROGRAM FOLDER: see files.sh. Exit status 1 where a row is above 1 grey level, or a LoRA is not extracted as
well as by torch."""

import pathlib
import subprocess
import sys

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

try:
    import gguf
    from gguf import GGMLQuantizationType as T
except ImportError:
    gguf = None

program, work = sys.argv[1], pathlib.Path(sys.argv[2])
pocket = pathlib.Path(__file__).parent.parent.parent / "models/pocket"
work.mkdir(parents=True, exist_ok=True)
torch.manual_seed(7)
pictures, worst_of_all = 0, 0
PROMPT, STEPS, SWITCH, SCALE = "a photo of a dog", 20, 8, 0.8
failed = False


def ours(*flags):
    out = work / "ours.png"
    subprocess.run([program, "generate", "--overwrite", "-p", PROMPT, "-s", "42", "--steps", str(STEPS), "--sampler",
                    "ddim", "-o", str(out), *map(str, flags)], check=True, capture_output=True)
    return np.asarray(Image.open(out)).astype(int)


def convert(*words):
    subprocess.run([program, "convert", "--overwrite", *map(str, words)], check=True, capture_output=True)


def pipeline(folder):
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, safety_checker=None,
                                                   local_files_only=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def picture(first, second=None):
    """Steps from SWITCH on by the second, each with its own text encoder."""
    pipes = [first] + [second] * (second is not None)
    texts = [torch.cat(p.encode_prompt(PROMPT, "cpu", 1, True)[::-1]) for p in pipes]
    scheduler = first.scheduler
    scheduler.set_timesteps(STEPS)
    size = first.unet.config.sample_size
    x = torch.randn(1, 4, size, size, generator=torch.Generator().manual_seed(42))
    for i, t in enumerate(scheduler.timesteps):
        k = 1 if second is not None and i >= SWITCH else 0
        plain, cond = pipes[k].unet(torch.cat([x, x]), t, texts[k]).sample.chunk(2)
        x = scheduler.step(plain + 7.5 * (cond - plain), t, x).prev_sample
    y = first.vae.decode(x / first.vae.config.scaling_factor).sample
    return np.rint(((y / 2 + 0.5).clamp(0, 1) * 255)[0].permute(1, 2, 0).numpy()).astype(int)


def row(name, a, b):
    global failed, pictures, worst_of_all
    worst = int(np.abs(a - b).max())
    square = float(((a - b) ** 2).mean())
    psnr = 10 * np.log10(255**2 / square) if square else float("inf")
    failed = failed or worst > 1
    pictures, worst_of_all = pictures + 1, max(worst, worst_of_all)
    print(f"{name:28} worst {worst}  {psnr:.1f} dB{'  FAILED' if worst > 1 else ''}", flush=True)


one = work / "one.safetensors"
convert(pocket, one, "--dtype", "f32")
with safe_open(one, "pt") as f:
    told = f.metadata()
tensors = load_file(one)
row("one file", ours("-m", one), picture(pipeline(pocket)))

if not gguf:
    print("GGUF: passed over, there is no package gguf")
for kind in (T.F16, T.Q8_0, T.Q4_0) if gguf else ():
    path = work / f"{kind.name}.gguf"
    writer, flat = gguf.GGUFWriter(path, "sd"), {}
    for key, value in told.items():
        writer.add_string(key, value)
    for key, value in tensors.items():
        its = kind if value.dim() == 2 and value.shape[-1] % 32 == 0 else T.F16 if value.dim() > 1 else T.F32
        data = gguf.quantize(value.numpy(), its)
        flat[key] = torch.from_numpy(gguf.dequantize(data, its).reshape(value.shape).astype(np.float32))
        writer.add_tensor(key, data, raw_dtype=its)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(flat, work / "flat.safetensors", metadata=told)
    convert(work / "flat.safetensors", work / "flat")
    row(f"GGUF {kind.name}", ours("-m", path), picture(pipeline(work / "flat")))

base, fused = pipeline(pocket), pipeline(pocket)
layers = {}
for prefix, network in (("lora_unet_", base.unet), ("lora_te_", base.text_encoder)):
    for name, module in network.named_modules():
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0", "q_proj", "v_proj")):
            w = module.weight
            path, name = name, name if prefix == "lora_unet_" or name.startswith("text_model.") else "text_model." + name
            key = prefix + name.replace(".", "_")
            down, up = torch.randn(4, w.shape[1]) * 0.08, torch.randn(w.shape[0], 4) * 0.08
            network_of = fused.unet if network is base.unet else fused.text_encoder
            network_of.get_submodule(path).weight.data += SCALE * up @ down
            layers |= {key + ".lora_down.weight": down, key + ".lora_up.weight": up, key + ".alpha": torch.tensor(4.0)}
save_file(layers, work / "dog.safetensors")
turns = ours("-m", f"base={pocket}", "--lora", f"dog={work / 'dog.safetensors'}", "--schedule",
             f"base x{SWITCH}, base+{SCALE}*dog rest")
row("LoRA from step 9 on", turns, picture(base, fused))
print(f"{'  (without it)':28} worst {int(np.abs(turns - picture(base)).max())}")

# A difference of full rank, extracted as kohya's script does: torch's singular values, clamped.
trained = work / "trained"
changed = {k: v + 0.01 * torch.randn_like(v) * (v.dim() > 1) for k, v in tensors.items()}
save_file(changed, work / "trained.safetensors", metadata=told)
for quantile in (1.0, 0.99):
    out = work / "extracted.safetensors"
    subprocess.run([program, "convert", "--overwrite", "--extract-lora", str(one), str(work / "trained.safetensors"), "-o",
                    str(out), "--rank", "16", "--clamp-quantile", str(quantile)], check=True, capture_output=True)
    convert(one, work / "from")
    convert(work / "trained.safetensors", work / "to")
    a = load_file(work / "from/unet/diffusion_pytorch_model.safetensors")
    b = load_file(work / "to/unet/diffusion_pytorch_model.safetensors")
    have, left, best = load_file(out), 0.0, 0.0
    for name in a:
        key = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
        if key + ".lora_up.weight" not in have:
            continue
        by = (b[name] - a[name]).flatten(1).double()
        u, s, v = torch.linalg.svd(by, full_matrices=False)
        u, v = (u[:, :16] * s[:16]).float(), v[:16].float()
        high = torch.quantile(torch.cat([u.flatten(), v.flatten()]), quantile) if quantile < 1 else torch.inf
        best += float(((by - u.clamp(-high, high).double() @ v.clamp(-high, high).double())**2).sum())
        up, down = (have[f"{key}.lora_{p}.weight"].flatten(1).double() for p in ("up", "down"))
        left += float(((by - up @ down)**2).sum())
    bad = left > best * 1.01
    failed = failed or bad
    print(f"extracted, quantile {quantile:4}    what is left, to torch's: {left / best:.5f}{'  FAILED' if bad else ''}")
print(f"{pictures} pictures: worst {worst_of_all}")
sys.exit(failed)
