#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# samplers.sh BUILD [REFS [OURS]]: a picture of the pocket model by every sampler (20 steps), and by some with Karras',
# exponential and beta sigmas, made with BUILD/likeness and compared with diffusers': none may differ by more than one
# grey level in float32. REFS (/tmp/likeness-references) is filled by tools/equality/reference_pictures.py when it has
# none; PYTHON must have torch, diffusers, scipy and torchsde for that, and numpy and Pillow for the comparison.
set -u
build=$1
refs=${2:-/tmp/likeness-references}/samplers
ours=${3:-/tmp/likeness-pictures}/samplers
python=${PYTHON:-python3}
tools=$(dirname "$0")

[ -f "$refs/a-photo-of-a-dog-tcd-20-42.png" ] ||
    "$python" "$tools/reference_pictures.py" "$(dirname "$refs")" --only samplers || exit 1
rm -rf "$ours"
plain=ddim,ddpm,pndm,euler,euler_a,heun,lms,dpm2,dpm2_a,dpmpp_2m,dpmpp_2m_sde,dpmpp_sde,unipc,deis,lcm,tcd
karras=euler_karras,heun_karras,lms_karras,dpm2_karras,dpmpp_2m_karras,dpmpp_2m_sde_karras,dpmpp_sde_karras
karras=$karras,unipc_karras,deis_karras,dpmpp_2m_exponential,dpmpp_2m_beta
"$build/likeness" generate -m "$tools/../../models/pocket" -t "${THREADS:-0}" -p "a photo of a dog" -s 42 \
    --sweep "sampler=$plain,$karras steps=20" -o "$ours/" || exit 1
"$python" "$tools/compare_pictures.py" "$refs" "$ours"
