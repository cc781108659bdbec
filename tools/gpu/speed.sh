#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# speed.sh: on a machine with an NVIDIA GPU, the table of speed at Stable Diffusion 1.5's size and 512x512: ours, and
# diffusers' on the same card from the same run where PYTHON (python3) has it (COMPILE=yes: under torch.compile too, for
# minutes). MODEL (/tmp/sd15-random) is made of random weights where it is not there (bench_model). Medians of REPEATS (20)
# runs; memory is what the card gave for weights, graph and library code, and the peer's allocator's peak.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tools/gpu/common.sh
model=${MODEL:-/tmp/sd15-random}
repeats=${REPEATS:-20}
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
find_build || exit 1
if [ ! $packed ] && ! { make && make cuda && cmake --build build --target benches; } >"$work/log" 2>&1; then
    tail "$work/log"
    exit 1
fi
[ -e "$model/model_index.json" ] || {
    mkdir -p "$model" && cp -r tools/bench/sd15/*/ "$model" && "${ours[@]}" "$build/bench_model" "$model" >/dev/null &&
        cp tools/bench/sd15/model_index.json "$model"
} || exit 1

bench() { # name, program and its words
    local name=$1
    shift
    "${ours[@]}" "$build/$1" "$model" "${@:2}" >>"$work/$name" 2>"$work/error" || { tail -n 1 "$work/error"; return 1; }
}
: >"$work/peer"
if "$python" -c 'import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ("torch", "diffusers"))))' 2>/dev/null; then
    # shellcheck disable=SC2086
    "$python" tools/gpu/bench_peer.py --rows unet,unet_f16,vae,train,train4 ${COMPILE:+--compile} >>"$work/peer" || echo "the peer stopped"
fi
for type in bf16 f16 f32; do bench unet bench unet $type 4 "$repeats" 512 cuda; done
for type in bf16 f16; do bench vae bench vae $type 4 "$repeats" 512 cuda; done
bench text bench text bf16 4 "$repeats" 512 cuda
for batch in 1 4; do bench train$batch bench_train bf16 adamw no 4 10 512 cuda $batch; done
bench train bench_train bf16 adamw8bit yes 4 10 512 cuda
bench train bench_train f32 adamw no 4 5 512 cuda

field() { sed -n "s/.*\"$1\": \"\{0,1\}\([^,\"}]*\).*/\1/p"; }
row() { # words, file of ours, which line, row of the peer
    local line ours peer
    line=$(sed -n "$3p" "$work/$2" 2>/dev/null)
    [ -n "$line" ] || return
    ours=$(field seconds <<<"$line" | awk '{ printf "%.2f", $1 * 1000 }')
    peer=$(grep "\"row\": \"$4\"" "$work/peer" | field ms)
    printf '%-52s %9s %9s %7s %9s %9s\n' "$1" "$ours" "${peer:--}" "$([ -z "$peer" ] || awk -v a="$peer" -v b="$ours" 'BEGIN { printf "%.2f", a / b }')" \
        "$(field device_mb <<<"$line")" "$(grep "\"row\": \"$4\"" "$work/peer" | field peak_mb)"
}
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null
printf '%-52s %9s %9s %7s %9s %9s\n' "512x512, milliseconds" ours diffusers ratio "our MB" "their MB"
row "UNet, batch 2 (a guided step), bf16" unet 1 unet
row "the same, against torch.compile" unet 1 unet_compiled
row "the same, f16" unet 2 unet_f16
row "the same, f32" unet 3 unet_f32
row "VAE decode, bf16" vae 1 vae
row "VAE decode, f16" vae 2 vae_f16
row "text, two prompts, bf16" text 1 text
row "DreamBooth step, bf16, AdamW, batch 1" train1 1 train
row "the same, batch 4" train4 1 train4
row "the same, 8-bit AdamW, checkpointing, batch 1" train 1 train_8bit
row "the same, f32, AdamW, batch 1" train 2 train_f32

# Whole pictures: two more of 50 steps, and their decoding, in a run that is warm
for type in bf16 f16; do
    for count in 1 3; do
        begin=$(date +%s.%N)
        "${likeness[@]}" generate --device cuda --precision $type -m "$model" -p "a dog" -s 1-$count --steps 50 -o "$work/pictures/" --overwrite >/dev/null 2>"$work/error" || tail -n 1 "$work/error"
        end=$(date +%s.%N)
        [ $count = 1 ] && one=$(awk -v a="$begin" -v b="$end" 'BEGIN { print b - a }')
    done
    step=$(sed -n "$([ $type = bf16 ] && echo 1 || echo 2)p" "$work/unet" | field seconds)
    awk -v a="$begin" -v b="$end" -v one="$one" -v step="${step:-0}" -v type=$type 'BEGIN { p = (b - a - one) / 2;
        printf "%s, 50 DDIM steps and decoding: %.3f s a picture, %.2f of 50 steps; the first picture, start included: %.2f s\n", type, p, step ? p / (50 * step) : 0, one }'
done
