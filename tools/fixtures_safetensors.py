# SPDX-License-Identifier: Apache-2.0
"""Writes tests/fixtures/safetensors/python.safetensors with the Python library:
tests/test_file_safetensors.c reads it, and writes the same bytes."""

import pathlib
import torch
from safetensors.torch import save_file

out = pathlib.Path(__file__).parent.parent / "tests/fixtures/safetensors"
out.mkdir(parents=True, exist_ok=True)
count = torch.arange(6)
save_file(
    {
        "b.weight": count.reshape(2, 3).float() / 4,
        "a.weight": count.reshape(3, 2).half() / 4,
        "c.bf16": count.to(torch.bfloat16) / 4,
        "ids": count.reshape(1, 6),
        "mask": count > 2,
        "f8": (count / 4).to(torch.float8_e4m3fn),
        "bytes": count.to(torch.uint8),
        "double": count.double() / 4,
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 4),
        'quote"\\/\u00e9\n': count.to(torch.int32),
    },
    out / "python.safetensors",
    metadata={"format": "pt"},
)
