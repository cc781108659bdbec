#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# clip_tokenizer.sh [FOLDER]: writes the merges of CLIP's tokenizer (OpenAI, MIT licence), which Stable Diffusion
# 1.x reads prompts with, into FOLDER (models/clip-tokenizer): out of the Python package open_clip_torch, which
# pip fetches; the package itself is not installed. Does nothing where they are. Exit status 1, after one line
# that says why, where they cannot be had.
set -u
folder=${1:-$(dirname "$0")/../../models/clip-tokenizer}
sum=924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a
file=open_clip/bpe_simple_vocab_16e6.txt.gz
PYTHON=${PYTHON:-python3}

[ ! -s "$folder/merges.txt" ] || exit 0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
fail() {
    echo "clip_tokenizer: $1; only single-file checkpoints (.safetensors) need it: try again with" \
        "\"make clip-tokenizer\", or give a folder that has its merges.txt with --tokenizer"
    exit 1
}
command -v "$PYTHON" >/dev/null && "$PYTHON" -m pip --version >/dev/null 2>&1 ||
    fail "CLIP's tokenizer is not fetched, for there is no $PYTHON with pip"
timeout 120 "$PYTHON" -m pip --disable-pip-version-check download -q --no-deps --only-binary :all: --retries 1 \
    --timeout 10 -d "$work" open_clip_torch >"$work/log" 2>&1 ||
    fail "CLIP's tokenizer is not fetched, for pip cannot get open_clip_torch"
(cd "$work" && "$PYTHON" -m zipfile -e open_clip_torch-*.whl . && cat open_clip_torch-*.dist-info/licenses/LICENSE >LICENSE &&
    echo "$sum  $file" | sha256sum --quiet -c) >"$work/log" 2>&1 ||
    fail "open_clip_torch does not hold CLIP's merges as they were"
# The first line is a comment, and what stands past the 48,894 merges was never used.
{
    echo "#version: 0.2"
    gzip -dc "$work/$file" | sed -n '2,48895p;48895q'
} >"$work/merges.txt" && mkdir -p "$folder" && cp "$work/LICENSE" "$folder/LICENSE" &&
    mv "$work/merges.txt" "$folder/merges.txt" || fail "$folder cannot be written"
echo "CLIP's tokenizer (MIT licence, out of open_clip_torch) is in $folder"
