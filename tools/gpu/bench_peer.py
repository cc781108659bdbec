# SPDX-License-Identifier: Apache-2.0
"""Measures the peer on a GPU: diffusers at Stable Diffusion 1.5's size, 512x512, random weights, channels_last.

python tools/gpu/bench_peer.py [--rows unet,vae,train,train4] [--compile] [--repeats 10]

Rows, one line of JSON each: unet, one evaluation at batch 2 (a guided step) in bfloat16; unet_f16; vae, one decode in
bfloat16; train, a DreamBooth step of the UNet (float32 weights, bfloat16 autocast, torch's AdamW, clipping) at batch 1, train4
at batch 4. Eager, cuDNN's autotuning on; --compile adds the UNet under torch.compile (minutes). Medians by CUDA events; memory
is the allocator's peak.
"""
import argparse
import json
import os
import statistics
import sys
import time

import torch

SD15 = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench", "sd15")


def config(part):
    with open(os.path.join(SD15, part, "config.json"), encoding="utf-8") as f:
        return {key: value for key, value in json.load(f).items() if not key.startswith("_")}


def median_ms(run, repeats, warm):
    times = []
    for i in range(warm + repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        if i >= warm:
            times.append(start.elapsed_time(end))
    return statistics.median(times)


def noise(*shape, dtype):
    x = torch.randn(*shape, device="cuda", dtype=dtype)
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x


def unet(dtype):
    from diffusers import UNet2DConditionModel
    with torch.device("cuda"):
        net = UNet2DConditionModel(**config("unet"))
    return net.to(dtype=dtype, memory_format=torch.channels_last)


def evaluation(dtype, compiled):
    net = unet(dtype).eval()
    if compiled:
        net = torch.compile(net, mode="reduce-overhead")  # with CUDA graphs
    x, text, t = noise(2, 4, 64, 64, dtype=dtype), noise(2, 77, 768, dtype=dtype), torch.tensor(500, device="cuda")

    def run():
        with torch.no_grad():
            net(x, t, encoder_hidden_states=text, return_dict=False)
    return run


def decode():
    from diffusers import AutoencoderKL
    with torch.device("cuda"):
        net = AutoencoderKL(**config("vae"))
    net = net.to(dtype=torch.bfloat16, memory_format=torch.channels_last).eval()
    x = noise(1, 4, 64, 64, dtype=torch.bfloat16)

    def run():
        with torch.no_grad():
            net.decode(x, return_dict=False)
    return run


def training(batch):
    net = unet(torch.float32).train()
    parameters = list(net.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=5e-6, weight_decay=1e-2)
    x, target = (noise(batch, 4, 64, 64, dtype=torch.float32) for _ in range(2))
    text, t = noise(batch, 77, 768, dtype=torch.float32), torch.full((batch,), 500, device="cuda")

    def run():
        with torch.autocast("cuda", dtype=torch.bfloat16):
            prediction = net(x, t, text, return_dict=False)[0]
        torch.nn.functional.mse_loss(prediction.float(), target).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return run


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rows", default="unet,vae,train,train4")
    p.add_argument("--compile", action="store_true")
    p.add_argument("--repeats", type=int, default=10)
    a = p.parse_args()
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    makers = {"unet": lambda: evaluation(torch.bfloat16, False), "unet_f16": lambda: evaluation(torch.float16, False),
              "vae": decode, "train": lambda: training(1), "train4": lambda: training(4),
              "unet_compiled": lambda: evaluation(torch.bfloat16, True)}
    for row in a.rows.split(",") + ["unet_compiled"] * a.compile:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        run = makers[row]()
        ms = median_ms(run, a.repeats, 3)
        print(json.dumps({"row": row, "ms": round(ms, 3), "peak_mb": round(torch.cuda.max_memory_allocated() / 1e6),
                          "start_s": round(time.perf_counter() - start, 1), "card": torch.cuda.get_device_name()}), flush=True)
        del run


if __name__ == "__main__":
    main()
