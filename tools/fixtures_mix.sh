#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# fixtures_mix.sh: makes tests/fixtures/mix with diffusers: the pocket model is taught for 20 updates (the run "text
# encoder" of tools/fixtures_train.py), then both take turns under "a sailboat at sea", seed 42. tests/test_program_mix.c
# does the same with likeness train and likeness generate. PYTHON must have torch and diffusers.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" tools/train_reference.py --pretrained_model_name_or_path models/pocket --instance_data_dir examples/subject \
    --instance_prompt "a photo of sks dog" --resolution 128 --train_batch_size 1 --max_train_steps 20 \
    --learning_rate 1e-4 --lr_warmup_steps 0 --train_text_encoder --seed 27 --output_dir "$work/tuned" >/dev/null
"$python" tools/mix_reference.py models/pocket "$work/tuned" "$work/mixed" --prompts 1 --seeds 42
mkdir -p tests/fixtures/mix
for run in base-tuned-15 tuned-base-35; do
    cp "$work/mixed/$run/a-sailboat-at-sea-42.png" "tests/fixtures/mix/$run.png"
done
