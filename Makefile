# SPDX-License-Identifier: Apache-2.0
# The front door; CMake does the work.
#   make                builds build/likeness (FLAGS=-DLIKENESS_TESTS=OFF and other options of CMakeLists.txt)
#   make demo           installs what is missing, builds, runs the whole experiment: one page in out/study/
#   make test           installs what is missing, builds, runs every test
#   make test-sanitize  the same under AddressSanitizer and UBSan, in build-sanitize/
#   make test-more      everything by clang, ThreadSanitizer, oneDNN 3, in build-*/ (what .ci/run does besides make test)
#   make test-fuzz      each fuzzer of tests/fuzz for FUZZ_SECONDS=60, from its kept corpus (clang), in build-fuzz/
#   make cuda           build/liblikeness-cuda.so, for NVIDIA GPUs; without CUDA 13 here it brings NVIDIA's wheels (1 GB)
#   make bench          ours, diffusers' and OpenVINO's speed at the size of Stable Diffusion 1.5 (docs in tools/bench/bench.sh)
#   make clip-tokenizer fetches the merges of CLIP's tokenizer, which single-file checkpoints need; make tries it once
#   make equality       pictures and weights against diffusers' (tools/equality/run.sh); PYTHON as for make bench
#   make install        into PREFIX=/usr/local
#   make clean
SHELL := /bin/bash
BUILD ?= build
PREFIX ?= /usr/local
DEMO ?= out/study
FLAGS ?=
FUZZ_SECONDS ?= 60
PYTHON ?= python3

PACKAGES := build-essential cmake ninja-build pkg-config libdnnl-dev libjansson-dev libutf8proc-dev libpng-dev \
            libjpeg-dev libwebp-dev libgif-dev libtiff-dev libfreetype-dev fonts-dejavu-core
TEST_PACKAGES := libcmocka-dev
FUZZ_PACKAGES := clang libclang-rt-dev

comma := ,
configure = if [ ! -f $(1)/CMakeCache.txt ] && command -v ninja >/dev/null; \
            then cmake -S . -B $(1) -G Ninja $(2); else cmake -S . -B $(1) $(2); fi >/dev/null
compile = cmake --build $(1) --parallel $$(nproc)

.PHONY: all cuda clip-tokenizer demo packages test-packages test test-sanitize test-more test-fuzz bench equality install clean
all:
	@$(call configure,$(BUILD),$(FLAGS))
	@$(call compile,$(BUILD))
	@[ -e $(BUILD)/clip-tokenizer.tried ] || { tools/ci/clip_tokenizer.sh models/clip-tokenizer; touch $(BUILD)/clip-tokenizer.tried; }

cuda: packages
	@$(MAKE) --no-print-directory all
	@tools/cuda/build.sh $(BUILD)

clip-tokenizer:
	@tools/ci/clip_tokenizer.sh models/clip-tokenizer

packages:
	@tools/ci/install_packages.sh $(PACKAGES)
test-packages:
	@tools/ci/install_packages.sh $(PACKAGES) $(TEST_PACKAGES)

demo: packages
	@$(MAKE) --no-print-directory all
	$(BUILD)/likeness study -o $(DEMO)
	@echo "The page, every picture and measure:  $(DEMO)/report.html  (pictures in $(DEMO)/cells/)"

test: test-packages
	@$(MAKE) --no-print-directory all
	@$(call compile,$(BUILD)) --target tests
	@tools/ci/run_tests.sh $(BUILD)

test-sanitize: test-packages
	@$(call configure,build-sanitize,-DLIKENESS_SANITIZE=address$(comma)undefined)
	@$(call compile,build-sanitize) --target all tests
	@tools/ci/run_tests.sh build-sanitize

test-more: test-packages
	@tools/ci/run_more.sh

test-fuzz: packages
	@tools/ci/install_packages.sh $(FUZZ_PACKAGES)
	@$(call configure,build-fuzz,-DCMAKE_C_COMPILER=clang -DLIKENESS_FUZZ=ON)
	@$(call compile,build-fuzz) --target fuzz
	@tools/ci/run_fuzz.sh build-fuzz $(FUZZ_SECONDS)

bench:
	@$(MAKE) --no-print-directory all
	@$(call compile,$(BUILD)) --target benches
	@PYTHON="$(PYTHON)" tools/bench/bench.sh $(BUILD)

equality:
	@$(MAKE) --no-print-directory all
	@PYTHON="$(PYTHON)" tools/equality/run.sh $(BUILD)

install: all
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	@rm -rf $(BUILD) build-sanitize build-clang build-threads build-onednn3 build-cuda build-fuzz
