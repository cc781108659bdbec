# SPDX-License-Identifier: Apache-2.0
"""Compares the pictures of two folders: the worst difference in grey levels and PSNR of each, and overall.

python tools/equality/compare_pictures.py EXPECTED ACTUAL [--limit 1] [--psnr DB] [--only GLOB] [--brief]

Every PNG of EXPECTED that GLOB selects must be in ACTUAL with the same size. Exit status 1 when one is missing or
differs by more than --limit grey levels; with --psnr, when the median PSNR is below DB instead (for bfloat16).
"""
import argparse
import fnmatch
import math
import os
import statistics
import sys

import numpy as np
from PIL import Image


def pictures(folder, pattern):
    found = []
    for at, _, files in os.walk(folder):
        for f in files:
            name = os.path.relpath(os.path.join(at, f), folder)
            if f.endswith(".png") and fnmatch.fnmatch(name, pattern):
                found.append(name)
    return sorted(found)


def load(path):
    with Image.open(path) as im:
        return np.asarray(im.convert("RGB")).astype(np.int32)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("expected")
    p.add_argument("actual")
    p.add_argument("--limit", type=int, default=1)
    p.add_argument("--psnr", type=float)
    p.add_argument("--only", default="*")
    p.add_argument("--brief", action="store_true", help="only the pictures that fail, and the last line")
    a = p.parse_args()
    names = pictures(a.expected, a.only)
    if not names:
        sys.exit(f"compare_pictures: no pictures like {a.only} in {a.expected}")
    worst, psnrs, missing, over = 0, [], 0, 0
    for name in names:
        path = os.path.join(a.actual, name)
        if not os.path.isfile(path):
            print(f"{name:50} missing")
            missing += 1
            continue
        x, y = load(os.path.join(a.expected, name)), load(path)
        if x.shape != y.shape:
            print(f"{name:50} sizes differ: {x.shape[1]}x{x.shape[0]} and {y.shape[1]}x{y.shape[0]}")
            missing += 1
            continue
        d = np.abs(x - y)
        mse = float((d.astype(np.float64) ** 2).mean())
        psnr = math.inf if mse == 0 else 10 * math.log10(255 ** 2 / mse)
        level = int(d.max())
        worst, over = max(worst, level), over + (level > a.limit)
        psnrs.append(psnr)
        if not a.brief or level > a.limit:
            print(f"{name:50} worst {level:3}   differing {100 * float((d > 0).mean()):7.3f} %   PSNR {psnr:6.2f} dB")
    if psnrs:
        print(f"{len(psnrs)} pictures: worst {worst} grey levels, {over} over the limit of {a.limit}; "
              f"PSNR median {statistics.median(psnrs):.2f} dB, least {min(psnrs):.2f} dB; {missing} missing")
    if a.psnr is not None:
        return 0 if not missing and statistics.median(psnrs) >= a.psnr else 1
    return 1 if missing or over else 0


if __name__ == "__main__":
    sys.exit(main())
