# SPDX-License-Identifier: Apache-2.0
"""Pictures for weighing measures of likeness (docs/MEASURES.md): two subjects, more pictures of them than a
model is taught, their kin, and others of their class, all from public-domain drawings on drawn scenes.

python subjects.py OUT

needs numpy and pillow, and, unpacked (dpkg -x) into the folder $UNPACKED, the Debian packages openclipart-svg,
librsvg2-bin, librsvg2-2 and fonts-noto-color-emoji. Writes OUT/NAME/*.png of 256 x 256:
wizard-unseen (18), sister (9: the same dog without hat and cape), other-dogs (15), cat (5: to be taught),
cat-unseen (18), other-cats (15). The wizard's five are examples/subject."""
import io, os, subprocess, sys
import numpy as np
from PIL import Image, ImageDraw, ImageFont

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE + "/../pocket")
import scenes

ROOT = os.environ.get("UNPACKED", "unpacked")
SIDE = 256
ANIMALS = ROOT + "/usr/share/openclipart/svg/animals/mammals/"
WIZARD, SISTER = "dog_01_drawn_with_strai_02.svg", "dog_01_drawn_with_strai_01.svg"
DOGS = ["dog_03_drawn_with_strai_01.svg", "dog_05_drawn_with_strai_01.svg", "dogs/beagle_copper_ganson.svg",
        "dogs/black_lab_ganson.svg", "dog_04_drawn_with_strai_01.svg"]
CAT = "housecats/gattina_cat_architetto_f_01.svg"     # a grey cat on a violet cushion
CATS = ["housecats/gatto_cat_architetto_fra_04.svg", "cartoon_cat_gerald_g._02.svg", "housecats/gatto_cat_architetto_fra_01.svg",
        "housecats/gatto_cat_architetto_fra_02.svg", "housecats/gatto_cat_architetto_fra_03.svg"]
PROPS = {"palm tree": 0x1F334, "umbrella on ground": 0x26F1, "deciduous tree": 0x1F333, "evergreen tree": 0x1F332}
PLACES = ["park", "beach", "room", "snow", "plain", "city", "forest", "desert", "mountain"]
TAUGHT = [("park", .80, False, -3, .5), ("beach", .72, True, 4, .45), ("room", .84, False, 2, .52), ("snow", .70, True, -5, .55),
          ("plain", .86, False, 5, .5)]

def trimmed(im):
    return im.crop(im.getchannel("A").point(lambda a: 255 if a > 16 else 0).getbbox())

def drawing(name):
    assert "PublicDomain" in open(ANIMALS + name, errors="ignore").read(), name
    env = dict(os.environ, LD_LIBRARY_PATH=ROOT + "/usr/lib/x86_64-linux-gnu")
    png = subprocess.run([ROOT + "/usr/bin/rsvg-convert", "-w", "320", "-h", "320", "-a", ANIMALS + name], capture_output=True, env=env).stdout
    im = trimmed(Image.open(io.BytesIO(png)).convert("RGBA"))
    return trimmed(im.crop((0, 0, int(im.width * .97), im.height))) if name == CAT else im      # it has a line at its right edge

def prop(name):
    font = ImageFont.truetype(ROOT + "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf", 109)
    im = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(im).text((10, 10), chr(PROPS[name]), font=font, embedded_color=True)
    return trimmed(im)

def pasted(img, sp, x, foot, height, frost=0.0):
    """A drawing `height` tall on a picture, its foot in the middle at (x, foot); sides of the picture are 1."""
    h = max(int(height * SIDE), 4); sp = sp.resize((max(int(h * sp.width / sp.height), 3), h), Image.LANCZOS)
    rgb = Image.fromarray((np.asarray(sp.convert("RGB"), np.float32) * (1 - frost) + 255 * frost).astype(np.uint8))
    out = Image.fromarray(np.clip(img, 0, 255).astype(np.uint8))
    out.paste(rgb, (int(x * SIDE - sp.width / 2), int(foot * SIDE - h)), sp.getchannel("A"))
    return np.asarray(out, np.float32)

def picture(sp, place, size, mirrored, turn, x, seed, foot=.96):
    r = np.random.default_rng(seed)
    def props(img, names, height, foot, x=None, frost=0.0):
        known = [n for n in names if n in PROPS]
        at = r.choice([r.uniform(0, .22), r.uniform(.78, 1)]) if x is None else x
        return pasted(img, prop(known[r.integers(len(known))]), at, foot, height, frost) if known else img
    img, _ = scenes.DRAWN[place](r, props)
    sp = (sp.transpose(Image.FLIP_LEFT_RIGHT) if mirrored else sp).rotate(turn, Image.BICUBIC, expand=True)
    k = size / max(sp.size); w, h = sp.width * k, sp.height * k
    shade = np.exp(-(((scenes.XX - x) / (w * .4)) ** 2 + ((scenes.YY - foot) / (w * .07)) ** 2) ** 1.2)
    return Image.fromarray(pasted(img * (1 - .33 * shade[..., None]), sp, x, foot, h).astype(np.uint8))

def many(out, sp, n, seed, first=0):
    r = np.random.default_rng(seed); os.makedirs(out, exist_ok=True)
    for i in range(n):
        place = PLACES[i % len(PLACES)]
        picture(sp, place, r.uniform(.6, .88), bool(r.integers(2)), float(r.uniform(-6, 6)), float(r.uniform(.42, .58)), 100 * seed + i,
                float(r.uniform(.9, .97))).save(f"{out}/{first + i:02d}-{place}.png")

def main(out):
    scenes.S = SIDE; scenes.YY, scenes.XX = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE
    many(out + "/wizard-unseen", drawing(WIZARD), 18, 1); many(out + "/sister", drawing(SISTER), 9, 2); many(out + "/cat-unseen", drawing(CAT), 18, 3)
    for k, (d, c) in enumerate(zip(DOGS, CATS)): many(out + "/other-dogs", drawing(d), 3, 10 + k, 3 * k); many(out + "/other-cats", drawing(c), 3, 20 + k, 3 * k)
    os.makedirs(out + "/cat", exist_ok=True)
    for i, (place, size, mirrored, turn, x) in enumerate(TAUGHT): picture(drawing(CAT), place, size, mirrored, turn, x, 900 + i).save(f"{out}/cat/{i + 1:02d}.png")

if __name__ == "__main__": main(sys.argv[1])
