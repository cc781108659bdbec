# SPDX-License-Identifier: Apache-2.0
# device/cuda on the processor: its kernels as C++ over tests/cuda's emulator, and their tests, one program for
# each tests/cuda/test_NAME.c; the whole device with the hardware and NVIDIA's libraries in plain loops, a plug-in as
# liblikeness-cuda.so is one, on which tests of the rooms above run.
include(CheckLanguage)
check_language(CXX)
if(NOT CMAKE_CXX_COMPILER)
  message(STATUS "without a C++ compiler the GPU's kernels are not tested")
  return()
endif()
enable_language(CXX)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_FLAGS_RELEASE ${CMAKE_C_FLAGS_RELEASE}) # assertions stay
file(GLOB cuda_kernels CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/device/cuda/*.cu)
set_source_files_properties(${cuda_kernels} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-x;c++")
add_library(cuda_kernels_emulated STATIC EXCLUDE_FROM_ALL ${cuda_kernels} tests/cuda/emulator.cpp
            tests/cuda/gpu_emulated.c)
set_target_properties(cuda_kernels_emulated PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_include_directories(cuda_kernels_emulated PUBLIC src tests/cuda)
target_compile_definitions(cuda_kernels_emulated PRIVATE LIKENESS_EMULATED)
target_compile_options(cuda_kernels_emulated PRIVATE -fno-exceptions -ftls-model=initial-exec)
target_link_libraries(cuda_kernels_emulated PUBLIC room_base)

file(GLOB cuda_tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/cuda/test_*.c
     ${CMAKE_SOURCE_DIR}/tests/cuda/test_*.cpp)
add_library(tests_cuda_problem OBJECT EXCLUDE_FROM_ALL tests/cuda/problem.c)
target_include_directories(tests_cuda_problem PRIVATE src tests tests/cuda)
foreach(source ${cuda_tests})
  get_filename_component(test ${source} NAME_WE)
  string(REPLACE test_ test_cuda_ test ${test})
  add_executable(${test} EXCLUDE_FROM_ALL ${source} $<TARGET_OBJECTS:tests_cuda_problem> $<TARGET_OBJECTS:tests_reference>)
  target_include_directories(${test} PRIVATE tests)
  target_link_libraries(${test} PRIVATE cuda_kernels_emulated room_device ${CMOCKA_LIBRARY})
  add_test(NAME ${test} COMMAND ${test})
  set_tests_properties(${test} PROPERTIES TIMEOUT 600)
  add_dependencies(tests ${test})
endforeach()

file(GLOB cuda_host CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/device/cuda/*.c)
list(FILTER cuda_host EXCLUDE REGEX "_(cuda|cublas|cudnn)\\.c$")
add_library(likeness-cuda-emulated MODULE EXCLUDE_FROM_ALL ${cuda_host} src/device/common.c src/device/adamw.c
            tests/cuda/product_plain.c tests/cuda/conv_plain.c)
target_compile_definitions(likeness-cuda-emulated PRIVATE LIKENESS_VERSION="${PROJECT_VERSION}")
set_source_files_properties(tests/cuda/product_plain.c tests/cuda/conv_plain.c PROPERTIES COMPILE_OPTIONS -O3)
target_link_libraries(likeness-cuda-emulated PRIVATE cuda_kernels_emulated)
set_target_properties(likeness-cuda-emulated PROPERTIES LINKER_LANGUAGE CXX)
add_dependencies(tests likeness-cuda-emulated)

set(emulated LIKENESS_CUDA=$<TARGET_FILE:likeness-cuda-emulated>)
foreach(test device_memory graph_record graph_gradient graph_threads graph_update model_networks model_gradients pipeline_parts generate_half generate_taesd)
  add_test(NAME test_${test}_cuda COMMAND test_${test})
  set_tests_properties(test_${test}_cuda PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 600
                       ENVIRONMENT "LIKENESS_TEST_DEVICE=cuda;${emulated}")
endforeach()
set_tests_properties(test_train_cuda test_model_memory PROPERTIES ENVIRONMENT "${emulated}")
add_dependencies(test_train_cuda likeness-cuda-emulated)
add_dependencies(test_model_memory likeness-cuda-emulated)
set_tests_properties(test_device_wide test_device_half PROPERTIES ENVIRONMENT "LIKENESS_TEST_DEVICE=cuda;${emulated}")
add_dependencies(test_device_wide likeness-cuda-emulated)
add_dependencies(test_device_half likeness-cuda-emulated)
