#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check.sh [tests|equal|speed|train ...]: what only a machine with an NVIDIA GPU can say, from a copy of the tree; one
# line a check and a summary, exit status 1 where any failed. Builds what it needs (make, make cuda, the tests), or
# takes build-cuda/ where that holds a whole build (likeness, liblikeness-cuda.so, test_*) from another machine, with the
# shared libraries that are not here in build-cuda/lib. cuBLASLt and cuDNN may be those of Python's packages.
set -u
cd "$(dirname "$0")/../.." || exit 1
passed=0 failed=0 skipped=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build=build
[ ! -x build-cuda/likeness ] || build=build-cuda
libraries=$PWD/build-cuda/lib
for folder in $(python3 -c 'import importlib.util as u; print(*u.find_spec("nvidia").submodule_search_locations)' 2>/dev/null); do
    libraries+=:$(find "$folder" -maxdepth 2 -name lib | paste -sd:)
done
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
tests=(device_memory device_wide graph_record graph_gradient graph_threads model_networks model_gradients pipeline_parts generate_mix
    generate_third generate_threads train_cuda)

verdict() { # status, words
    case $1 in
    0) passed=$((passed + 1)) && echo "pass  $2" ;;
    77) skipped=$((skipped + 1)) && echo "skip  $2" ;;
    *) failed=$((failed + 1)) && echo "FAIL  $2" ;;
    esac
}

if [ $build = build ]; then
    { make && make cuda && cmake --build build --parallel "$(nproc)" --target "${tests[@]/#/test_}"; } >"$work/build.log" 2>&1
    verdict $? "it builds ($(tail -n 1 "$work/build.log"))"
fi
export LIKENESS_CUDA=$PWD/$build/liblikeness-cuda.so
devices=$($build/likeness devices | grep '^cuda')
[[ $devices == cuda:* ]]
verdict $? "likeness devices: $devices"
[[ $devices == cuda:* ]] || exit 1

check_tests() {
    local name status
    for name in "${tests[@]}"; do
        LIKENESS_TEST_DEVICE=cuda timeout 120 "$build/test_$name" >"$work/$name.log" 2>&1
        status=$?
        verdict $status "test_$name$([ $status = 0 ] || grep -m 1 'ERROR' "$work/$name.log")"
    done
}

# The farthest that two pictures, or the losses of two trainings, are from each other.
pictures='
import sys, numpy, PIL.Image as i
a, b = (numpy.array(i.open(p)).astype(int) for p in sys.argv[1:])
print(abs(a - b).max())'
losses='
import sys, json
a, b = ([json.loads(l) for l in open(p) if "loss" in l] for p in sys.argv[1:])
a, b = ([r["loss"] for r in l if isinstance(r.get("loss"), float)] for l in (a, b))
assert len(a) == len(b) > 0
print("%.2g" % max(abs(x - y) / x for x, y in zip(a, b)))'

check_equal() {
    local sampler device most
    for sampler in ddim ddpm; do
        for device in cpu cuda cuda; do
            $build/likeness generate --device $device -p "a photo of a dog" -s 1-3 --sampler $sampler --steps 20 --grid \
                "$work/$sampler-$device.png" -o "$work/$device-$sampler/" --overwrite >/dev/null 2>"$work/log" || tail -n 1 "$work/log"
            [ ! -e "$work/$sampler-again.png" ] || mv "$work/$sampler-again.png" "$work/$sampler-first.png"
            [ $device = cpu ] || cp "$work/$sampler-$device.png" "$work/$sampler-again.png"
        done
        cmp -s "$work/$sampler-first.png" "$work/$sampler-again.png"
        verdict $? "$sampler: the same bytes twice"
        most=$(python3 -c "$pictures" "$work/$sampler-cpu.png" "$work/$sampler-cuda.png" 2>/dev/null) || { verdict 77 "$sampler: no Pillow"; continue; }
        [ "$most" -le 1 ]
        verdict $? "$sampler, 3 seeds: at most $most grey levels from the processor (1)"
    done
}

seconds() { # of a command
    local TIMEFORMAT=%R
    { time "$@" >/dev/null 2>"$work/log"; } 2>&1
}

check_speed() {
    local device precision
    for device in cpu cuda; do
        for precision in f32 bf16; do
            verdict 0 "$device $precision: 8 pictures of 50 steps, start included: $(seconds $build/likeness generate --device $device \
                --precision $precision -p "a dog" -s 1-8 -o "$work/speed/" --overwrite) s"
        done
    done
}

check_train() {
    local device worst
    for device in cpu cuda; do
        $build/likeness train --device $device --instance_data_dir examples/subject --instance_prompt "a dog" --seed 1 \
            --max_train_steps 20 --output_dir "$work/train-$device" >/dev/null 2>"$work/log" || tail -n 1 "$work/log"
    done
    worst=$(python3 -c "$losses" "$work/train-cpu/train.jsonl" "$work/train-cuda/train.jsonl" 2>/dev/null)
    awk -v w="${worst:-1}" 'BEGIN { exit !(w <= 1e-4) }'
    verdict $? "20 steps of training: losses at most ${worst:-?} of themselves from the processor's (1e-4)"
}

for part in "${@:-tests equal speed train}"; do
    for name in $part; do "check_$name"; done
done
echo "$passed passed, $failed failed, $skipped skipped, on $devices"
[ $failed = 0 ]
