# SPDX-License-Identifier: Apache-2.0
"""Writes tests/fixtures/optimizer.txt: four steps of torch.optim.AdamW (2.15, CPU) on float16 and on
float32 tensors; tests/test_device_optimizer.c repeats them. A line is

    f16|f32 STEP VALUES...    STEP 0: the weights; then for each step the gradients, p, m and v

in hexadecimal bits; gradients are float32 (torch is given them in the tensor's type). Gradients from 3e-9
to 30, some of them zero: in float16 second moments underflow and epsilon is 0, so that weights become
infinite or NaN.
Run with a Python that has torch:  python tools/fixtures_optimizer.py
"""
import pathlib

import torch

OUT = pathlib.Path(__file__).parent.parent / "tests/fixtures/optimizer.txt"
COUNT, STEPS = 150, 4
lines = []


def add(name, step, tensor):
    size = tensor.element_size()
    bits = tensor.detach().view(torch.int16 if size == 2 else torch.int32).tolist()
    lines.append(" ".join([name, str(step)] + [f"{b % 2 ** (8 * size):x}" for b in bits]))


def run(name, dtype):
    torch.manual_seed(5)
    p = torch.nn.Parameter(torch.randn(COUNT).to(dtype))
    optimizer = torch.optim.AdamW([p], lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2)
    scale = 10 ** torch.linspace(-8.5, 1.5, COUNT)
    add(name, 0, p)
    for step in range(1, STEPS + 1):
        g = torch.randn(COUNT) * scale
        g[step::29] = 0
        p.grad = g.to(dtype)
        optimizer.step()
        state = optimizer.state[p]
        for tensor in (g, p, state["exp_avg"], state["exp_avg_sq"]):
            add(name, step, tensor)


run("f16", torch.float16)
run("f32", torch.float32)
OUT.write_text("\n".join(lines) + "\n")
