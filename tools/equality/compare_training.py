# SPDX-License-Identifier: Apache-2.0
"""Compares two trainings of one model by what each changed in every weight tensor.

python tools/equality/compare_training.py OURS REFERENCE BASE [--again FOLDER] [--limit 0.01]

All are diffusers folders. A tensor's error is ||(ours - base) - (reference - base)|| / ||reference - base||; the worst
five of the UNet and of the text encoder are named. Exit status 1 when one is above the limit, when a tensor is missing
or has another shape, or when ours changed one that the reference left alone.

--again: the reference run once more, with another number of threads. A tensor in which it and the reference differ by
more than the limit is shown apart and does not count: Adam makes steps of full length out of gradients that are nothing
but rounding. Such are the text encoder's k_proj.bias, which softmax does not see.
"""
import argparse
import math
import os
import sys

from safetensors.torch import load_file

FILES = {"unet": "diffusion_pytorch_model.safetensors", "text_encoder": "model.safetensors"}


def tensors(folder, part):
    path = os.path.join(folder, part, FILES[part])
    if not os.path.isfile(path):
        sys.exit(f"compare_training: there is no {path}")
    # the text encoder's names have lost their first part in newer versions of transformers
    return {name.removeprefix("text_model."): t.double() for name, t in load_file(path).items()
            if not name.endswith("position_ids")}


def errors(ours, reference, base):
    """[(error, name)], worst first, and what is wrong with the sets of tensors."""
    found, wrong = [], []
    for name, was in base.items():
        if name not in ours or name not in reference:
            wrong.append(f"{name} is missing in {'ours' if name not in ours else 'the reference'}")
        elif not ours[name].shape == reference[name].shape == was.shape:
            wrong.append(f"{name} has another shape")
        else:
            difference = (ours[name] - reference[name]).norm().item()
            moved = (reference[name] - was).norm().item()
            error = difference / moved if moved else math.inf if difference else 0.0
            found.append((math.inf if math.isnan(error) else error, name))
    return sorted(found, reverse=True), wrong + [f"{name} is not in the base" for name in ours if name not in base]


def main():
    p = argparse.ArgumentParser()
    for name in ("ours", "reference", "base"):
        p.add_argument(name)
    p.add_argument("--again")
    p.add_argument("--limit", type=float, default=0.01)
    a = p.parse_args()
    failed = False
    for part in FILES:
        base, reference = tensors(a.base, part), tensors(a.reference, part)
        found, wrong = errors(tensors(a.ours, part), reference, base)
        loose = {}
        if a.again:
            repeated, other = errors(tensors(a.again, part), reference, base)
            loose = {name: error for error, name in repeated if error > a.limit}
            wrong += [f"--again: {line}" for line in other]
        counted = [e for e in found if e[1] not in loose]
        over = sum(error > a.limit for error, _ in counted)
        print(f"{part}: {len(counted)} tensors, {over} above {100 * a.limit:g} %")
        for error, name in counted[:5]:
            print(f"  {100 * error:10.5f} %  {name}")
        for error, name in found:
            if name in loose:
                print(f"  {100 * error:10.5f} %  {name}, not counted: the reference's own is {100 * loose[name]:.5f} %")
        for line in wrong:
            print(f"  {line}")
        failed = failed or over > 0 or bool(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
