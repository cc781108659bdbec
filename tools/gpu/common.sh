# SPDX-License-Identifier: Apache-2.0
# common.sh: where the program and its libraries are, for check.sh and speed.sh, and which tests run on a card, for
# check.sh and pack.sh. To be sourced in the folder of the project.
# shellcheck shell=bash disable=SC2034

# test_NAME with LIKENESS_TEST_DEVICE=cuda; and of the kernels alone, tests/cuda/test_NAME.c as test_cuda_NAME
device_tests=(device_memory device_wide device_half graph_record graph_gradient graph_threads graph_update model_networks model_gradients pipeline_parts
    generate_half generate_mix generate_third generate_threads train_scaler train_cuda train_losses)
kernel_tests=(kernels attention lists)

# What pack.sh made on another machine, or else what is built here: $build, and $packed where the former.
find_build() {
    local folder libraries
    build=build packed=
    if [ -e build-cuda/card.tar.xz ] && [ ! -x build-cuda/card/likeness ]; then
        tar xJf build-cuda/card.tar.xz -C build-cuda || return 1
    fi
    [ ! -x build-cuda/card/likeness ] || { build=build-cuda/card packed=yes; }
    libraries=$PWD/$build/lib
    for folder in $(python3 -c 'import importlib.util as u; print(*u.find_spec("nvidia").submodule_search_locations)' 2>/dev/null); do
        libraries+=:$(find "$folder" -maxdepth 2 -name lib | paste -sd:)
    done
    export LIKENESS_CUDA=$PWD/$build/liblikeness-cuda.so LIKENESS_MODELS=$PWD/models
    ours=(env LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}")
    likeness=("${ours[@]}" "$build/likeness")
}
