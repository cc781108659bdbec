#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# lora_training.sh BUILD [REFS [OURS]]: LoRAs that BUILD/likeness trained on the pocket model, in diffusers' and in kohya's names, with
# and without the text encoder, are loaded by diffusers (load_lora_weights) and by --lora: the pictures may not differ by
# more than one grey level. Then one that train_reference.py trained with PEFT for 50 steps beside ours of the same
# settings: their matrices' products and their pictures. PYTHON must have torch, diffusers, peft, numpy and Pillow.
set -u
build=$1
work=${3:-/tmp/likeness-pictures}/lora-training # all of it is made anew
python=${PYTHON:-python3}
tools=$(cd "$(dirname "$0")" && pwd)
root=$tools/../..
cd "$root" || exit 1

rm -rf "$work"
mkdir -p "$work"
train() { # NAME FLAGS...
    local name=$1
    shift
    "$build/likeness" train -m models/pocket -t "${THREADS:-0}" --instance_data_dir examples/subject \
        --instance_prompt "a photo of sks dog" --resolution 128 --train_batch_size 1 --seed 7 --output_kohya_format \
        --output_dir "$work/$name" "$@" >/dev/null 2>"$work/$name.log" || { cat "$work/$name.log"; exit 1; }
}
train unet --lora_rank 4 --max_train_steps 50
train both --lora_rank 4 --max_train_steps 50 --train_text_encoder
train alpha --lora_rank 3 --lora_alpha 7.5 --max_train_steps 30 --learning_rate 2e-3 --train_text_encoder
OMP_NUM_THREADS=${THREADS:-2} "$python" tools/equality/train_reference.py --pretrained_model_name_or_path models/pocket \
    --instance_data_dir examples/subject --instance_prompt "a photo of sks dog" --resolution 128 --train_batch_size 1 \
    --seed 7 --rank 4 --train_text_encoder --max_train_steps 50 --learning_rate 5e-4 --output_dir "$work/reference" \
    --log "$work/reference.json" 2>"$work/reference.log" || { tail -3 "$work/reference.log"; exit 1; }
"$python" "$tools/lora_training.py" "$work" 2>"$work/pictures.log" || { tail -3 "$work/pictures.log"; exit 1; }
status=0
for name in unet unet-kohya both both-kohya alpha alpha-kohya reference; do
    file=$work/${name%-kohya}/pytorch_lora_weights.safetensors
    [ "$name" = "${name%-kohya}" ] || file=$work/${name%-kohya}/pytorch_lora_weights_kohya.safetensors
    "$build/likeness" generate -m models/pocket -t "${THREADS:-0}" -p "a photo of sks dog" -p "a photo of a cat" -s 42 \
        --sampler ddim --steps 20 --lora "$file" -o "$work/ours/$name/" >/dev/null 2>&1 || exit 1
    echo "$name:"
    "$python" "$tools/compare_pictures.py" "$work/refs/$name" "$work/ours/$name" || status=1
done
echo "both, against reference:"
"$python" "$tools/compare_pictures.py" "$work/refs/reference" "$work/ours/both" || status=1
exit $status
