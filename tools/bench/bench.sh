#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench.sh BUILD: what `make bench` prints. From one run, on THREADS (2) threads, at the size of Stable Diffusion 1.5
# and SIZE (512) pixels, ours beside the peers'. PARTS (generate train small deal) chooses:
#
#   generate  a guided step (ours: one latent, two texts, what does not depend on them once; the peer has for it its
#             UNet's evaluation at batch 2), that evaluation by ours too, one VAE decode, one text encoding of two
#             prompts, in float32 and bfloat16; diffusers' (the faster of its default and its channels_last layout),
#             and OpenVINO's UNet, where PYTHON has openvino
#   train     a DreamBooth training step of the UNet at batch 1, latents and text at hand, without and with gradient
#             checkpointing; ours with 8-bit AdamW, diffusers' with bitsandbytes' and with torch's AdamW; then that of a
#             LoRA of rank 4, diffusers' by PEFT
#   small     a picture and a training step of the pocket model
#   deal      how busy 8 to 64 cores would be (bench_deal.c); takes one core
#
# Each row is a process of its own; seconds are the median of REPEATS (3; of emulated bfloat16 one) after one run to
# warm up, memory is the process's peak. The bars stand in generate.awk and train.awk; those of bfloat16 hold where the
# processor has AVX512-BF16. Elsewhere the peer emulates it, which is only printed.
#
# MODEL (/tmp/sd15-random) is made from tools/bench/sd15 and random weights (2.1 GB) when it is not there. PYTHON
# (python3) must have torch, diffusers and transformers for the peer's columns; openvino, peft and bitsandbytes for
# rows of their own: what it lacks is named, and left out. PEER=fast leaves out the peer's slow rows (float32 with
# bitsandbytes, emulated bfloat16), PEER=none all of them. Ours alone takes less than 15 minutes on two cores.
set -u
build=$1
model=${MODEL:-/tmp/sd15-random}
threads=${THREADS:-2}
repeats=${REPEATS:-3}
size=${SIZE:-512}
parts=${PARTS:-generate train small deal}
python=${PYTHON:-python3}
peer=${PEER:-all}
tools=$(dirname "$0")
load=$(cut -d" " -f1 /proc/loadavg)
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

lacks() { # those of the modules that Python does not find; all of them where there is no Python
    "$python" -c 'import importlib.util as u, sys; print(*(m for m in sys.argv[1:] if not u.find_spec(m)))' "$@" 2>/dev/null ||
        echo "$@"
}
has() { [ -z "$(lacks "$@")" ]; }
if [ "$peer" != none ]; then
    missing=$(lacks torch diffusers transformers)
    if [ -n "$missing" ]; then
        command -v "$python" >/dev/null && why="$python lacks $missing" || why="there is no $python"
        echo "bench: only ours is measured: $why (make bench PYTHON=/path/to/python-with-diffusers)" >&2
        peer=none
    else
        missing=$(lacks openvino peft bitsandbytes)
        [ -z "$missing" ] || echo "bench: without the rows of peers that need $missing, which $python lacks" >&2
    fi
