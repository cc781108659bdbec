# SPDX-License-Identifier: Apache-2.0
"""Writes tests/fixtures/image/: small pictures of every kind that is read, and expected.txt with
what Pillow (13 or later) makes of them. tests/test_file_image.c compares. A line is

    read FILE WIDTH HEIGHT HASH            ImageOps.exif_transpose + convert("RGB")
    resize FILE FILTER WIDTH HEIGHT HASH   Image.resize
    jpeg FILE QUALITY HASH                 FILE written as JPEG by Pillow and read back

HASH is 64-bit FNV-1a of the RGB bytes."""

import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

OUT = pathlib.Path(__file__).parent.parent / "tests/fixtures/image"
lines = []


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & (2**64 - 1)
    return f"{h:016x}"


def expect(name, picture=None):
    picture = picture or ImageOps.exif_transpose(Image.open(OUT / name)).convert("RGB")
    lines.append(f"read {name} {picture.width} {picture.height} {fnv(picture.tobytes())}")


def scene(width, height, seed=1):
    """Smooth colours, hard edges and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    a = np.stack([x * 255 / max(width - 1, 1), y * 255 / max(height - 1, 1), (x + y) * 7 % 256], -1)
    a[(x // 5 + y // 4) % 3 == 0] = (250, 3, 240)
    a[height // 2 :, width // 2 :] = rng.integers(
        0, 256, (height - height // 2, width - width // 2, 3)
    )
    return a.astype(np.uint8)


ADAM7 = [
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
]


def png(name, samples, color, depth, interlaced=False, palette=None, transparency=None):
    """samples [height, width, channels]; written by hand, since Pillow cannot write all kinds."""
    height, width, _ = samples.shape

    def scanlines(part):
        out = b""
        for row in part.reshape(part.shape[0], -1):
            if depth == 16:
                packed = row.astype(">u2").tobytes()
            else:
                bits = "".join(f"{v:0{depth}b}" for v in row)
                bits += "0" * (-len(bits) % 8)
                packed = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
            out += b"\0" + packed
        return out

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    parts = [samples[y0::dy, x0::dx] for x0, y0, dx, dy in ADAM7] if interlaced else [samples]
    data = b"".join(scanlines(p) for p in parts if p.size)
    out = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    )
    if palette is not None:
        out += chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    if transparency is not None:
        out += chunk(b"tRNS", transparency)
    out += chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")
    (OUT / name).write_bytes(out)


def write_pngs():
    rng = np.random.default_rng(2)
    colors = {
        0: ("grey", 1),
        2: ("rgb", 3),
        3: ("palette", 1),
        4: ("grey-alpha", 2),
        6: ("rgba", 4),
    }
    for color, (word, channels) in colors.items():
        for depth in {0: (1, 2, 4, 8, 16), 3: (1, 2, 4, 8)}.get(color, (8, 16)):
            samples = rng.integers(0, 2**depth, (13, 19, channels))
            palette = rng.integers(0, 256, (2**depth, 3)) if color == 3 else None
            transparency = bytes([0, 128]) if color == 3 else None
            name = f"{word}-{depth}.png"
            png(name, samples, color, depth, False, palette, transparency)
            picture = None
            if (color, depth) == (0, 16):  # Pillow clips to 255; we take the high byte
                picture = Image.fromarray((samples[:, :, 0] >> 8).astype(np.uint8)).convert("RGB")
            expect(name, picture)
    samples = rng.integers(0, 256, (13, 19, 3))
    png("rgb-interlaced.png", samples, 2, 8, True)
    expect("rgb-interlaced.png")
    png("rgb-colour-key.png", samples, 2, 8, False, None, struct.pack(">3H", *samples[3, 3]))
    expect("rgb-colour-key.png")
    png(
        "palette-4-interlaced.png",
        rng.integers(0, 16, (5, 3, 1)),
        3,
        4,
        True,
        rng.integers(0, 256, (16, 3)),
    )
    expect("palette-4-interlaced.png")


def write_oriented():
    picture = Image.fromarray(scene(23, 17))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(OUT / f"turned-{orientation}.jpg", quality=90, exif=exif)
        expect(f"turned-{orientation}.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(OUT / "turned-6.png", exif=exif)
    expect("turned-6.png")
    picture.save(OUT / "turned-6.webp", lossless=True, exif=exif.tobytes())
    expect("turned-6.webp")
    little = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 8, 0, 0)
    picture.save(OUT / "turned-8-little-endian.jpg", quality=90, exif=b"Exif\0\0" + little)
    expect("turned-8-little-endian.jpg")


def write_jpegs():
    picture = Image.fromarray(scene(37, 29))
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        name = f"sampled-{subsampling.replace(':', '')}.jpg"
        picture.save(OUT / name, quality=85, subsampling=subsampling)
        expect(name)
    picture.save(OUT / "progressive.jpg", quality=85, progressive=True)
    expect("progressive.jpg")
    picture.convert("L").save(OUT / "grey.jpg", quality=85)
    expect("grey.jpg")
    picture.save(OUT / "rgb.jpg", quality=85, keep_rgb=True)
    expect("rgb.jpg")
    inks = np.dstack([255 - scene(37, 29, 3), scene(37, 29, 4)[:, :, 0] // 3])
    buffer = io.BytesIO()
    Image.fromarray(inks, "CMYK").save(buffer, "JPEG", quality=85)
    (OUT / "cmyk.jpg").write_bytes(buffer.getvalue())
    expect("cmyk.jpg")
    # the same data said to be YCCK: other colours, but what every reader makes of them
    data = bytearray(buffer.getvalue())
    adobe = data.index(b"Adobe")
    data[adobe + 11] = 2
    (OUT / "ycck.jpg").write_bytes(data)
    expect("ycck.jpg")


def write_webps():
    picture = Image.fromarray(scene(37, 29))
    picture.save(OUT / "lossy.webp", quality=80)
    expect("lossy.webp")
    alpha = Image.fromarray(np.dstack([scene(37, 29), scene(37, 29, 5)[:, :, 1] | 1]), "RGBA")
    for name, options in (
        ("alpha-lossy", {"quality": 80}),
        ("alpha-lossless", {"lossless": True, "exact": True}),
    ):
        alpha.save(OUT / f"{name}.webp", **options)
        expect(f"{name}.webp")
    picture.save(
        OUT / "animated.webp", save_all=True, append_images=[Image.fromarray(scene(37, 29, 9))]
    )


def write_texts():
    picture = Image.fromarray(scene(6, 5))
    for name, text in (
        ("latin1", "a caf\u00e9\nSteps: 20"),
        ("unicode", "\u732b and \U0001f431\nSteps: 20"),
    ):
        info = PngInfo()
        info.add_text("Software", "x")
        info.add_text("parameters", text)
        picture.save(OUT / f"text-{name}.png", pnginfo=info)
        comment = b"UNICODE\0" + text.encode("utf_16_be")
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = comment
        picture.save(OUT / f"text-{name}.jpg", exif=exif)
    info = PngInfo()
    info.add_text("parameters", "packed " * 20, zip=True)
    picture.save(OUT / "text-packed.png", pnginfo=info)


def write_resizes():
    filters = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}
    pictures = {"scene.png": scene(37, 23), "dot.png": scene(1, 1), "line.png": scene(40, 1, 7)}
    sizes = [
        (80, 61),
        (11, 7),
        (37, 23),
        (37, 9),
        (50, 23),
        (1, 1),
        (1, 50),
        (50, 1),
        (36, 100),
        (200, 3),
    ]
    for name, pixels in pictures.items():
        picture = Image.fromarray(pixels)
        picture.save(OUT / name)
        expect(name)
        for word, kind in filters.items():
            for width, height in sizes:
                small = picture.resize((width, height), kind)
                lines.append(f"resize {name} {word} {width} {height} {fnv(small.tobytes())}")
    for quality in (1, 50, 75, 95, 100):
        buffer = io.BytesIO()
        Image.fromarray(pictures["scene.png"]).save(buffer, "JPEG", quality=quality)
        lines.append(f"jpeg scene.png {quality} {fnv(Image.open(buffer).tobytes())}")


OUT.mkdir(parents=True, exist_ok=True)
write_pngs()
write_oriented()
write_jpegs()
write_webps()
write_texts()
write_resizes()
(OUT / "expected.txt").write_text("\n".join(lines) + "\n")
