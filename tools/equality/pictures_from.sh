#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# pictures_from.sh BUILD [REFS [OURS]]: pictures of the pocket model that begin with a picture, by every sampler: changed
# (--init-image), repainted in part (--mask; also by a network with 9 input channels), made with BUILD/likeness and
# compared with diffusers': none may differ by more than one grey level in float32. REFS (/tmp/likeness-references) is
# filled by tools/equality/pictures_from.py when it has none; PYTHON must have torch, diffusers, scipy and torchsde for
# that, and numpy and Pillow for the comparison.
set -u
build=$1
refs=${2:-/tmp/likeness-references}/from
ours=${3:-/tmp/likeness-pictures}/from
python=${PYTHON:-python3}
tools=$(dirname "$0")

[ -f "$refs/nine-whole/a-photo-of-a-dog-unipc-20-42.png" ] || "$python" "$tools/pictures_from.py" "$refs" || exit 1
rm -rf "$ours"
make_with() { # MODEL FOLDER FLAGS...
    local model=$1 folder=$2
    shift 2
    "$build/likeness" generate -m "$refs/inputs/$model" -t "${THREADS:-0}" -p "a photo of a dog" -o "$ours/$folder/" \
        --init-image "$refs/inputs/init.png" "$@" || exit 1
}
all=ddim,ddpm,pndm,euler,euler_a,heun,lms,dpm2,dpm2_a,dpmpp_2m,dpmpp_2m_sde,dpmpp_sde,unipc,deis,tcd
karras=euler_karras,heun_karras,lms_karras,dpm2_karras,dpmpp_2m_karras,dpmpp_2m_sde_karras,unipc_karras,deis_karras
few=ddim,ddpm,euler,euler_a,heun,dpm2,dpmpp_2m,unipc
mask="--mask $refs/inputs/mask.png"
make_with plms img2img -s 42 --strength 0.6 --sweep "sampler=$all,$karras steps=20"
make_with plms img2img -s 42 --strength 0.6 --sweep "sampler=lcm steps=4"
for strength in 0.05 0.1 0.35 0.95 1; do
    make_with plms "strength/$strength" -s 42,43 --sampler ddim --steps 20 --strength $strength
    for seed in 42 43; do
        mv "$ours/strength/$strength/a-photo-of-a-dog-$seed.png" "$ours/strength/a-photo-of-a-dog-$strength-$seed.png"
    done
done
make_with plms inpaint -s 42 --strength 0.75 $mask --sweep "sampler=$all steps=20"
make_with plms inpaint -s 42 --strength 0.75 $mask --sweep "sampler=lcm steps=4"
make_with plms whole -s 42 --strength 1 $mask --sweep "sampler=$few,pndm steps=20"
make_with plms whole -s 42 --strength 1 $mask --sweep "sampler=lcm steps=4"
make_with inpainting nine -s 42 --strength 0.75 $mask --sweep "sampler=$few steps=20"
make_with inpainting nine -s 42 --strength 0.75 $mask --sweep "sampler=lcm steps=4"
make_with inpainting nine-whole -s 42 --strength 1 $mask --sweep "sampler=$few steps=20"
make_with inpainting nine-whole -s 42 --strength 1 $mask --sweep "sampler=lcm steps=4"
"$build/likeness" generate -m "$refs/inputs/plms" -t "${THREADS:-0}" -p "a photo of a dog" -s 42 -o "$ours/hires/" \
    --hires 1.5 --sweep "sampler=ddim,pndm,euler_a,dpmpp_2m,heun steps=20" || exit 1
for upscaler in latent-antialiased latent-bicubic latent-nearest-exact; do
    "$build/likeness" generate -m "$refs/inputs/plms" -t "${THREADS:-0}" -p "a photo of a dog" -s 42 --sampler ddim \
        --steps 20 --hires 1.5 --hires-steps 8 --hires-strength 0.6 --hires-upscaler $upscaler \
        -o "$ours/hires/a-photo-of-a-dog-$upscaler-42.png" || exit 1
done
"$build/likeness" generate -m "$refs/inputs/plms" -t "${THREADS:-0}" -p "a photo of a dog" -s 42 --sampler ddim --steps 20 \
    -W 208 -H 160 --tile -o "$ours/tile/text.png" || exit 1
"$build/likeness" generate -m "$refs/inputs/plms" -t "${THREADS:-0}" -p "a photo of a dog" -s 42 --sampler ddim --steps 20 \
    -W 208 -H 160 --tile -i "$refs/inputs/init.png" --strength 0.6 -o "$ours/tile/picture.png" || exit 1
status=0
for folder in img2img strength inpaint whole nine nine-whole hires tile; do
    echo "$folder:"
    "$python" "$tools/compare_pictures.py" "$refs/$folder" "$ours/$folder" || status=1
done
exit $status
