#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# mix.sh BUILD TUNED [REFS [OURS]]: the pictures of tools/equality/mix_reference.py (the pocket model and TUNED, a model
# trained from it, take turns) made with BUILD/likeness and compared: none may differ by more than one grey level. REFS
# (/tmp/likeness-mix-references) is filled with diffusers when it is empty; PYTHON must have torch and diffusers for
# that, and numpy and Pillow for the comparison. PROMPTS: how many of the seven prompts (all).
set -u
build=$1
tuned=$2
refs=${3:-/tmp/likeness-mix-references}
ours=${4:-/tmp/likeness-mix-pictures}
python=${PYTHON:-python3}
tools=$(dirname "$0")
base=$tools/../../models/pocket
prompts=("a sailboat at sea" "a child playing" "a photo of a cat" "a photo of a dog" "a photo of sks dog"
    "a dog running on the beach" "a photo of a dog in the park")
prompts=("${prompts[@]:0:${PROMPTS:-7}}")

[ -d "$refs/base-tuned-0" ] ||
    "$python" "$tools/mix_reference.py" "$base" "$tuned" "$refs" --prompts "${#prompts[@]}" || exit 1
rm -rf "$ours"
flags=()
for p in "${prompts[@]}"; do flags+=(-p "$p"); done
start=$SECONDS
for run in "base tuned 0" "base tuned 15" "base tuned 40" "tuned base 10" "tuned base 35" "tuned base 50"; do
    read -r first second at <<<"$run"
    "$build/likeness" generate --overwrite -m base="$base" -m tuned="$tuned" -t "${THREADS:-0}" \
        --schedule "$first x$at, $second rest" "${flags[@]}" -s 42-44 -o "$ours/$first-$second-$at/" || exit 1
done
echo "our pictures took $((SECONDS - start)) s"
"$python" "$tools/compare_pictures.py" "$refs" "$ours" --brief
