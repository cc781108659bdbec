#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# control.sh BUILD [REFS [OURS]]: pictures of the pocket model with one ControlNet and two, their picture resized or not,
# several samplers, and by one in the original names, made with BUILD/likeness and compared with diffusers'
# StableDiffusionControlNetPipeline: none may differ by more than one grey level in float32. REFS
# (/tmp/likeness-references) is filled by tools/equality/control.py when it has none; PYTHON must have torch and
# diffusers for that, and numpy and Pillow for the comparison.
set -u
build=$1
refs=${2:-/tmp/likeness-references}/control
ours=${3:-/tmp/likeness-pictures}/control
python=${PYTHON:-python3}
tools=$(dirname "$0")

[ -f "$refs/unguided.png" ] || "$python" "$tools/control.py" "$refs" || exit 1
rm -rf "$ours"
mkdir -p "$ours"
cp "$refs/one.png" "$refs/original.png"
nets=$refs-nets
make() {
    local name=$1
    shift
    "$build/likeness" generate -m "$tools/../../models/pocket" -t "${THREADS:-0}" -p "a photo of a dog" -s 42 "$@" \
        -o "$ours/$name.png" || exit 1
}
make one --sampler ddim --steps 20 --control "$nets/a:$nets/edges.png"
make original --sampler ddim --steps 20 --control "$nets/original/control.safetensors:$nets/edges.png"
make resized --sampler ddim --steps 20 --control "$nets/a:$nets/wide.png:1"
make scaled --sampler euler_a --steps 20 --control "$nets/b:$nets/edges.png:0.45"
make two --sampler dpmpp_2m --steps 20 --guidance 5 --control "$nets/a:$nets/edges.png:0.7" \
    --control "$nets/b:$nets/wide.png:0.4"
make unguided --sampler heun --steps 10 --guidance 1 --control "$nets/a:$nets/edges.png"
"$python" "$tools/compare_pictures.py" "$refs" "$ours"
