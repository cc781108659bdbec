#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check.sh [tests|equal|train|memory|speed ...]: what only a machine with an NVIDIA GPU can say, from a copy of the tree; one
# line a check and a summary, exit status 1 where any failed; logs of what failed in LOGS (a folder that is there). Builds
# what it needs (make, make cuda, the tests), or takes build-cuda/card.tar.xz from another machine (pack.sh). cuBLASLt and
# cuDNN may be those of Python's packages. Pictures are compared where Python has Pillow and numpy, the card's memory is
# watched where it has pynvml; SD15, a folder with a model of Stable Diffusion 1.5's size, adds the memory of one.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tools/gpu/common.sh
passed=0 failed=0 skipped=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

verdict() { # status, words, log
    case $1 in
    0) passed=$((passed + 1)) && echo "pass  $2" ;;
    77) skipped=$((skipped + 1)) && echo "skip  $2" ;;
    *)
        failed=$((failed + 1)) && echo "FAIL  $2"
        [ -z "${LOGS:-}" ] || [ ! -e "${3:-}" ] || cp "$3" "$LOGS/"
        ;;
    esac
}

find_build || exit 1
if [ ! $packed ]; then
    { make && make cuda && cmake --build build --parallel "$(nproc)" --target "${device_tests[@]/#/test_}"; } >"$work/build.log" 2>&1
    verdict $? "it builds ($(tail -n 1 "$work/build.log"))" "$work/build.log"
fi
devices=$("${likeness[@]}" devices 2>/dev/null | grep '^cuda')
[[ $devices == cuda:* ]]
verdict $? "likeness devices: $devices"
[[ $devices == cuda:* ]] || exit 1

check_tests() {
    local name status
    for name in "${device_tests[@]/#/test_}" "${kernel_tests[@]/#/test_cuda_}"; do
        # Of kernels alone, what is built here is for the emulator.
        { [ -x "$build/$name" ] && { [ $packed ] || [[ $name != test_cuda_* ]]; }; } || { verdict 77 "$name: not built for a card (pack.sh)"; continue; }
        (
            [[ $name != test_cuda_* ]] || export CUDA_LAUNCH_BLOCKING=1
            LIKENESS_TEST_DEVICE=cuda timeout 150 "${ours[@]}" "$build/$name" >"$work/$name.log" 2>&1
            echo $? >"$work/$name.status"
        ) &
        [ "$(jobs -r -p | wc -l)" -lt "$(nproc)" ] || wait -n
    done
    while [ -n "$(jobs -r -p)" ]; do wait -n; done
    for name in "${device_tests[@]/#/test_}" "${kernel_tests[@]/#/test_cuda_}"; do
        [ -e "$work/$name.status" ] || continue
        status=$(cat "$work/$name.status")
        verdict "$status" "$name$([ "$status" = 0 ] || [ "$status" = 77 ] || grep -m 1 'ERROR' "$work/$name.log")" "$work/$name.log"
    done
}

# The farthest that pictures of two folders are from each other, and the median of their PSNR
pictures='
import glob, os, sys, numpy, PIL.Image as i
load = lambda f: numpy.array(i.open(f)).astype(int)
names = sorted(os.path.basename(f) for f in glob.glob(sys.argv[1] + "/*.png"))
d = [load(os.path.join(sys.argv[1], n)) - load(os.path.join(sys.argv[2], n)) for n in names]
print(max(abs(x).max() for x in d), "%.1f" % numpy.median([10 * numpy.log10(65025 / max((x ** 2).mean(), 1e-9)) for x in d]), len(d))'

prompts=(-p "a sailboat at sea" -p "a child playing" -p "a photo of a cat" -p "a photo of a dog" -p "a photo of sks dog"
    -p "a dog running on the beach" -p "a photo of a dog in the park")

draw() { # folder, flags
    local folder=$work/$1
    shift
    "${likeness[@]}" generate "${prompts[@]}" -s 42-44 -o "$folder/" --overwrite "$@" >/dev/null 2>"$work/draw.log" ||
        tail -n 1 "$work/draw.log"
}

check_equal() {
    local sampler precision most median count
    for sampler in ddim ddpm; do
        draw cpu-$sampler --device cpu --sampler $sampler
        draw cuda-$sampler --device cuda --sampler $sampler
        draw again-$sampler --device cuda --sampler $sampler
        diff -rq "$work/cuda-$sampler" "$work/again-$sampler" >"$work/diff.log" && [ -s "$work/cuda-$sampler/a-child-playing-42.png" ]
        verdict $? "$sampler, 21 pictures of 50 steps: the same bytes twice" "$work/diff.log"
        read -r most median count < <(python3 -c "$pictures" "$work/cpu-$sampler" "$work/cuda-$sampler" 2>"$work/python.log")
        [ -n "${count:-}" ] || { verdict 77 "$sampler: no Pillow and numpy"; continue; }
        [ "$most" -le 1 ]
        verdict $? "$sampler, $count pictures: at most $most grey levels from the processor (1)"
    done
    for precision in bf16 f16; do
        draw $precision --device cuda --precision $precision
        read -r most median count < <(python3 -c "$pictures" "$work/cuda-ddim" "$work/$precision" 2>"$work/python.log")
        [ -n "${count:-}" ] || { verdict 1 "$precision: no pictures to compare" "$work/draw.log"; continue; }
        awk -v m="$median" 'BEGIN { exit !(m >= 35) }'
        verdict $? "$precision, $count pictures: median PSNR $median dB from float32 (35), farthest $most grey levels"
    done
}

