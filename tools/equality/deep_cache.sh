#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# deep_cache.sh BUILD [REFS [OURS]]: pictures of the pocket model with deep features reused (--deep-cache), made with
# BUILD/likeness and compared with the same in Python on diffusers' UNet: none may differ by more than one grey level in
# float32. Then what reusing costs: the same pictures without. REFS (/tmp/likeness-references) is filled by
# tools/equality/deep_cache.py when it has none; PYTHON must have torch and diffusers for that, and numpy and Pillow.
set -u
build=$1
refs=${2:-/tmp/likeness-references}/deep
ours=${3:-/tmp/likeness-pictures}/deep
python=${PYTHON:-python3}
tools=$(dirname "$0")

[ -f "$refs/a-photo-of-a-dog-unipc-5-42.png" ] || "$python" "$tools/deep_cache.py" "$refs" || exit 1
rm -rf "$ours"
mkdir -p "$ours" "$ours-cost/full" "$ours-cost/reused"
likeness=("$build/likeness" generate -m "$tools/../../models/pocket" -t "${THREADS:-0}")
seven=(-p "a sailboat at sea" -p "a child playing" -p "a photo of a cat" -p "a photo of a dog" -p "a photo of sks dog"
    -p "a dog running on the beach" -p "a photo of a dog in the park" -s 42-44)
"${likeness[@]}" "${seven[@]}" --overwrite -o "$ours-cost/full/" || exit 1
"${likeness[@]}" "${seven[@]}" --overwrite --deep-cache 3 -o "$ours-cost/reused/" || exit 1
for picture in "$ours-cost/reused/"*.png; do
    name=$(basename "$picture" .png)
    cp "$picture" "$ours/${name%-*}-ddim-3-${name##*-}.png"
done
for n in 2 3 5; do
    "${likeness[@]}" -p "a photo of a dog" -s 42 --sweep "sampler=ddim,euler_a,dpmpp_2m,heun,unipc" --deep-cache $n \
        --overwrite -o "$ours/by-$n/" || exit 1
    for picture in "$ours/by-$n/"*.png; do
        name=$(basename "$picture" -42.png)
        mv "$picture" "$ours/${name%-50}-$n-42.png"
    done
done
"$python" "$tools/compare_pictures.py" "$refs" "$ours"
status=$?
echo "what it costs: deep cache 3 against none"
"$python" "$tools/compare_pictures.py" "$ours-cost/full" "$ours-cost/reused" --limit 255 --brief
exit $status
