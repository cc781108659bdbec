#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# lcm_lora.sh BUILD [REFS [OURS]]: four steps of LCM with a LoRA in the form of lcm-lora-sdv1-5 (tools/equality/
# lcm_lora.py), pocket model, guidance 1 to 2, made with BUILD/likeness and compared with diffusers and peft: none may
# differ by more than one grey level in float32. REFS (/tmp/likeness-references) is filled when it has none; PYTHON must
# have torch, diffusers and peft for that, and numpy and Pillow for the comparison.
set -u
build=$1
refs=${2:-/tmp/likeness-references}/lcm
ours=${3:-/tmp/likeness-pictures}/lcm
python=${PYTHON:-python3}
tools=$(dirname "$0")

[ -f "$refs/2-43.png" ] || "$python" "$tools/lcm_lora.py" "$refs" || exit 1
rm -rf "$ours"
mkdir -p "$ours"
for guidance in 1 1.5 2; do
    for seed in 42 43; do
        "$build/likeness" generate -m "$tools/../../models/pocket" -t "${THREADS:-0}" -p "a photo of a dog" -s $seed \
            --lora "$refs-lora/lcm.safetensors" --sampler lcm --steps 4 --guidance $guidance \
            -o "$ours/$guidance-$seed.png" || exit 1
    done
done
"$python" "$tools/compare_pictures.py" "$refs" "$ours"