losses='
import sys, json
a, b = ([r["loss"] for r in map(json.loads, open(p)) if isinstance(r.get("loss"), float)] for p in sys.argv[1:])
assert len(a) == len(b) > 0
print("%.2g" % max(abs(x - y) / x for x, y in zip(a, b)), len(a))'

learn() { # folder, flags
    local folder=$work/$1
    shift
    "${likeness[@]}" train --instance_data_dir examples/subject --instance_prompt "a photo of sks dog" --seed 42 \
        --output_dir "$folder" "$@" >/dev/null 2>"$work/learn.log" || tail -n 1 "$work/learn.log"
}

check_train() {
    local name worst count
    for name in torch 8bit; do
        local flags=(--max_train_steps 50)
        [ $name = torch ] || flags+=(--use_8bit_adam)
        learn cpu-$name --device cpu "${flags[@]}"
        learn cuda-$name --device cuda "${flags[@]}"
        learn again-$name --device cuda "${flags[@]}"
        cmp "$work/cuda-$name/unet/diffusion_pytorch_model.safetensors" "$work/again-$name/unet/diffusion_pytorch_model.safetensors" >"$work/cmp.log" 2>&1
        verdict $? "train, AdamW $name: the same bytes twice" "$work/cmp.log"
        read -r worst count < <(python3 -c "$losses" "$work/cpu-$name/train.jsonl" "$work/cuda-$name/train.jsonl" 2>"$work/python.log")
        awk -v w="${worst:-1}" 'BEGIN { exit !(w <= 1e-4) }'
        verdict $? "train, AdamW $name: ${count:-no} losses at most ${worst:-?} of themselves from the processor's (1e-4)" "$work/learn.log"
    done
    for name in bf16 fp16; do
        learn mixed-$name --device cuda --max_train_steps 50 --mixed_precision $name
        read -r worst count < <(python3 -c "$losses" "$work/cuda-torch/train.jsonl" "$work/mixed-$name/train.jsonl" 2>"$work/python.log")
        awk -v w="${worst:-1}" 'BEGIN { exit !(w <= 0.05) }'
        verdict $? "train, mixed precision $name: ${count:-no} losses at most ${worst:-?} of themselves from float32's (0.05)" "$work/learn.log"
    done
}

# The most of the card's memory while a command runs, in MB, beyond what was in use before it
watch='
import subprocess, sys, time, pynvml as n
n.nvmlInit(); h = n.nvmlDeviceGetHandleByIndex(0)
used = lambda: n.nvmlDeviceGetMemoryInfo(h).used
before = most = used()
p = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
while p.poll() is None:
    most = max(most, used()); time.sleep(0.002)
print(round((most - before) / 1e6)); sys.exit(p.returncode)'

check_memory() {
    local most
    python3 -c 'import pynvml' 2>/dev/null || { verdict 77 "memory: no pynvml"; return; }
    most=$(python3 -c "$watch" "${likeness[@]}" generate --device cuda -p x -s 1 --steps 2 -o "$work/pocket.png" 2>"$work/log")
    verdict $? "memory of a pocket picture, with CUDA's own: $most MB" "$work/log"
    [ -n "${SD15:-}" ] || { verdict 77 "memory at SD 1.5's size: no SD15"; return; }
    most=$(python3 -c "$watch" "${likeness[@]}" generate --device cuda --precision f16 -m "$SD15" -p x -s 1 --steps 3 -o "$work/big.png" 2>"$work/log")
    verdict $? "memory of a 512x512 picture in f16, with CUDA's own: $most MB" "$work/log"
    most=$(python3 -c "$watch" "${likeness[@]}" train --device cuda --mixed_precision bf16 --use_8bit_adam --gradient_checkpointing -m "$SD15" \
        --instance_data_dir examples/subject --instance_prompt "a dog" --seed 1 --resolution 512 --train_batch_size 1 --max_train_steps 3 --output_dir "$work/big" 2>"$work/log")
    verdict $? "memory of a training at 512x512, 8 bits, checkpointing, with CUDA's own: $most MB" "$work/log"
}

for part in "${@:-tests equal train memory}"; do
    for name in $part; do
        case $name in
        tests | equal | train | memory) "check_$name" ;;
        speed) tools/gpu/speed.sh; verdict $? "speed: the table above" ;;
        *) verdict 1 "there is no part $name: tests, equal, train, memory, speed" ;;
        esac
    done
done
echo "$passed passed, $failed failed, $skipped skipped, on $devices"
[ $failed = 0 ]
