# SPDX-License-Identifier: Apache-2.0
"""lora.py PROGRAM FOLDER: LoRAs for the pocket model in every spelling, merged by diffusers (load_lora_weights,
fuse_lora) or by LyCORIS' formulas, and by `PROGRAM convert pocket OUT --lora`; the worst relative difference of a
changed weight, by spelling. Exit status 1 where one is above 1e-6."""

import json
import pathlib
import subprocess
import sys

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

program, work = sys.argv[1], pathlib.Path(sys.argv[2])
pocket = pathlib.Path(__file__).parent.parent.parent / "models/pocket"
work.mkdir(parents=True, exist_ok=True)
torch.manual_seed(7)


def pipeline():
    return StableDiffusionPipeline.from_pretrained(pocket, torch_dtype=torch.float32, local_files_only=True)


base = pipeline()
unet, text = base.unet.state_dict(), base.text_encoder.state_dict()
text = {k if k.startswith("text_model.") else "text_model." + k: v for k, v in text.items()}
ATTENTION = [k[:-7] for k in unet if any(k.endswith(f"{a}.{p}.weight") for a in ("attn1", "attn2")
                                         for p in ("to_q", "to_k", "to_v", "to_out.0"))]
LAYERS = ATTENTION + [k[:-7] for k in unet if k.endswith("ff.net.0.proj.weight")]
CONVOLUTIONS = [k[:-7] for k in unet if k.endswith("conv1.weight") or k.endswith("proj_in.weight")]
TEXT = [k[:-7] for k in text if k.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight", "out_proj.weight"))]


def pair(weight, rank=4):
    """down, up"""
    down = torch.randn(rank, *weight.shape[1:]) * 0.05
    up = torch.randn(weight.shape[0], rank, *[1] * (weight.dim() - 2)) * 0.05
    return down, up


def change(weight, down, up):
    return (up.double().flatten(1) @ down.double().flatten(1)).reshape(weight.shape)


def flat(name):
    return name.replace(".", "_")


def kohya():
    out, want = {}, {}
    for prefix, names, have in (("lora_unet_", LAYERS + CONVOLUTIONS, unet), ("lora_te_", TEXT, text)):
        for name in names:
            weight = have[name + ".weight"]
            down, up = pair(weight)
            key = prefix + flat(name)
            out |= {key + ".lora_down.weight": down, key + ".lora_up.weight": up, key + ".alpha": torch.tensor(2.0)}
            want[name + ".weight"] = change(weight, down, up) * 2 / 4
    return out, want, None


def diffusers_old():
    out, want = {}, {}
    for name in ATTENTION:
        down, up = pair(unet[name + ".weight"])
        block, role = name.rsplit(".attn", 1)
        role = f".attn{role[0]}.processor.{role[2:].replace('to_out.0', 'to_out')}_lora"
        out |= {f"unet.{block}{role}.down.weight": down, f"unet.{block}{role}.up.weight": up}
        want[name + ".weight"] = change(unet[name + ".weight"], down, up)
    return out, want, None


def diffusers_new(middle=("lora.down", "lora.up"), metadata=None, factor=1.0):
    out, want = {}, {}
    for prefix, names, have in (("unet.", LAYERS, unet), ("text_encoder.", TEXT, text)):
        for name in names:
            down, up = pair(have[name + ".weight"])
            ends = middle
            if have is text and middle[0] == "lora.down":
                ends = ("lora_linear_layer.down", "lora_linear_layer.up")
            out |= {f"{prefix}{name}.{ends[0]}.weight": down, f"{prefix}{name}.{ends[1]}.weight": up}
            want[name + ".weight"] = change(have[name + ".weight"], down, up) * factor
    return out, want, metadata


def peft():
    return diffusers_new(("lora_A", "lora_B"))


def peft_alpha():
    """diffusers' save_lora_weights with its adapters' settings."""
    settings = {}
    for part, names in (("unet", LAYERS), ("text_encoder", TEXT)):
        settings |= {f"{part}.r": 4, f"{part}.lora_alpha": 10, f"{part}.target_modules": names,
                     f"{part}.peft_type": "LORA", f"{part}.use_rslora": False, f"{part}.alpha_pattern": {},
                     f"{part}.rank_pattern": {}}
    out, want, _ = diffusers_new(("lora_A", "lora_B"), None, 10 / 4)
    if not any(k.startswith("text_model.") for k in base.text_encoder.state_dict()):  # transformers 5
        out = {k.replace("text_encoder.text_model.", "text_encoder."): v for k, v in out.items()}
        settings["text_encoder.target_modules"] = [n.removeprefix("text_model.") for n in TEXT]
    return out, want, {"lora_adapter_metadata": json.dumps(settings)}


def locon_mid():
    out, want = {}, {}
    for name in [n for n in CONVOLUTIONS if n.endswith("conv1")]:
        weight = unet[name + ".weight"]
        o, i, h, w = weight.shape
        up, mid, down = torch.randn(o, 3, 1, 1) * 0.1, torch.randn(3, 3, h, w) * 0.1, torch.randn(3, i, 1, 1) * 0.1
        key = "lora_unet_" + flat(name)
        out |= {key + ".lora_up.weight": up, key + ".lora_mid.weight": mid, key + ".lora_down.weight": down,
                key + ".alpha": torch.tensor(1.0)}
        want[name + ".weight"] = torch.einsum("om,mnhw,ni->oihw", up[..., 0, 0].double(), mid.double(),
                                              down[..., 0, 0].double()) / 3
    return out, want, None


def loha():
    out, want = {}, {}
    for k, name in enumerate(LAYERS + CONVOLUTIONS):
        weight = unet[name + ".weight"]
        o, i = weight.shape[:2]
        key = "lora_unet_" + flat(name)
        made = []
        for n in (1, 2):
            if weight.dim() == 4 and weight.shape[2] == 3 and k % 2:
                t, a, b = torch.randn(3, 3, 3, 3) * 0.3, torch.randn(3, o) * 0.3, torch.randn(3, i) * 0.3
                out[f"{key}.hada_t{n}"] = t
                made.append(torch.einsum("ijkl,jr,ip->prkl", t.double(), b.double(), a.double()))
            else:
                a, b = torch.randn(o, 3) * 0.3, torch.randn(3, weight[0].numel()) * 0.3
                made.append((a.double() @ b.double()).reshape(weight.shape))
            out |= {f"{key}.hada_w{n}_a": a, f"{key}.hada_w{n}_b": b}
        out[key + ".alpha"] = torch.tensor(1.5)
        want[name + ".weight"] = made[0] * made[1] * 1.5 / 3
    return out, want, None


def lokr():
    out, want = {}, {}
    for k, name in enumerate(LAYERS + CONVOLUTIONS):
        weight = unet[name + ".weight"]
        o, i = weight.shape[:2]
        key, f, scale = "lora_unet_" + flat(name), 4, 1.0
        one = torch.randn(f, f) * 0.3
        if k % 3 == 0:  # both whole: alpha does not count
            two = torch.randn(o // f, i // f, *weight.shape[2:]) * 0.1
            out |= {key + ".lokr_w1": one, key + ".lokr_w2": two}
        else:
            scale = 1.5 / 2
            a, b = torch.randn(o // f, 2) * 0.3, torch.randn(2, weight[0].numel() // f) * 0.3
            two = (a.double() @ b.double()).reshape(o // f, i // f, *weight.shape[2:])
            out |= {key + ".lokr_w1": one, key + ".lokr_w2_a": a, key + ".lokr_w2_b": b}
            if weight.dim() == 4 and weight.shape[2] == 3 and k % 3 == 1:
                t, a, b = torch.randn(2, 2, 3, 3) * 0.3, torch.randn(2, o // f) * 0.3, torch.randn(2, i // f) * 0.3
                two = torch.einsum("ijkl,ip,jr->prkl", t.double(), a.double(), b.double())
                out |= {key + ".lokr_t2": t, key + ".lokr_w2_a": a, key + ".lokr_w2_b": b}
        out[key + ".alpha"] = torch.tensor(1.5)
        full = torch.kron(one.double().reshape(f, f, *[1] * (weight.dim() - 2)), two.double().contiguous())
        want[name + ".weight"] = full * scale
    return out, want, None


def dora(spelling):
    """Lengths beside directions (DoRA): PEFT's, of outputs; LyCORIS', of inputs in the older files."""
    out, want = {}, {}
    for name in LAYERS + CONVOLUTIONS:
        weight = unet[name + ".weight"]
        down, up = pair(weight)
        merged = weight.double() + change(weight, down, up) * (1 if spelling == "peft" else 2 / 4)
        axes = [d for d in range(weight.dim()) if d != (0 if spelling == "peft" else 1)]
        norm = merged.pow(2).sum(axes, keepdim=True).sqrt()
        length = (norm * (1 + 0.3 * torch.rand(norm.shape))).float()
        want[name + ".weight"] = length.double() / norm * merged - weight.double()
        if spelling == "peft":
            length = length.transpose(0, 1) if weight.dim() == 4 else length[:, 0]
            out |= {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up,
                    f"unet.{name}.lora_magnitude_vector": length}
        else:
            key = "lora_unet_" + flat(name)
            out |= {key + ".lora_down.weight": down, key + ".lora_up.weight": up, key + ".alpha": torch.tensor(2.0),
                    key + ".dora_scale": length}
    return out, want, None


def dora_peft():
    return dora("peft")


def dora_lycoris():
    return dora("lycoris")


def worst(have, want):
    return max(float((have[k].double() - want[k].double()).abs().max() / want[k].double().abs().max()) for k in want)


found = []
failed = False
for make, by_diffusers in ((kohya, True), (diffusers_old, True), (diffusers_new, True), (peft, True),
                           (peft_alpha, True), (locon_mid, False), (loha, False), (lokr, False), (dora_peft, True),
                           (dora_lycoris, False)):
    SCALE = 1.0 if make is dora_peft else 0.8  # PEFT's is of the change alone, another thing than A1111's and ours
    tensors, changes, metadata = make()
    path = work / f"{make.__name__}.safetensors"
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=metadata)
    out = work / make.__name__
    subprocess.run([program, "convert", str(pocket), str(out), "--lora", f"{path}:{SCALE}", "--dtype", "f32",
                    "--overwrite"], check=True, stdout=subprocess.DEVNULL)
    ours = load_file(out / "unet/diffusion_pytorch_model.safetensors") | load_file(out / "text_encoder/model.safetensors")
    want = {k: v.double() for k, v in (unet | text).items() if k in ours}
    for k, v in changes.items():
        want[k] = want[k] + SCALE * v
    line = f"{make.__name__:14} formulas {worst(ours, want):.1e}"
    bad = worst(ours, want) > 1e-6
    if by_diffusers:
        pipe = pipeline()
        pipe.load_lora_weights(work, weight_name=path.name)
        pipe.fuse_lora(lora_scale=SCALE)
        pipe.unload_lora_weights()
        theirs = pipe.unet.state_dict()
        theirs |= {k if k.startswith("text_model.") else "text_model." + k: v
                   for k, v in pipe.text_encoder.state_dict().items()}
        theirs = {k: v for k, v in theirs.items() if k in ours}
        line += f"  diffusers {worst(ours, theirs):.1e} ({len(theirs)} weights, {len(changes)} changed)"
        bad = bad or worst(ours, theirs) > 1e-6
    print(line + ("  FAILED" if bad else ""), flush=True)
    failed = failed or bad
    found.append(max(worst(ours, want), worst(ours, theirs) if by_diffusers else 0))
print(f"{len(found)} spellings: worst relative difference of a changed weight {max(found):.1e}")
sys.exit(failed)
