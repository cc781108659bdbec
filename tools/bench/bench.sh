#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench.sh BUILD: the table of `make bench`. From one run, on THREADS (2) threads, at the size of Stable
# Diffusion 1.5 and SIZE (512) pixels: one UNet evaluation at batch 2 (one guided step), one VAE decode, one
# text encoding of two prompts; float32 and bfloat16; ours, then diffusers' (the faster of its default and its
# channels_last layout). Each row is a process of its own; seconds are the median of REPEATS (3) after one run
# to warm up, memory is the process's peak.
#
# MODEL (/tmp/sd15-random) is made by tools/bench/make_sd15.py when it is not there. PYTHON (python3) must have torch
# and diffusers for the peer's columns and for making the model; without them ours alone is printed.
#
# Bars (against the peer, same run): no row slower, none with more memory, UNet float32 1.5 times as fast, bfloat16
# 1.3 times, VAE decode float32 2 times. Where the processor lacks AVX-512-BF16, the peer's bfloat16 is emulated and
# only printed (one run, 5 minutes at most), and ours has to be no slower than 1.1 times our float32.
#
# Then a DreamBooth training step of the UNet at batch 1, latents and text at hand, 8-bit AdamW, without and with
# gradient checkpointing: forward, backward, update (clipping included), peak memory. Bars: 1.5 times as fast as
# diffusers with bitsandbytes in float32; in bfloat16, where the processor has it, 2 times, and 1.2 times as fast as
# with torch's AdamW; with checkpointing at most 10 GB. PARTS (generate train) chooses.
set -u
build=$1
model=${MODEL:-/tmp/sd15-random}
threads=${THREADS:-2}
repeats=${REPEATS:-3}
size=${SIZE:-512}
parts=${PARTS:-generate train}
python=${PYTHON:-python3}
tools=$(dirname "$0")
load=$(cut -d" " -f1 /proc/loadavg)
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

peer=yes
"$python" -c 'import importlib.util as u, sys
sys.exit(not all(map(u.find_spec, ("torch", "diffusers", "transformers"))))' 2>/dev/null || {
    echo "bench: $python has no torch and diffusers; only ours is measured (make bench PYTHON=/path/to/python)" >&2
    peer=no
}
if [ ! -f "$model/model_index.json" ]; then
    [ $peer = yes ] || { echo "bench: there is no model in $model; make one with tools/bench/make_sd15.py" >&2; exit 1; }
    "$python" "$tools/make_sd15.py" "$model" || exit 1
fi
widths=$(echo $(grep -m1 ^flags /proc/cpuinfo | tr ' ' '\n' | grep -xE 'avx2|avx512f|avx512_bf16|amx_bf16'))
native=no
[[ " $widths " == *" avx512_bf16 "* ]] && native=yes

for row in $([[ $parts == *generate* ]] && echo unet vae text); do
    for type in f32 bf16; do
        "$build/bench" "$model" $row $type "$threads" "$repeats" "$size" >>"$work/ours" || exit 1
    done
done
: >"$work/peer"
if [ $peer = yes ] && [[ $parts == *generate* ]]; then
    "$python" "$tools/bench_diffusers.py" "$model" --threads "$threads" --repeats "$repeats" --size "$size" \
        --types "float32$([ $native = yes ] && echo ,bfloat16)" >>"$work/peer" || exit 1
    [ $native = yes ] || timeout 300 "$python" "$tools/bench_diffusers.py" "$model" --threads "$threads" \
        --repeats 0 --size "$size" --types bfloat16 --layouts default >>"$work/peer" ||
        echo "bench: the peer's emulated bfloat16 was stopped after 5 minutes; rows it lacks are empty" >&2
fi

if [[ $parts == *train* ]]; then
    types="float32$([ $native = yes ] && echo ,bfloat16)"
    optimizers="adamw8bit$([ $native = yes ] && echo ,adamw)"
    for type in f32 $([ $native = yes ] && echo bf16); do
        for checkpointing in no yes; do
            "$build/bench_train" "$model" $type adamw8bit $checkpointing "$threads" "$repeats" "$size" \
                >>"$work/ours-train" || exit 1
        done
    done
    [ $peer = no ] || "$python" "$tools/bench_train_diffusers.py" "$model" --threads "$threads" --size "$size" \
        --types "$types" --optimizers "$optimizers" --checkpointing no,yes >>"$work/peer-train" || exit 1
fi