fi
if [ ! -f "$model/model_index.json" ]; then
    echo "bench: making $model: random weights of Stable Diffusion 1.5's size" >&2
    mkdir -p "$model" && cp -r "$tools"/sd15/*/ "$model" && "$build/bench_model" "$model" >/dev/null &&
        cp "$tools/sd15/model_index.json" "$model" || exit 1
fi
widths=$(echo $(grep -m1 ^flags /proc/cpuinfo | tr ' ' '\n' | grep -xE 'avx2|avx512f|avx512_bf16|amx_bf16'))
native=no
[[ " $widths " == *" avx512_bf16 "* ]] && native=yes
wide_types="float32$([ $native = yes ] && echo ,bfloat16)" # those the processor computes in

touch "$work"/{ours,peer,openvino,ours-train,peer-train}
common=(--threads "$threads" --size "$size")

generate() {
    for row in guided unet vae text; do
        for type in f32 bf16; do
            local times=$repeats
            [ $type = f32 ] || [ $native = yes ] || times=1
            "$build/bench" "$model" $row $type "$threads" "$times" "$size" >>"$work/ours" || exit 1
        done
    done
    [ "$peer" = none ] && return
    "$python" "$tools/bench_diffusers.py" "$model" "${common[@]}" --repeats "$repeats" --types "$wide_types" \
        >>"$work/peer" || exit 1
    [ $native = yes ] || [ "$peer" = fast ] ||
        timeout 300 "$python" "$tools/bench_diffusers.py" "$model" "${common[@]}" --repeats 0 --types bfloat16 \
            --layouts default >>"$work/peer" ||
        echo "bench: the peer's emulated bfloat16 was stopped after 5 minutes; rows it lacks are empty" >&2
    ! has openvino || "$python" "$tools/bench_openvino.py" "$model" "${common[@]}" --repeats "$repeats" \
        --types "$wide_types" >>"$work/openvino" || exit 1
}

train() {
    for type in f32 $([ $native = yes ] && echo bf16); do
        for row in "adamw8bit no" "adamw8bit yes" "lora no" "lora yes"; do
            "$build/bench_train" "$model" $type $row "$threads" "$repeats" "$size" >>"$work/ours-train" || exit 1
        done
    done
    [ "$peer" = none ] && return
    peer_train() { # types optimizers
        "$python" "$tools/bench_train_diffusers.py" "$model" "${common[@]}" --types "$1" --optimizers "$2" \
            --checkpointing no,yes >>"$work/peer-train" || exit 1
    }
    local optimizers=adamw eight=
    ! has peft || optimizers+=,lora
    ! has bitsandbytes || eight=adamw8bit,
    peer_train float32 "$([ "$peer" = fast ] || echo $eight)$optimizers"
    [ $native = no ] || peer_train bfloat16 $eight$optimizers
}

# The median of five runs of a command, in seconds.
median_of() {
    for _ in 1 2 3 4 5; do
        local start=$EPOCHREALTIME
        "$@" >/dev/null 2>&1 || exit 1
        awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.3f\n", b - a }'
    done | sort -n | sed -n 3p
}

small() {
    local pocket=$tools/../../models/pocket out=$work/pocket.png
    printf '\nsmall models, float32\n'
    printf '%-40s %9s s\n' "a pocket picture, from start to end" \
        "$(median_of "$build/likeness" generate -p "a photo of a dog" --device cpu -t "$threads" --overwrite -o "$out")"
    "$build/bench_train" "$pocket" f32 adamw8bit no "$threads" 20 128 | awk -f "$tools/fields.awk" -f <(
        echo '{ printf "%-40s %9.4f s (forward %s, backward %s, update %s)\n", "a pocket training step", field("seconds"),
                       field("forward_s"), field("backward_s"), field("optimizer_s") }')
}

deal() {
    cat <<'END'

how busy more cores would be, from the time of each piece on one (tools/bench/deal.h). Counted: what is not dealt out,
waking threads, few and unequal pieces, work done once more because it is cut. Left out: that cores share memory and
last cache (GB/s: what the operands alone would ask for), and run slower when all of them do. So a machine reaches less.
END
    "$build/bench_deal" "$model" unet f32 8,16,32,64 2 "$size" &&
        "$build/bench_deal" "$model" train f32 8,16,32,64 2 "$size" &&
        "$build/bench_deal" "$tools/../../models/pocket" unet f32 8,16,32,64 5 128
}

[[ $parts != *generate* ]] || generate
[[ $parts != *train* ]] || train
echo "processor: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1) ($widths)"
[[ $parts != *generate* && $parts != *train* ]] ||
    echo "ours:      $(sed -n 's/.*"device": "\([^"]*\)".*/\1/p' "$work"/ours* | head -n 1)"
[ "$peer" = none ] || echo "peer:      $("$python" -c 'import torch, diffusers
print(f"diffusers {diffusers.__version__}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")'
    )$(sed -n 's/.*"layout": "\([^"]*\)".*/, \1/p' "$work/openvino" | head -n 1)"
echo "run:       $threads threads, ${size}x${size}, load before it $load"
[[ $parts != *generate* ]] ||
    awk -v native=$native -f "$tools/fields.awk" -f "$tools/generate.awk" "$work/ours" "$work/peer" "$work/openvino"
[[ $parts != *train* ]] || awk -f "$tools/fields.awk" -f "$tools/train.awk" "$work/ours-train" "$work/peer-train"
[[ $parts != *small* ]] || small
[[ $parts != *deal* ]] || deal
