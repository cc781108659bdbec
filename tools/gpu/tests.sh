# SPDX-License-Identifier: Apache-2.0
# tests.sh: the tests that run on a card, for check.sh and pack.sh: test_NAME with LIKENESS_TEST_DEVICE=cuda, and those of
# the kernels, tests/cuda/test_NAME.c, as test_cuda_NAME. To be sourced.
# shellcheck disable=SC2034
device_tests=(device_memory device_wide graph_record graph_gradient graph_threads model_networks model_gradients pipeline_parts
    generate_mix generate_third generate_threads train_cuda train_losses)
kernel_tests=(kernels attention)
