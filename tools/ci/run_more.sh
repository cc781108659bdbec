#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run_more.sh [clang|threads|onednn3|cuda ...]: what `make test` does not look at, each in a build of its own (oneDNN 3
# over that of the tests): everything compiled by clang, warnings as errors, and those tests that are quick under
# AddressSanitizer and UBSan; the tests of what threads share under ThreadSanitizer; oneDNN 3, where pip has its
# package, compiled against and run; the plug-in for NVIDIA GPUs compiled, where CUDA or pip's wheels of it are to be had.
# Ends with "N passed, N failed, N skipped", a check each; exit status 1 where any failed.
set -u
cd "$(dirname "$0")/../.." || exit 1
passed=0 failed=0 skipped=0
generator=()
command -v ninja >/dev/null && generator=(-G Ninja)
export ASAN_OPTIONS=detect_leaks=1 TSAN_OPTIONS=halt_on_error=1

# Quick under the sanitizers: all but what trains, compares whole networks or makes a study; and the emulated card, a
# plug-in by another compiler with sanitizers of its own (its kernels' tests are no plug-in, and run).
slow='check_|alloc_fail|install|symbols|model_gradients|model_networks|train_losses|train_threads|_cuda$|device_wide|model_memory|api_lost|device_half|api_device|device_kernels|device_product|test_program|study_|foreign'
threads=(test_base_threads test_device_onednn test_device_optimizer test_device_kernels)

build() { # folder, targets, flags: quiet, unless it fails
    local folder=$1 targets=$2
    shift 2
    mkdir -p "$folder"
    # shellcheck disable=SC2086
    { cmake -S . -B "$folder" "${generator[@]}" -DLIKENESS_WERROR=ON "$@" &&
        cmake --build "$folder" --parallel "$(nproc)" --target $targets; } >"$folder/build.log" 2>&1 ||
        { grep -E -A5 'error|FAILED|undefined' "$folder/build.log" | head -n 60; return 1; }
}

check_clang() {
    tools/ci/install_packages.sh clang libclang-rt-dev || return 1
    build build-clang "all tests benches" -DCMAKE_C_COMPILER=clang -DCMAKE_C_FLAGS_RELEASE="-O1 -g1" \
        -DLIKENESS_SANITIZE=address,undefined || return 1
    (cd build-clang && ctest -j "$(nproc)" -E "$slow" --output-on-failure) | tail -n 40
    return "${PIPESTATUS[0]}"
}

check_threads() {
    local shared
    shared=$(for f in tests/test_*thread*.c tests/test_*session*.c; do basename "$f" .c; done | grep -vx test_train_threads)
    shared=$(printf '%s\n' "${threads[@]}" "$shared" | sort -u | while read -r t; do [ ! -f "tests/$t.c" ] || echo "$t"; done)
    build build-threads "$(echo "$shared" | tr '\n' ' ')" -DLIKENESS_SANITIZE=thread || return 1
    (cd build-threads && ctest -j "$(nproc)" -R "^($(echo "$shared" | paste -sd'|'))\$" --output-on-failure) | tail -n 40
    return "${PIPESTATUS[0]}"
}

check_onednn3() {
    local folder=build-onednn3 include library
    mkdir -p $folder
    if [ ! -d $folder/package ]; then
        python3 -m pip --version >/dev/null 2>&1 || tools/ci/install_packages.sh python3-pip || return 77
        python3 -m pip download -q --no-deps -d $folder/wheels onednn-cpu-gomp==2023.2.0 \
            onednn-devel-cpu-gomp==2023.2.0 >$folder/pip.log 2>&1 ||
            { echo "pip has no oneDNN 3: $(tail -n 1 $folder/pip.log)"; return 77; }
        for wheel in $folder/wheels/*.whl; do python3 -m zipfile -e "$wheel" $folder/package || return 1; done
    fi
    include=$(dirname "$(find "$PWD/$folder/package" -path '*/include/dnnl.h')")
    library=$(find "$PWD/$folder/package" -name libdnnl.so.3)
    # Two files speak to oneDNN, device/'s and its test; what stands below them is the same.
    make --no-print-directory all >$folder/build.log 2>&1 &&
        cc -std=c11 -O2 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Wshadow -Werror -ffp-contract=off -Isrc -Itests \
            -I"$include" -DSOURCE_DIR="\"$PWD\"" src/device/cpu/onednn.c \
            tests/{test_device_onednn,reference,reference_gradient,support,foreign}.c build/libroom_device.a \
            build/libroom_base.a "$library" -Wl,-rpath,"$(dirname "$library")" -Wl,--wrap=dnnl_primitive_execute -lcmocka \
            -ldl -lm -pthread -o $folder/test_device_onednn >>$folder/build.log 2>&1 ||
        { grep -E -A5 'error|undefined' $folder/build.log | head -n 60; return 1; }
    ldd $folder/test_device_onednn | grep -q 'libdnnl\.so\.3' || { echo "not linked with oneDNN 3"; return 1; }
    $folder/test_device_onednn | tail -n 5
    return "${PIPESTATUS[0]}"
}

# The plug-in for NVIDIA GPUs, for one architecture: that it compiles, links and says that there is no driver, or runs.
check_cuda() {
    mkdir -p build-cuda && make --no-print-directory all >build-cuda/build.log 2>&1 && cp build/libroom_base.a build-cuda/ ||
        return 1
    ARCHITECTURES=90 tools/cuda/build.sh build-cuda >build-cuda/build.log 2>&1
    local status=$?
    tail -n 20 build-cuda/build.log
    [ $status = 0 ] || return $status
    LIKENESS_CUDA=build-cuda/liblikeness-cuda.so build/likeness devices | tee build-cuda/devices.txt
    grep -Eq '^cuda +(there is no|the) NVIDIA driver|^cuda:0' build-cuda/devices.txt
}

for name in "${@:-clang threads onednn3 cuda}"; do
    for check in $name; do
        start=$SECONDS
        "check_$check"
        case $? in
        0) passed=$((passed + 1)) end=passed ;;
        77) skipped=$((skipped + 1)) end=skipped ;;
        *) failed=$((failed + 1)) end=FAILED ;;
        esac
        echo "run_more: $check $end, $((SECONDS - start)) s"
    done
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
