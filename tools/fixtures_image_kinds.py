# SPDX-License-Identifier: Apache-2.0
"""Writes tests/fixtures/image/kinds/: small BMP, GIF, TIFF, HEIC and AVIF pictures of every kind that is read,
and expected.txt with what Pillow (13) makes of them, in the form of fixtures_image.py. HEIC and AVIF are written by
libheif's heif-enc. tests/test_file_image.c compares.

    python tools/fixtures_image_kinds.py
"""

import pathlib
import struct
import subprocess
import tempfile

import numpy as np
from PIL import Image, ImageOps

OUT = pathlib.Path(__file__).parent.parent / "tests/fixtures/image/kinds"
lines = []


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = ((h ^ byte) * 0x100000001B3) & (2**64 - 1)
    return f"{h:016x}"


def expect(name, picture=None):
    picture = picture or ImageOps.exif_transpose(Image.open(OUT / name)).convert("RGB")
    lines.append(f"read kinds/{name} {picture.width} {picture.height} {fnv(picture.tobytes())}")


def scene(width, height, seed=1):
    """Smooth colours, hard edges and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    a = np.stack([x * 255 / max(width - 1, 1), y * 255 / max(height - 1, 1), (x + y) * 7 % 256], -1)
    a[(x // 5 + y // 4) % 3 == 0] = (250, 3, 240)
    a[height // 2 :, width // 2 :] = rng.integers(0, 256, (height - height // 2, width - width // 2, 3))
    return a.astype(np.uint8)


# ---- BMP -------------------------------------------------------------------------------------------------------


def bmp(name, width, height, bits, rows, palette=b"", compression=0, masks=b"", size=40, top=False, colors=0):
    if size == 12:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        header = struct.pack("<IiiHHIIiiII", size, width, -height if top else height, 1, bits, compression, len(rows),
                             2835, 2835, colors, 0)
        header += masks if size > 40 else b""
        header += bytes(size - len(header))
        header += masks if size == 40 else b""
    body = header + palette + rows
    offset = 14 + len(header) + len(palette)
    (OUT / name).write_bytes(struct.pack("<2sIHHI", b"BM", 14 + len(body), 0, 0, offset) + body)
    expect(name)


def packed(values, bits):
    """Rows of small numbers, padded to 4 bytes."""
    out = b""
    for row in values:
        text = "".join(f"{v:0{bits}b}" for v in row)
        text += "0" * (-len(text) % 32)
        out += int(text, 2).to_bytes(len(text) // 8, "big")
    return out


def write_bmps():
    rng = np.random.default_rng(5)
    for bits in (1, 4, 8):
        palette = rng.integers(0, 256, (1 << bits, 4)).astype(np.uint8)
        values = rng.integers(0, 1 << bits, (7, 13))
        bmp(f"palette-{bits}.bmp", 13, 7, bits, packed(values, bits), palette.tobytes())
        bmp(f"os2-{bits}.bmp", 13, 7, bits, packed(values, bits), palette[:, :3].tobytes(), size=12)
    values = rng.integers(0, 256, (7, 13))
    few = rng.integers(0, 256, (100, 4)).astype(np.uint8)
    bmp("palette-100.bmp", 13, 7, 8, packed(values, 8), few.tobytes(), colors=100)
    grey = np.repeat(np.arange(256, dtype=np.uint8), 4).reshape(256, 4)
    bmp("grey.bmp", 13, 7, 8, packed(rng.integers(0, 256, (7, 13)), 8), grey.tobytes())
    short = rng.integers(0, 65536, (7, 13))
    rows = b"".join(r.astype("<u2").tobytes() + bytes(2) for r in short)
    bmp("rgb-555.bmp", 13, 7, 16, rows)
    bmp("rgb-565.bmp", 13, 7, 16, rows, compression=3, masks=struct.pack("<3I", 0xF800, 0x7E0, 0x1F))
    full = rng.integers(0, 256, (7, 13, 3)).astype(np.uint8)
    rows = b"".join(r.tobytes() + bytes(1) for r in full)
    bmp("rgb.bmp", 13, 7, 24, rows)
    bmp("rgb-os2.bmp", 13, 7, 24, rows, size=12)
    bmp("rgb-from-top.bmp", 13, 7, 24, rows, top=True)
    wide = rng.integers(0, 256, (7, 13, 4)).astype(np.uint8).tobytes()
    bmp("rgbx.bmp", 13, 7, 32, wide)
    bmp("masks-v4.bmp", 13, 7, 32, wide, compression=3, size=108,
        masks=struct.pack("<4I", 0xFF, 0xFF00, 0xFF0000, 0xFF000000))
    bmp("masks-xbgr.bmp", 13, 7, 32, wide, compression=3, masks=struct.pack("<3I", 0xFF000000, 0xFF0000, 0xFF00))
    palette = rng.integers(0, 256, (256, 4)).astype(np.uint8).tobytes()
    # runs, a literal, a jump, a short row, the end; every row is filled, as Pillow wants it
    codes = bytes([13, 7, 0, 0, 4, 1, 0, 5, 9, 8, 7, 6, 5, 0, 4, 3, 0, 0, 0, 2, 3, 1, 10, 77, 0, 0]) + b"\x0d\x21\0\0" * 3
    bmp("runs-8.bmp", 13, 7, 8, codes + bytes([0, 1]), palette, compression=1)
    codes = bytes([13, 0x4C, 0, 0, 6, 0x21, 0, 7, 0x12, 0x34, 0x56, 0x70, 0, 0]) + b"\x0d\x5a\0\0" * 5
    bmp("runs-4.bmp", 13, 7, 4, codes + bytes([0, 1]), palette[:64], compression=2)


# ---- GIF -------------------------------------------------------------------------------------------------------


def gif_codes(values, bits=8):
    """LZW that never leaves its first code size: a clear code before the table would grow."""
    clear, out, size = 1 << bits, [], bits + 1
    for i, v in enumerate(values):
        if i % ((1 << bits) - 2) == 0:
            out.append(clear)
        out.append(int(v))
    out.append(clear + 1)
    number = sum(v << (size * i) for i, v in enumerate(out))
    data = number.to_bytes((size * len(out) + 7) // 8, "little")
    blocks = b"".join(bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255))
    return bytes([bits]) + blocks + b"\0"


def gif_frame(x, y, values, palette=None, interlaced=False):
    height, width = values.shape
    bits = 0 if palette is None else (len(palette).bit_length() - 2) | 0x80
    rows = values
    if interlaced:
        order = [r for first, step in ((0, 8), (4, 8), (2, 4), (1, 2)) for r in range(first, height, step)]
        rows = values[order]
    head = struct.pack("<BHHHHB", 0x2C, x, y, width, height, bits | (0x40 if interlaced else 0))
    return head + (b"" if palette is None else palette.astype(np.uint8).tobytes()) + gif_codes(rows.ravel())


def gif(name, width, height, frames, palette=None, background=0):
    bits = 0x70 | (0 if palette is None else (len(palette).bit_length() - 2) | 0x80)
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, bits, background, 0)
    head += b"" if palette is None else palette.astype(np.uint8).tobytes()
    (OUT / name).write_bytes(head + b"".join(frames) + b";")
    expect(name)


def write_gifs():
    rng = np.random.default_rng(6)
    palette, other = rng.integers(0, 256, (256, 3)), rng.integers(0, 256, (64, 3))
    values = rng.integers(0, 256, (19, 23))
    control = lambda clear: b"!\xf9\x04" + bytes([1, 5, 0, clear]) + b"\0"
    gif("plain.gif", 23, 19, [gif_frame(0, 0, values)], palette)
    gif("interlaced.gif", 23, 19, [gif_frame(0, 0, values, interlaced=True)], palette)
    gif("local-palette.gif", 23, 19, [gif_frame(0, 0, values % 64, other)], palette)
    gif("past-palette.gif", 23, 19, [gif_frame(0, 0, values, other)], palette)
    gif("no-palette.gif", 23, 19, [gif_frame(0, 0, values)])
    gif("inside.gif", 30, 25, [gif_frame(4, 3, values)], palette, background=9)
    gif("inside-clear.gif", 30, 25, [control(7), gif_frame(4, 3, values)], palette, background=9)
    gif("past-screen.gif", 10, 8, [gif_frame(2, 1, values)], palette)
    gif("animated.gif", 23, 19, [b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0", control(7), gif_frame(0, 0, values), control(3),
                                 gif_frame(2, 2, values[:5]), b"!\xfe\x02hi\0", gif_frame(0, 0, values[::-1])], palette)
    Image.fromarray(scene(37, 29)).quantize(100).save(OUT / "pillow.gif")  # real LZW tables
    expect("pillow.gif")


# ---- TIFF ------------------------------------------------------------------------------------------------------


def tiff(name, samples, photometric, bits, extra=None, palette=None, planar=1, big=False, tags=(), wanted=None):
    """One strip, by hand: Pillow does not write all kinds."""
    order = ">" if big else "<"
    height, width, count = samples.shape
    if bits < 8:
        data = b"".join(
            int("".join(f"{v:0{bits}b}" for v in row.ravel()).ljust(-(-width * bits // 8) * 8, "0"), 2).to_bytes(
                -(-width * bits // 8), "big") for row in samples)
    else:
        values = samples if planar == 1 else samples.transpose(2, 0, 1)
        data = values.astype(order + ("u2" if bits == 16 else "u1")).tobytes()
    strips = 1 if planar == 1 else count
    entries = {256: (3, [width]), 257: (3, [height]), 258: (3, [bits] * count), 259: (3, [1]), 262: (3, [photometric]),
               273: (4, [0] * strips), 277: (3, [count]), 278: (3, [height]), 279: (4, [len(data) // strips] * strips),
               284: (3, [planar])}
    if extra is not None:
        entries[338] = (3, [extra])
    if palette is not None:
        entries[320] = (3, list(palette.T.ravel()))
    entries.update(dict(tags))
    at = 8 + 2 + 12 * len(entries) + 4
    values, table = b"", struct.pack(order + "H", len(entries))
    size = {3: 2, 4: 4}
    long = sum(len(v) * size[t] for t, v in entries.values() if len(v) * size[t] > 4)
    entries[273] = (4, [at + long + i * (len(data) // strips) for i in range(strips)])
    for tag in sorted(entries):
        kind, v = entries[tag]
        packed_ = struct.pack(order + f"{len(v)}{'H' if kind == 3 else 'I'}", *[int(x) for x in v])
        if len(packed_) > 4:
            table += struct.pack(order + "HHII", tag, kind, len(v), at + len(values))
            values += packed_
        else:
            table += struct.pack(order + "HHI", tag, kind, len(v)) + packed_.ljust(4, b"\0")
    head = (b"MM\0*" if big else b"II*\0") + struct.pack(order + "I", 8)
    (OUT / name).write_bytes(head + table + bytes(4) + values + data)
    expect(name, wanted)


def write_tiffs():
    rng = np.random.default_rng(7)
    picture = Image.fromarray(scene(37, 29))
    for kind in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        picture.save(OUT / f"{kind}.tif", compression=kind)
        expect(f"{kind}.tif")
    picture.convert("1").save(OUT / "fax.tif", compression="group4")
    expect("fax.tif")
    for bits in (1, 2, 4, 8):
        values = rng.integers(0, 1 << bits, (9, 13, 1))
        tiff(f"grey-{bits}.tif", values, 1, bits)
        tiff(f"white-{bits}.tif", values, 0, bits)
        tiff(f"palette-{bits}.tif", values, 3, bits, palette=rng.integers(0, 65536, (1 << bits, 3)))
    grey = rng.integers(0, 65536, (9, 13, 1))  # Pillow clips to 255; we take the high byte
    high = Image.fromarray((grey[:, :, 0] >> 8).astype(np.uint8)).convert("RGB")
    tiff("grey-16.tif", grey, 1, 16, wanted=high)
    tiff("grey-16-big.tif", grey, 1, 16, big=True, wanted=high)
    eight = rng.integers(0, 256, (9, 13, 5))
    wide = rng.integers(0, 65536, (9, 13, 4))
    tiff("rgb.tif", eight[:, :, :3], 2, 8)
    tiff("rgb-apart.tif", eight[:, :, :3], 2, 8, planar=2)
    tiff("rgbx.tif", eight[:, :, :4], 2, 8, extra=0)
    tiff("rgba.tif", eight[:, :, :4], 2, 8, extra=2)
    tiff("rgba-multiplied.tif", eight[:, :, :4], 2, 8, extra=1)
    tiff("rgb-16.tif", wide[:, :, :3], 2, 16)
    tiff("rgb-16-big.tif", wide[:, :, :3], 2, 16, big=True)
    tiff("rgba-16.tif", wide, 2, 16, extra=2)
    tiff("cmyk.tif", eight[:, :, :4], 5, 8)
    tiff("grey-alpha.tif", eight[:, :, :2], 1, 8, extra=2)
    for orientation in (2, 3, 6, 8):
        tiff(f"turned-{orientation}.tif", scene(23, 17), 2, 8, tags={274: (3, [orientation])}.items())
    picture.save(OUT / "pages.tif", save_all=True, append_images=[picture, picture], compression="tiff_lzw")
    expect("pages.tif")


# ---- HEIC, AVIF ------------------------------------------------------------------------------------------------


def write_heifs():
    picture = Image.fromarray(scene(40, 24))
    with tempfile.TemporaryDirectory() as folder:
        picture.save(folder + "/scene.png")
        for name, flags in (("scene.heic", []), ("scene.avif", ["-A"])):
            subprocess.run(["heif-enc", *flags, "-L", "-p", "chroma=444", "--matrix_coefficients=0", folder + "/scene.png",
                            "-o", str(OUT / name)], check=True, capture_output=True)
    picture.save(OUT / "scene.png")  # HEIC and AVIF have conversions of their own: they are compared with this


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    write_bmps()
    write_gifs()
    write_tiffs()
    write_heifs()
    (OUT / "expected.txt").write_text("\n".join(lines) + "\n")
