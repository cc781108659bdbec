#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# pictures.sh BUILD [REFS [OURS]]: makes every picture of tools/equality/reference_pictures.py with build/likeness and compares: in
# float32 none may differ by more than one grey level; in bfloat16 the median PSNR of the seven prompts against our
# float32 must be at least 35 dB. REFS (/tmp/likeness-references) is filled with diffusers when it is empty (ten
# minutes); PYTHON must have torch and diffusers for that, and numpy and Pillow for the comparison.
set -u
build=$1
refs=${2:-/tmp/likeness-references}
ours=${3:-/tmp/likeness-pictures}
python=${PYTHON:-python3}
tools=$(dirname "$0")
failed=0

[ -f "$refs/a-photo-of-a-dog-42.png" ] || "$python" "$tools/reference_pictures.py" "$refs" || exit 1
rm -rf "$ours/f32" "$ours/bf16"
seven=(-p "a sailboat at sea" -p "a child playing" -p "a photo of a cat" -p "a photo of a dog" -p "a photo of sks dog"
    -p "a dog running on the beach" -p "a photo of a dog in the park")
two=(-p "a photo of a dog" -p "a photo of sks dog")
generate() { "$build/likeness" generate --overwrite -m "$tools/../../models/pocket" -t "${THREADS:-0}" "$@" || exit 1; }

start=$SECONDS
generate "${seven[@]}" -s 42-44 -o "$ours/f32/"
generate "${two[@]}" -s 42-45 --sweep "sampler=ddpm,ddim steps=200,50,10" -o "$ours/f32/"
generate "${two[@]}" -s 42-45 --sweep "sampler=ddpm steps=200,50,10" --variance fixed_large -o "$ours/f32/fixed_large/"
generate "${seven[@]}" -s 42-44 --precision bf16 -o "$ours/bf16/"
echo "our pictures took $((SECONDS - start)) s"

echo "float32 against diffusers:"
"$python" "$tools/compare_pictures.py" "$refs" "$ours/f32" --brief || failed=1
for f in "$ours"/bf16/*.png; do
    mkdir -p "$ours/f32-seven" && cp "$ours/f32/$(basename "$f")" "$ours/f32-seven/"
done
echo "bfloat16 against our float32:"
"$python" "$tools/compare_pictures.py" "$ours/f32-seven" "$ours/bf16" --brief --limit 255 --psnr 35 || failed=1
exit $failed
