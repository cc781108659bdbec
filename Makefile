# SPDX-License-Identifier: Apache-2.0
# The front door; CMake does the work.
#   make                builds build/likeness
#   make demo           installs what is missing, builds, makes the pictures of parts 1 and 2 in out/
#   make test           installs what is missing, builds, runs every test
#   make test-sanitize  the same under AddressSanitizer and UBSan, in build-sanitize/
#   make bench          ours and diffusers' speed at the size of Stable Diffusion 1.5 (docs in tools/bench.sh)
#   make install        into PREFIX=/usr/local
#   make clean
SHELL := /bin/bash
BUILD ?= build
PREFIX ?= /usr/local
SEEDS ?= 42-44
PYTHON ?= python3

PACKAGES := build-essential cmake ninja-build pkg-config libdnnl-dev libjansson-dev libutf8proc-dev libpng-dev \
            libjpeg-dev libwebp-dev libfreetype-dev fonts-dejavu-core
TEST_PACKAGES := libcmocka-dev
PROMPTS := -p "a sailboat at sea" -p "a child playing" -p "a photo of a cat" -p "a photo of a dog" \
           -p "a photo of sks dog" -p "a dog running on the beach" -p "a photo of a dog in the park"

configure = if [ ! -f $(1)/CMakeCache.txt ] && command -v ninja >/dev/null; \
            then cmake -S . -B $(1) -G Ninja $(2); else cmake -S . -B $(1) $(2); fi >/dev/null
compile = cmake --build $(1) --parallel $$(nproc)

.PHONY: all demo packages test-packages test test-sanitize bench install clean
all:
	@$(call configure,$(BUILD),)
	@$(call compile,$(BUILD))

packages:
	@tools/install_packages.sh $(PACKAGES)
test-packages:
	@tools/install_packages.sh $(PACKAGES) $(TEST_PACKAGES)

demo: packages
	@$(MAKE) --no-print-directory all
	@mkdir -p out
	$(BUILD)/likeness generate -p "a photo of a dog" -s 42-45 --sweep "sampler=ddpm,ddim steps=200,50,10" \
	    --variance fixed_large -o out/part1/ --grid out/part1.png
	$(BUILD)/likeness generate $(PROMPTS) -s $(SEEDS) -o out/part2/ --grid out/part2.png
	@echo "Part 1, DDPM and DDIM at 200, 50 and 10 steps:  out/part1.png  (single pictures in out/part1/)"
	@echo "Part 2, seven prompts, three seeds:             out/part2.png  (single pictures in out/part2/)"

test: test-packages
	@$(MAKE) --no-print-directory all
	@$(call compile,$(BUILD)) --target tests
	@tools/run_tests.sh $(BUILD)

test-sanitize: test-packages
	@$(call configure,build-sanitize,-DLIKENESS_SANITIZE=ON)
	@$(call compile,build-sanitize) --target all tests
	@tools/run_tests.sh build-sanitize

bench:
	@$(MAKE) --no-print-directory all
	@$(call compile,$(BUILD)) --target bench bench_train
	@PYTHON="$(PYTHON)" tools/bench.sh $(BUILD)

install: all
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	@rm -rf $(BUILD) build-sanitize
