#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# pack.sh: build-cuda/card.tar.xz (about 11 MB), for a machine with a GPU and nothing to build with: the program, the
# plug-in, the benches, the tests that tools/gpu/check.sh runs, and the shared libraries that such a machine may lack
# (NVIDIA's are not among them). Carry it beside a copy of the tree, and run tools/gpu/check.sh there: it finds it.
set -eu
cd "$(dirname "$0")/../.."
folder=build-cuda card=build-cuda/card
generator=()
command -v ninja >/dev/null && generator=(-G Ninja)
. tools/gpu/common.sh

# shellcheck disable=SC2068
mkdir -p $folder
cmake -S . -B $folder ${generator[@]+"${generator[@]}"} -DCMAKE_BUILD_TYPE=Release -DLIKENESS_HEIF=OFF -DLIKENESS_TEST_ROOT=. >$folder/pack.log
cmake --build $folder --parallel "$(nproc)" --target all benches "${device_tests[@]/#/test_}" >>$folder/pack.log
tools/cuda/build.sh $folder >>$folder/pack.log

# The tests of kernels, against those of the plug-in.
runtime=$(sed -n 1p $folder/cuda/runtime)
include=$(sed -n 2p $folder/cuda/runtime)
kernels=$(find $folder/cuda/objects -name '*.o' ! -name '*.c.o')
for test in "${kernel_tests[@]}"; do
    for source in tests/cuda/test_$test.c tests/cuda/problem.c tests/reference.c; do
        "${CC:-cc}" -std=c11 -D_GNU_SOURCE -O2 -include tests/cuda/managed.h -Isrc -Itests -Itests/cuda -c "$source" \
            -o "$folder/cuda/$(basename "$source").o"
    done
    # shellcheck disable=SC2086
    "${CC:-cc}" -std=c11 -O2 -isystem "$include" tests/cuda/managed.c "$folder/cuda/test_$test.c.o" $folder/cuda/problem.c.o \
        $folder/cuda/reference.c.o $kernels $folder/libroom_device.a $folder/libroom_base.a \
        -o "$folder/test_cuda_$test" "$runtime" -lcmocka -ldnnl -lstdc++ -lm -ldl -lrt -lpthread
done

rm -rf $card
mkdir -p $card/lib
cp -L $folder/likeness $folder/liblikeness-cuda.so $folder/bench $folder/bench_model $folder/bench_train "${device_tests[@]/#/$folder/test_}" \
    "${kernel_tests[@]/#/$folder/test_cuda_}" $card
ldd $card/[!l]* $card/likeness | grep -o '/[^ ]*\.so[^ ]*' | sort -u |
    grep -Ev '/(ld-linux|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|cuda.*|cudnn.*|cublas.*)\.so)' | xargs -I{} cp -L {} $card/lib
strip $card/* $card/lib/* 2>/dev/null || true
tar cf - -C $folder card | xz -T0 -9e >$folder/card.tar.xz
echo "$folder/card.tar.xz: $(du -h $folder/card.tar.xz | cut -f1)"
