#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# taesd.sh BUILD [REFS [OURS]]: pictures of the pocket model decoded by a tiny autoencoder of TAESD's shape with random
# weights (as a folder of diffusers, and in the original names as .safetensors and .pth), made with BUILD/likeness and
# compared with diffusers' AutoencoderTiny in its pipeline: none may differ by more than one grey level in float32. REFS
# (/tmp/likeness-references) is filled by tools/equality/taesd.py when it has none; PYTHON must have torch and diffusers
# for that, and numpy and Pillow for the comparison.
set -u
build=$1
refs=${2:-/tmp/likeness-references}/taesd
ours=${3:-/tmp/likeness-pictures}/taesd
python=${PYTHON:-python3}
tools=$(dirname "$0")

[ -f "$refs/wide.png" ] || "$python" "$tools/taesd.py" "$refs" || exit 1
rm -rf "$ours"
mkdir -p "$ours"
cp "$refs/folder.png" "$refs/original.png"
cp "$refs/folder.png" "$refs/pth.png"
nets=$refs-nets
make() {
    local name=$1 tiny=$2
    shift 2
    "$build/likeness" generate -m "$tools/../../models/pocket" -t "${THREADS:-0}" -p "a photo of a dog" --steps 20 \
        --taesd "$nets/$tiny" "$@" -o "$ours/$name.png" || exit 1
}
make folder tiny -s 42 --sampler ddim
make original taesd_decoder.safetensors -s 42 --sampler ddim
make pth taesd_decoder.pth -s 42 --sampler ddim
make guided tiny -s 7 --sampler dpmpp_2m --guidance 5
make wide tiny -s 42 --sampler euler_a -W 160
"$python" "$tools/compare_pictures.py" "$refs" "$ours"
