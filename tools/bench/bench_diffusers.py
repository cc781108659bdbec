# SPDX-License-Identifier: Apache-2.0
"""Measures the peer: diffusers on the CPU, Stable Diffusion 1.5 sizes.

python tools/bench/bench_diffusers.py MODEL [--threads 2] [--repeats 3] [--size 512] [--rows unet,vae,text]
                                [--types float32,bfloat16] [--layouts default,channels_last] [-o OUT.json]

Rows: one UNet evaluation at batch 2 (one guided step), one VAE decode, one text encoding of two prompts. Each row is
measured in a process of its own, so that its peak memory is its own: one run to warm up, then the median of the repeats.
Writes JSON: {"cpu": .., "threads": .., "rows": [{"row", "type", "layout", "seconds", "peak_mb"}]}.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time


def measure(a):
    """One row, in this process."""
    import resource

    import torch
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    dtype = getattr(torch, a.types)
    small = a.size // 8
    if a.rows == "unet":
        from diffusers import UNet2DConditionModel
        net = UNet2DConditionModel.from_pretrained(a.model, subfolder="unet", torch_dtype=dtype)
        context = torch.randn(2, 77, net.config.cross_attention_dim).to(dtype)
        x, t = torch.randn(2, 4, small, small).to(dtype), torch.tensor(500)

        def run(x):
            return net(x, t, encoder_hidden_states=context, return_dict=False)[0]
    elif a.rows == "vae":
        from diffusers import AutoencoderKL
        net = AutoencoderKL.from_pretrained(a.model, subfolder="vae", torch_dtype=dtype)
        x = torch.randn(1, 4, small, small).to(dtype)

        def run(x):
            return net.decode(x, return_dict=False)[0]
    else:
        from transformers import CLIPTextModel
        net = CLIPTextModel.from_pretrained(a.model, subfolder="text_encoder", dtype=dtype)
        x = torch.randint(0, net.config.vocab_size, (2, net.config.max_position_embeddings))

        def run(x):
            return net(x)[0]
    net.eval()
    if a.layouts == "channels_last":
        net.to(memory_format=torch.channels_last)
        if x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
    seconds = []
    with torch.no_grad():
        for i in range(a.repeats + 1):
            start = time.perf_counter()
            out = run(x)
            if i > 0 or a.repeats == 0:
                seconds.append(time.perf_counter() - start)
    if not torch.isfinite(out).all():
        sys.exit("bench_diffusers: the output is not finite")
    print(json.dumps({"row": a.rows, "type": a.types, "layout": a.layouts, "seconds": statistics.median(seconds),
                      "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def cpu_widths():
    """What decides the bars: the model, and the vector widths the processor has."""
    text = open("/proc/cpuinfo", encoding="utf-8").read()
    flags = text.split("flags", 1)[1].split("\n", 1)[0].split()
    name = text.split("model name", 1)[1].split(":", 1)[1].split("\n", 1)[0].strip()
    widths = [w for w in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if w in flags]
    return f"{name} ({' '.join(widths)})"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--repeats", type=int, default=3, help="0: the first run counts")
    p.add_argument("--size", type=int, default=512)
    p.add_argument("--rows", default="unet,vae,text")
    p.add_argument("--types", default="float32,bfloat16")
    p.add_argument("--layouts", default="default,channels_last")
    p.add_argument("-o", "--output")
    p.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.one:
        return measure(a)
    rows = []
    for row in a.rows.split(","):
        for dtype in a.types.split(","):
            for layout in a.layouts.split(","):
                if row == "text" and layout != "default":
                    continue  # the text encoder has no feature maps
                command = [sys.executable, os.path.abspath(__file__), a.model, "--one", "--rows", row, "--types", dtype,
                           "--layouts", layout, "--threads", str(a.threads), "--repeats", str(a.repeats),
                           "--size", str(a.size)]
                env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
                for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
                    env.pop(name, None)
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
                                      check=False)
                if done.returncode != 0:
                    sys.exit(f"bench_diffusers: {row} {dtype} {layout} failed:\n{done.stderr[-2000:]}")
                rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
                r = rows[-1]
                print(f"{row:5} {dtype:9} {layout:14} {r['seconds']:8.3f} s  {r['peak_mb']:7.0f} MB", file=sys.stderr,
                      flush=True)
    head = json.dumps({"cpu": cpu_widths(), "threads": a.threads, "size": a.size})[1:-1]
    text = "{" + head + ', "rows": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]}"  # a row a line, for bench.sh
    if a.output:
        with open(a.output, "w", encoding="utf-8") as f:
            f.write(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
