#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# build.sh BUILD: BUILD/liblikeness-cuda.so, the plug-in for NVIDIA GPUs (make cuda). The compiler and the libraries are
# those of an installed CUDA 13 (nvcc on the PATH, or /usr/local/cuda; CUDA_LIBRARIES: more folders to look for cuBLASLt
# and cuDNN 9 in) where they are there, else NVIDIA's wheels from PyPI, unpacked in BUILD/cuda. No GPU and no
# driver are needed to build. Exit status 77: something is not to be had. ARCHITECTURES="75 80 86 89 90".
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build}
read -r -a architectures <<<"${ARCHITECTURES:-75 80 86 89 90}"
here=$build/cuda
mkdir -p "$here/objects"

missing() {
    echo "make cuda: $*" >&2
    exit 77
}

wheels() { # names: into $here/wheels, unpacked
    local wheel
    python3 -m pip --version >/dev/null 2>&1 || tools/ci/install_packages.sh python3-pip ||
        missing "python3 with pip brings NVIDIA's wheels; or install CUDA 13 and cuDNN 9"
    echo "make cuda: $* from PyPI into $here"
    python3 -m pip download -q --no-deps -d "$here/download" "$@" >"$here/pip.log" 2>&1 ||
        missing "pip cannot fetch them: $(tail -n 1 "$here/pip.log")"
    mkdir -p "$here/wheels"
    for wheel in "$here"/download/*.whl; do # whole, or not there
        python3 -m zipfile -e "$wheel" "$here/unpacked"
        cp -al "$here/unpacked/." "$here/wheels/"
        rm -r "$wheel" "$here/unpacked"
    done
}

# The compiler.
nvcc=$(command -v nvcc || true)
[ -n "$nvcc" ] || [ ! -x /usr/local/cuda/bin/nvcc ] || nvcc=/usr/local/cuda/bin/nvcc
case $("${nvcc:-false}" --version 2>/dev/null) in
*"release 13."*) ;;
*) nvcc=$here/wheels/nvidia/cu13/bin/nvcc ;;
esac
[ -e "$nvcc" ] ||
    wheels 'nvidia-cuda-nvcc==13.0.*' 'nvidia-cuda-crt==13.0.*' 'nvidia-nvvm==13.0.*' 'nvidia-cuda-runtime==13.0.*' \
        'nvidia-cuda-cccl==13.0.*'
find "$here/wheels/nvidia/cu13/bin" "$here/wheels/nvidia/cu13/nvvm/bin" -type f -exec chmod +x {} + 2>/dev/null || true
toolkit=$(dirname "$(dirname "$(readlink -f "$nvcc")")")

# A file of the libraries: in the installation, where CUDA_LIBRARIES says, in the wheels, in Python's packages.
places=("$toolkit" ${CUDA_LIBRARIES:-} "$here/wheels/nvidia" /usr/include /usr/lib/x86_64-linux-gnu /usr/local/cuda)
packages=$(python3 -c 'import importlib.util as u; print(*u.find_spec("nvidia").submodule_search_locations)' 2>/dev/null || true)
[ -z "$packages" ] || places+=("$packages")
locate() { find -L "${places[@]}" -maxdepth 5 -name "$1" 2>/dev/null | head -n 1; }
[ -n "$(locate cublasLt.h)" ] && [ -n "$(locate libcublasLt.so.13)" ] || wheels nvidia-cublas
[ -n "$(locate cudnn.h)" ] && [ -n "$(locate libcudnn.so.9)" ] || wheels nvidia-cudnn-cu13
runtime=$(locate libcudart_static.a)
cublas=$(readlink -f "$(dirname "$(locate libcublasLt.so.13)")")
cudnn=$(readlink -f "$(dirname "$(locate libcudnn.so.9)")")
[ -n "$runtime" ] || missing "libcudart_static.a is not there"

# Kernels for each architecture, and for later ones in NVIDIA's portable form; the host's side by the C compiler.
version=$(sed -n 's/^project(likeness VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
code=()
for a in "${architectures[@]}"; do code+=(-gencode "arch=compute_$a,code=sm_$a"); done
last=${architectures[-1]}
code+=(-gencode "arch=compute_$last,code=compute_$last")
made="$version ${code[*]} $nvcc" # and with what
[ "$(cat "$here/made" 2>/dev/null)" = "$made" ] || rm -f "$here/built"
newest=$(find src/device src/base -name '*.h' -newer "$here/built" 2>/dev/null | head -n 1 || true)
[ -e "$here/built" ] || newest=all
stale() { [ -n "$newest" ] || [ ! -e "$2" ] || [ "$1" -nt "$2" ]; }
objects=()
for source in src/device/cuda/*.cu; do
    object=$here/objects/$(basename "$source" .cu).o
    objects+=("$object")
    stale "$source" "$object" || continue
    rm -f "$object" # so that one that does not compile is missed
    "$nvcc" -std=c++17 -O3 "${code[@]}" --threads 2 -Isrc -Werror all-warnings \
        -Xcompiler -Wall,-Wextra,-Werror,-fPIC,-fvisibility=hidden -c "$source" -o "$object" &
    [ "$(jobs -r -p | wc -l)" -lt "$(nproc)" ] || wait -n
done
while [ -n "$(jobs -r -p)" ]; do wait -n; done
for source in src/device/cuda/*.c src/device/common.c src/device/adamw.c; do
    object=$here/objects/$(basename "$source" .c).c.o
    objects+=("$object")
    stale "$source" "$object" || continue
    "${CC:-cc}" -std=c11 -D_GNU_SOURCE -DLIKENESS_VERSION="\"$version\"" -O2 -g -fPIC -fvisibility=hidden -ffp-contract=off \
        -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Werror -Isrc \
        -isystem "$(dirname "$(locate cuda_runtime_api.h)")" -isystem "$(dirname "$(locate cublasLt.h)")" \
        -isystem "$(dirname "$(locate cudnn.h)")" -c "$source" -o "$object"
done
"${CC:-cc}" -shared -o "$build/liblikeness-cuda.so.new" "${objects[@]}" "$build/libroom_base.a" "$runtime" \
    "$cublas/libcublasLt.so.13" "$cudnn/libcudnn.so.9" -Wl,--no-undefined,-rpath,"\$ORIGIN:$cublas:$cudnn" \
    -Wl,--exclude-libs,ALL -lstdc++ -lm -ldl -lrt -lpthread
mv "$build/liblikeness-cuda.so.new" "$build/liblikeness-cuda.so"
printf '%s\n' "$runtime" "$(dirname "$(locate cuda_runtime_api.h)")" >"$here/runtime" # for tools/gpu/pack.sh
echo "$made" >"$here/made"
touch "$here/built"
echo "$build/liblikeness-cuda.so: for sm_${architectures[*]} and later, with cuBLASLt in $cublas and cuDNN in $cudnn"
