# SPDX-License-Identifier: Apache-2.0
# device/cuda on the processor: its kernels as C++ over tests/cuda's emulator, and their tests, one program for
# each tests/cuda/test_NAME.
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
add_library(cuda_kernels_emulated STATIC EXCLUDE_FROM_ALL ${cuda_kernels} tests/cuda/emulator.cpp)
set_target_properties(cuda_kernels_emulated PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_include_directories(cuda_kernels_emulated PUBLIC src tests/cuda)
target_compile_definitions(cuda_kernels_emulated PRIVATE LIKENESS_EMULATED)
target_compile_options(cuda_kernels_emulated PRIVATE -fno-exceptions)
target_link_libraries(cuda_kernels_emulated PUBLIC room_base)

file(GLOB cuda_tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/cuda/test_*.c
     ${CMAKE_SOURCE_DIR}/tests/cuda/test_*.cpp)
foreach(source ${cuda_tests})
  get_filename_component(test ${source} NAME_WE)
  string(REPLACE test_ test_cuda_ test ${test})
  add_executable(${test} EXCLUDE_FROM_ALL ${source} tests/cuda/problem.c tests/reference.c)
  target_include_directories(${test} PRIVATE tests)
  target_link_libraries(${test} PRIVATE cuda_kernels_emulated room_device ${CMOCKA_LIBRARY})
  add_test(NAME ${test} COMMAND ${test})
  set_tests_properties(${test} PROPERTIES TIMEOUT 600)
  add_dependencies(tests ${test})
endforeach()
