# SPDX-License-Identifier: Apache-2.0
"""Writes tests/fixtures/train/photos.txt: the pixels that train_dreambooth.py's transform (torchvision and
Pillow 13) gives for committed pictures of every kind; tests/test_train_photos.c compares. A line is

    FILE RESOLUTION WIDTH HEIGHT TOP LEFT CENTRE CORNER

size after resizing, the centre crop's offset, and the FNV-1a hashes of the float32 [H,W,3] of the centre
crop and of the crop at the bottom right.
Run with a Python that has torch and torchvision:  python tools/fixtures_train_photos.py [MORE.jpg ...]
(more pictures: printed, not written).
"""
import pathlib
import sys

import torch
from PIL import Image, ImageOps
from torchvision import transforms
from torchvision.transforms import functional

ROOT = pathlib.Path(__file__).parent.parent
KINDS = ("scene.png grey-1.png grey-8.png rgb-16.png rgba-8.png rgba-16.png grey-alpha-8.png palette-8.png "
         "rgb-colour-key.png turned-3.jpg turned-6.jpg turned-8.jpg turned-6.png turned-6.webp grey.jpg cmyk.jpg "
         "ycck.jpg sampled-420.jpg alpha-lossless.webp lossy.webp").split()
RESOLUTIONS = (8, 13, 23, 64)
TENSOR = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5], [0.5])])


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return f"{h:016x}"


def hashed(picture):
    return fnv(TENSOR(picture).permute(1, 2, 0).contiguous().numpy().tobytes())


def line(path, resolution, name):
    picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    picture = transforms.Resize(resolution, interpolation=transforms.InterpolationMode.BILINEAR)(picture)
    width, height = picture.size
    # The offset of the centre, from a picture that carries its coordinates.
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    top, left = transforms.CenterCrop(resolution)(torch.stack([y, x]))[:, 0, 0].tolist()
    corner = functional.crop(picture, height - resolution, width - resolution, resolution, resolution)
    return (f"{name} {resolution} {width} {height} {top} {left} "
            f"{hashed(transforms.CenterCrop(resolution)(picture))} {hashed(corner)}")


def main():
    if sys.argv[1:]:
        for path in sys.argv[1:]:
            for resolution in (64, 128, 333, 512):
                print(line(path, resolution, path))
        return
    lines = [line(ROOT / "tests/fixtures/image" / name, r, f"tests/fixtures/image/{name}")
             for name in KINDS for r in RESOLUTIONS]
    lines += [line(ROOT / f"examples/subject/0{i}.png", 64 * i, f"examples/subject/0{i}.png") for i in (1, 2, 4)]
    out = ROOT / "tests" / "fixtures" / "train" / "photos.txt"
    out.write_text("\n".join(lines) + "\n")
    print(f"{out}: {len(lines)} lines")


if __name__ == "__main__":
    main()
