# SPDX-License-Identifier: Apache-2.0
"""Writes tests/fixtures/train/rates.json: the learning rate of every step of short runs with each of
diffusers' schedules, as an optimizer sees it; tests/test_train_rate.c repeats them.

Run with a Python that has torch and diffusers 0.42:  python tools/fixtures_train_rates.py
"""
import json
import pathlib
import warnings

import torch
from diffusers.optimization import get_scheduler

warnings.filterwarnings("ignore")

STEPS = 100
LINGERING = 5  # steps past the end: the schedules differ in what they do there


def runs():
    """(schedule, warm-up, cycles, power, base rate)"""
    for name in ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts",
                 "polynomial"):
        yield name, 0, 1, 1.0, 5e-6
        yield name, 7, 1, 1.0, 2e-3
    yield "linear", 100, 1, 1.0, 1.0
    yield "linear", 150, 1, 1.0, 1.0
    yield "cosine", 50, 1, 1.0, 1.0
    yield "cosine_with_restarts", 0, 3, 1.0, 1e-4
    yield "cosine_with_restarts", 13, 3, 1.0, 1e-4
    yield "polynomial", 0, 1, 2.0, 1e-4
    yield "polynomial", 13, 1, 2.0, 5e-6
    yield "polynomial", 13, 1, 0.5, 1e-5


def rates(name, warmup, cycles, power, base):
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=base)
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=STEPS,
                              num_cycles=cycles, power=power)
    out = []
    for _ in range(STEPS + LINGERING):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return out


def main():
    out = pathlib.Path(__file__).parent.parent / "tests" / "fixtures" / "train" / "rates.json"
    out.parent.mkdir(exist_ok=True)
    rows = [json.dumps(dict(schedule=run[0], warmup=run[1], cycles=run[2], power=run[3], base=run[4],
                            total=STEPS, rates=rates(*run))) for run in runs()]
    out.write_text("[\n" + ",\n".join(rows) + "\n]\n")
    print(f"{out}: {len(rows)} runs")


if __name__ == "__main__":
    main()
