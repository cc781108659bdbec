#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# prompts.sh BUILD [REFS [OURS]]: pictures of the pocket model from prompts in AUTOMATIC1111's syntax (weights, any length,
# BREAK, editing, turns, AND), made with BUILD/likeness and compared with tools/equality/prompts.py's: none may differ by
# more than one grey level in float32. REFS (/tmp/likeness-references) is filled when it has none; PYTHON must have torch,
# diffusers and transformers for that, and numpy and Pillow for the comparison.
set -u
build=$1
refs=${2:-/tmp/likeness-references}/prompts
ours=${3:-/tmp/likeness-pictures}/prompts
python=${PYTHON:-python3}
tools=$(dirname "$0")

[ -f "$refs/edit-pndm.png" ] || "$python" "$tools/prompts.py" "$refs" || exit 1
rm -rf "$ours"
while IFS=$'\t' read -r name prompt negative sampler steps skip; do
    "$build/likeness" generate -m "$tools/../../models/pocket" -t "${THREADS:-0}" --prompt-syntax a1111 -p "$prompt" \
        -n "$negative" --sampler "$sampler" --steps "$steps" --clip-skip "$skip" -s 42 -o "$ours/$name.png" \
        </dev/null >/dev/null 2>&1 || { echo "$name: failed"; exit 1; }
done < <("$python" "$tools/prompts.py" --list)
"$python" "$tools/compare_pictures.py" "$refs" "$ours"
