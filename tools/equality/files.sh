#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# files.sh BUILD [REFS [OURS]]: the pocket model as GGUF (F16, Q8_0), as one file, and with a LoRA that is switched on in
# mid-run, made with BUILD/likeness and by diffusers: none may differ by more than one grey level in float32; and
# --extract-lora against torch's singular values. Nothing is kept of diffusers' (REFS). PYTHON must have torch,
# diffusers and gguf (the rows of GGUF are passed over where that is missing).
exec "${PYTHON:-python3}" "$(dirname "$0")/files.py" "$1/likeness" "${3:-/tmp/likeness-pictures}/files"
