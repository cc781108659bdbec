#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# noise.sh BUILD [REFS [OURS]]: pictures of the pocket model by a GPU's noise (--rng cuda, a1111, --eta-noise-seed-delta),
# from text, from a picture and in two passes, made with BUILD/likeness and by diffusers whose every draw is
# tools/fixtures/philox.py's in the order of the program that --rng names: none may differ by more than one grey level in
# float32. Nothing is kept of diffusers' (REFS). PYTHON must have torch and diffusers.
exec "${PYTHON:-python3}" "$(dirname "$0")/noise.py" "$1/likeness" "${3:-/tmp/likeness-pictures}/noise"
