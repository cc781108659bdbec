# SPDX-License-Identifier: Apache-2.0
"""Measures the peer's training step: diffusers on the CPU, the UNet of Stable Diffusion 1.5, batch 1.

python tools/bench/bench_train_diffusers.py MODEL [--threads 2] [--warmup 1] [--repeats 2] [--size 512]
    [--types float32,bfloat16] [--optimizers adamw8bit,adamw,lora] [--checkpointing no,yes] [--layouts default,channels_last]
    [-o OUT.json]

A row is a process of its own, so that its peak memory is its own. Its step is train_dreambooth.py's with latents and
text embedding at hand (random here): forward and loss, backward, then what ends the step, as "optimizer_s": clipping,
AdamW8bit (bitsandbytes) or AdamW (torch), zeroing the gradients. Weights stay float32; bfloat16 is autocast. Seconds
are medians over the repeats, after the warm-up. "lora" is train_dreambooth_lora.py's: PEFT's LoRA of rank 4 on the
attentions, torch's AdamW. A float32 row with AdamW8bit peaks at 11.9 GB;
torch's AdamW keeps 5 GB more of state.
Writes JSON: {"cpu": .., "threads": .., "rows": [{"row", "type", "layout", "optimizer", "checkpointing", "forward_s",
"backward_s", "optimizer_s", "seconds", "peak_mb"}]}.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from bench_diffusers import cpu_widths


def make_optimizer(kind, parameters):
    if kind == "adamw8bit":
        from bitsandbytes.optim import AdamW8bit as AdamW
    else:
        from torch.optim import AdamW
    return AdamW(parameters, lr=5e-6, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)


def measure(a):
    """One row, in this process."""
    import resource

    import torch
    from diffusers import UNet2DConditionModel
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    small = a.size // 8
    net = UNet2DConditionModel.from_pretrained(a.model, subfolder="unet", torch_dtype=torch.float32).train()
    if a.checkpointing == "yes":
        net.enable_gradient_checkpointing()
    noised, noise = torch.randn(1, 4, small, small), torch.randn(1, 4, small, small)
    if a.layouts == "channels_last":
        net.to(memory_format=torch.channels_last)
        noised = noised.contiguous(memory_format=torch.channels_last)
    context, t = torch.randn(1, 77, net.config.cross_attention_dim), torch.tensor([500])
    if a.optimizers == "lora":
        from peft import LoraConfig
        net.requires_grad_(False)
        net.add_adapter(LoraConfig(r=4, lora_alpha=4, init_lora_weights="gaussian",
                                   target_modules=["to_k", "to_q", "to_v", "to_out.0"]))
    parameters = [p for p in net.parameters() if p.requires_grad]
    optimizer = make_optimizer(a.optimizers, parameters)
    steps = []
    for _ in range(a.warmup + a.repeats):
        times = [time.perf_counter()]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.types == "bfloat16"):
            prediction = net(noised, t, context).sample
        loss = torch.nn.functional.mse_loss(prediction.float(), noise)
        times.append(time.perf_counter())
        loss.backward()
        times.append(time.perf_counter())
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        times.append(time.perf_counter())
        steps.append([after - before for before, after in zip(times, times[1:])] + [times[-1] - times[0]])
        print(" ".join(f"{s:.2f}" for s in steps[-1]), f"loss {loss.item():.4f}", file=sys.stderr, flush=True)
    if not torch.isfinite(loss):
        sys.exit("bench_train_diffusers: the loss is not finite")
    names = ("forward_s", "backward_s", "optimizer_s", "seconds")
    middle = {name: statistics.median(column) for name, column in zip(names, zip(*steps[a.warmup:]))}
    print(json.dumps({"row": "train", "type": a.types, "layout": a.layouts, "optimizer": a.optimizers,
                      "checkpointing": a.checkpointing} | middle |
                     {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def run_row(a, dtype, layout, optimizer, checkpointing):
    command = [sys.executable, os.path.abspath(__file__), a.model, "--one", "--types", dtype, "--layouts", layout,
               "--optimizers", optimizer, "--checkpointing", checkpointing]
    for name in ("threads", "warmup", "repeats", "size"):
        command += ["--" + name, str(getattr(a, name))]
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        env.pop(name, None)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, check=False)
    if done.returncode != 0:
        sys.exit(f"bench_train_diffusers: {dtype} {layout} {optimizer} {checkpointing} failed ({done.returncode}):\n"
                 f"{done.stderr[-2000:]}")
    r = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"train {dtype:9} {layout:14} {optimizer:10} checkpointing {checkpointing:3} {r['forward_s']:7.2f} "
          f"{r['backward_s']:7.2f} {r['optimizer_s']:7.2f} {r['seconds']:8.2f} s  {r['peak_mb']:7.0f} MB",
          file=sys.stderr, flush=True)
    return r


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--warmup", type=int, default=1)
    p.add_argument("--repeats", type=int, default=2)
    p.add_argument("--size", type=int, default=512)
    p.add_argument("--types", default="float32")
    p.add_argument("--optimizers", default="adamw8bit")
    p.add_argument("--checkpointing", default="no")
    p.add_argument("--layouts", default="default")
    p.add_argument("-o", "--output")
    p.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.one:
        return measure(a)
    rows = [run_row(a, dtype, layout, optimizer, checkpointing)
            for dtype in a.types.split(",") for layout in a.layouts.split(",")
            for optimizer in a.optimizers.split(",") for checkpointing in a.checkpointing.split(",")]
    head = json.dumps({"cpu": cpu_widths(), "threads": a.threads, "size": a.size})[1:-1]
    text = "{" + head + ', "rows": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]}"  # a row a line, for bench.sh
    if a.output:
        with open(a.output, "w", encoding="utf-8") as f:
            f.write(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