echo "processor: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1) ($widths)"
echo "ours:      $(sed -n 's/.*"device": "\([^"]*\)".*/\1/p' "$work"/ours* | head -n 1)"
[ $peer = yes ] && echo "peer:      $("$python" -c 'import torch, diffusers
print(f"diffusers {diffusers.__version__}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")')"
echo "run:       $threads threads, ${size}x${size}, load before it $load"
[[ $parts != *generate* ]] || awk -v native=$native '
    function field(name,   t) {
        if (!match($0, "\"" name "\": [^,}]*")) return ""
        t = substr($0, RSTART, RLENGTH); sub(/^[^:]*: /, "", t); gsub(/"/, "", t)
        return t
    }
    !/"row":/ { next }
    { key = field("row") " " field("type") }
    FILENAME ~ /ours$/ { order[++n] = key; ours[key] = field("seconds"); ours_mb[key] = field("peak_mb"); next }
    !(key in peer) || field("seconds") + 0 < peer[key] {
        peer[key] = field("seconds") + 0; peer_mb[key] = field("peak_mb") + 0; layout[key] = field("layout")
    }
    END {
        bar["unet float32"] = 1.5; bar["unet bfloat16"] = 1.3; bar["vae float32"] = 2
        printf "%-14s %9s %9s %7s %9s %9s  %s\n", "row", "ours s", "peer s", "ratio", "ours MB", "peer MB", "bar"
        for (i = 1; i <= n; i++) {
            key = order[i]; split(key, part, " ")
            emulated = part[2] == "bfloat16" && native == "no"
            if (emulated) {
                own = ours[key] / ours[part[1] " float32"]
                note = sprintf("%.2f of our float32, at most 1.10: %s (no AVX-512-BF16%s)", own,
                               own <= 1.1 ? "met" : "MISSED", key in peer ? "; peer emulates" : "")
            } else if (key in peer) {
                want = key in bar ? bar[key] : 1
                note = sprintf("%.1f times: %s, memory: %s (%s)", want, peer[key] / ours[key] >= want ? "met" : "MISSED",
                               ours_mb[key] + 0 <= peer_mb[key] + 0 ? "met" : "MISSED", layout[key])
            } else note = ""
            if (key in peer)
                printf "%-14s %9.3f %9.3f %7.2f %9.0f %9.0f  %s\n", key, ours[key], peer[key], peer[key] / ours[key],
                       ours_mb[key], peer_mb[key], note
            else
                printf "%-14s %9.3f %9s %7s %9.0f %9s  %s\n", key, ours[key], "-", "-", ours_mb[key], "-", note
        }
    }' "$work/ours" "$work/peer"

[[ $parts == *train* ]] || exit 0
touch "$work/peer-train"
awk '
    function field(name,   t) {
        if (!match($0, "\"" name "\": [^,}]*")) return ""
        t = substr($0, RSTART, RLENGTH); sub(/^[^:]*: /, "", t); gsub(/"/, "", t)
        return t
    }
    function line(who) {
        printf "%-9s %-10s %-13s %-6s %8.2f %8.2f %8.2f %8.2f %9.0f", field("type"), field("optimizer"),
               field("checkpointing"), who, field("forward_s"), field("backward_s"), field("optimizer_s"),
               field("seconds"), field("peak_mb")
    }
    !/"row": "train"/ { next }
    FILENAME ~ /ours-train$/ {
        if (!shown++) printf "\n%-9s %-10s %-13s %-6s %8s %8s %8s %8s %9s  %s\n", "training", "optimizer",
                             "checkpointing", "whose", "forward", "backward", "update", "step s", "peak MB", "bar"
        key = field("type") " " field("checkpointing")
        ours[key] = field("seconds")
        line("ours")
        if (field("checkpointing") == "yes") printf "  10 GB: %s", (field("peak_mb") + 0 <= 10240) ? "met" : "MISSED"
        print ""
        next
    }
    {
        key = field("type") " " field("checkpointing")
        line("peer")
        if (key in ours) {
            times = field("seconds") / ours[key]
            bar = 2
            if (field("optimizer") == "adamw") bar = 1.2
            if (field("type") == "float32") bar = 1.5
            printf "  ours is %.2f times as fast", times
            if (field("checkpointing") == "no") printf " (%.1f: %s)", bar, (times >= bar) ? "met" : "MISSED"
        }
        print ""
    }' "$work/ours-train" "$work/peer-train"
