# SPDX-License-Identifier: Apache-2.0
"""Writes tests/fixtures/train/draws.json: which pictures and crops train_dreambooth.py trains on, and
what its steps then draw, by torch's DataLoader, accelerate and torchvision's RandomCrop themselves;
tests/test_train_draws.c repeats them.

A picture is its width and height here. Each step draws the posterior's noise, the noise and the time
steps of a latent [B,4,2,2] (small draws, whose spare value must carry over) or [B,4,4,4].
Run with a Python that has torch, torchvision and accelerate:  python tools/fixtures_train_draws.py
"""
import json
import pathlib

import numpy
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torchvision import transforms

SIZE = 8
SQUARES = [(8, 8)] * 5
MIXED = [(8, 8), (11, 8), (8, 30), (9, 8), (8, 8)]
WIDE = [(12, 8), (8, 10), (13, 8)]
CLASSES = [(8, 8), (9, 8), (8, 8), (8, 12), (16, 8), (8, 8), (10, 8)]

RUNS = [  # (name, seed, instances, classes, batch, side of the latent)
    ("squares", 7, SQUARES, None, 1, 2),
    ("squares, short last batch", 7, SQUARES, None, 2, 4),
    ("crops", 42, MIXED, None, 1, 4),
    ("crops, short last batch", 42, MIXED, None, 2, 2),
    ("crops, all in one batch", 43, MIXED, None, 5, 4),
    ("crops, batch larger than the data", 43, MIXED, None, 8, 4),
    ("class pictures", 3, MIXED, CLASSES, 1, 2),
    ("class pictures, short last batch", 3, MIXED, CLASSES, 2, 4),
    ("fewer class pictures", 1234, CLASSES, WIDE, 3, 4),
    ("one picture", 0, WIDE[:1], None, 1, 4),
    ("one picture, more class pictures", 5, WIDE[:1], CLASSES, 4, 2),
]
EPOCHS = 3


class Pictures(torch.utils.data.Dataset):
    def __init__(self, instances, classes):
        self.instances, self.classes = instances, classes

    def __len__(self):
        return max(len(self.instances), len(self.classes or []))

    @staticmethod
    def crop(pictures, index):
        index %= len(pictures)
        width, height = pictures[index]
        # The picture carries its coordinates, so that a crop says where it was taken.
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        cut = transforms.RandomCrop(SIZE)(torch.stack([y, x]))
        return [index, *cut[:, 0, 0].tolist()]

    def __getitem__(self, index):
        example = self.crop(self.instances, index)
        if self.classes:
            example += self.crop(self.classes, index)
        return example


def steps(seed, instances, classes, batch, side):
    set_seed(seed)
    loader = torch.utils.data.DataLoader(Pictures(instances, classes), batch_size=batch,
                                         shuffle=True, collate_fn=list)
    loader = Accelerator(cpu=True).prepare(loader)
    out = []
    for _ in range(EPOCHS):
        for examples in loader:
            n = len(examples) * (2 if classes else 1)
            posterior = torch.randn(n, 4, side, side)
            noise = torch.randn(n, 4, side, side)
            times = torch.randint(0, 1000, (n,))
            ends = [float(str(v)) for v in numpy.array([posterior.flatten()[-1], noise.flatten()[-1]],
                                                       dtype=numpy.float32)]
            out.append(dict(examples=examples, ends=ends, times=times.tolist()))
        out[-1]["last"] = True
    return out


def main():
    out = pathlib.Path(__file__).parent.parent / "tests" / "fixtures" / "train" / "draws.json"
    out.parent.mkdir(exist_ok=True)
    rows = [json.dumps(dict(name=name, seed=seed, size=SIZE, instances=instances,
                            classes=classes or [], batch=batch, side=side,
                            steps=steps(seed, instances, classes, batch, side)))
            for name, seed, instances, classes, batch, side in RUNS]
    out.write_text("[\n" + ",\n".join(rows) + "\n]\n")
    print(f"{out}: {len(rows)} runs")


if __name__ == "__main__":
    main()
