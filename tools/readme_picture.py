# SPDX-License-Identifier: Apache-2.0
"""Makes docs/pictures/dreambooth.png, the picture of the README, with build/likeness and the models that `make demo`
has taught: five prompts, two seeds each, before DreamBooth, after it, and after it with prior preservation.

python tools/readme_picture.py [out/study]       (needs Pillow; about half a minute)
"""
import pathlib
import subprocess
import sys
import tempfile
import textwrap

from PIL import Image, ImageDraw, ImageFont

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMPTS = ["a photo of sks dog", "a photo of a dog", "a dog running on the beach", "a photo of a cat",
           "a sailboat at sea"]
SEEDS = [42, 44]
FONT = ImageFont.truetype("DejaVuSans.ttf", 14)
LEFT, TOP, SIDE, GAP, GROUP = 170, 42, 128, 4, 16


def pictures(model, folder):
    """{(prompt, seed): picture}, read back by the settings that each carries."""
    subprocess.run([ROOT / "build/likeness", "generate", "-m", model, "-s", ",".join(map(str, SEEDS)), "-o", f"{folder}/",
                    *(word for prompt in PROMPTS for word in ("-p", prompt))], check=True)
    found = {}
    for path in pathlib.Path(folder).glob("*.png"):
        picture = Image.open(path)
        prompt, settings = picture.text["parameters"].rsplit("\n", 1)
        found[prompt, int(settings.split("Seed: ")[1].split(",")[0])] = picture.convert("RGB")
    return found


def main():
    study = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "out/study")
    groups = [("before DreamBooth", ROOT / "models/pocket"), ("after it", study / "models/tuned"),
              ("after it, with prior preservation", study / "models/prior")]
    wide = len(SEEDS) * (SIDE + GAP) + GROUP
    sheet = Image.new("RGB", (LEFT + len(groups) * wide, TOP + len(PROMPTS) * (SIDE + GAP) + GROUP), "white")
    draw = ImageDraw.Draw(sheet)
    for y, prompt in enumerate(PROMPTS):
        draw.text((GROUP, TOP + y * (SIDE + GAP) + SIDE // 2), textwrap.fill(prompt, 19), (34, 34, 34), FONT, "lm")
    for g, (label, model) in enumerate(groups):
        draw.text((LEFT + g * wide + SIDE + GAP // 2, TOP // 2), label, (34, 34, 34), FONT, "mm")
        with tempfile.TemporaryDirectory() as folder:
            made = pictures(model, folder)
        for y, prompt in enumerate(PROMPTS):
            for x, seed in enumerate(SEEDS):
                sheet.paste(made[prompt, seed], (LEFT + g * wide + x * (SIDE + GAP), TOP + y * (SIDE + GAP)))
    sheet.save(ROOT / "docs/pictures/dreambooth.png", optimize=True)


if __name__ == "__main__":
    main()
