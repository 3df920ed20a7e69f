# The four kinds of target this project has. Sources are listed, never globbed; DEPS are PUBLIC unless a header does not
# need them (then PRIVATE_DEPS). TORCH marks the targets that see LibTorch: they share one precompiled header.

function(_loupe_common_settings target)
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(${target} PRIVATE loupe_warnings)
endfunction()

# Executables would be compiled with -fpie, which a precompiled header made with -fPIC cannot serve.
function(_loupe_compile_as_library target)
  get_target_property(_type ${target} TYPE)
  if(_type STREQUAL "EXECUTABLE")
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC)
  endif()
endfunction()

# What ccache wants of a compiler's precompiled headers, and GCC's word on one that does not fit. Clang instantiates the headers'
# templates there, too, once for all sources (CMake gives it -fpch-instantiate-templates).
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  set(_loupe_precompiled_flags "SHELL:-Xclang -fno-pch-timestamp")
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(_loupe_precompiled_flags -fpch-preprocess -Winvalid-pch)
else()
  set(LOUPE_PRECOMPILE OFF)
endif()

# A precompiled header, built once and used by every target of its kind. A source still includes what it uses; precompiling
# is most of a small file's compile time saved. All targets of a kind compile with exactly the flags of the header.
#   _loupe_precompiled_header(kind HEADERS <a> <b> [LINK target…] [OPTIONS option…])
function(_loupe_precompiled_header kind)
  cmake_parse_arguments(ARG "" "" "HEADERS;LINK;OPTIONS" ${ARGN})
  set(pch loupe_${kind}_pch)
  if(TARGET ${pch} OR NOT LOUPE_PRECOMPILE)
    return()
  endif()
  file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/${pch}.cc CONTENT "// Carries a precompiled header.\n")
  add_library(${pch} OBJECT ${CMAKE_BINARY_DIR}/${pch}.cc)
  target_link_libraries(${pch} PRIVATE loupe_warnings ${ARG_LINK})
  target_compile_options(${pch} PRIVATE ${_loupe_precompiled_flags} ${ARG_OPTIONS})
  target_precompile_headers(${pch} PRIVATE ${ARG_HEADERS})
endfunction()

function(_loupe_use_precompiled target kind)
  if(NOT LOUPE_PRECOMPILE)
    return()
  endif()
  target_compile_options(${target} PRIVATE ${_loupe_precompiled_flags})
  target_precompile_headers(${target} REUSE_FROM loupe_${kind}_pch)
  _loupe_compile_as_library(${target})
endfunction()

# What is called by many and small is inlined, what is large is not: a fifth less to compile, for programs that wait for the
# network, the disk or LibTorch. (Clang's own bound is 225; kernels and statistics keep it.)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  set(_loupe_plain_options "SHELL:$<$<CONFIG:Release>:-mllvm -inline-threshold=20>")
endif()
set(_loupe_torch_options ${_loupe_plain_options})

# The kinds: each with its headers, what these link, the options of its targets and what a target of it links besides.
set(_loupe_plain_headers <algorithm> <cmath> <cstdint> <functional> <map> <memory> <optional> <set> <string> <string_view>
    <vector> <absl/status/statusor.h> <absl/time/time.h> <fmt/format.h>)
set(_loupe_plain_links absl::statusor absl::time fmt::fmt)
set(_loupe_plain_own PRIVATE fmt::fmt)

# torch/torch.h as a whole would cost each source 4 seconds more, for templates that are instantiated at its end.
set(_loupe_torch_headers <torch/types.h> <torch/utils.h> <torch/nn/module.h>)
set(_loupe_torch_links LibTorch::LibTorch)
set(_loupe_torch_own PUBLIC LibTorch::LibTorch)

# What speaks gRPC, or shows what came by it: it waits for the network, and -O1 is a sixth less to compile.
set(_loupe_rpc_only_headers <grpcpp/grpcpp.h> <loupe/v1/access.grpc.pb.h> <loupe/v1/analysis.grpc.pb.h>
    <loupe/v1/sweep.grpc.pb.h> <loupe/v1/trial.grpc.pb.h> <loupe/v1/worker.grpc.pb.h> <nlohmann/json.hpp> <CLI/CLI.hpp>)
set(_loupe_rpc_only_links loupe_proto_grpc nlohmann_json::nlohmann_json CLI11::CLI11)
set(_loupe_rpc_headers ${_loupe_plain_headers} ${_loupe_rpc_only_headers})
set(_loupe_rpc_links ${_loupe_plain_links} ${_loupe_rpc_only_links})
set(_loupe_rpc_options $<$<CONFIG:Release>:-O1> ${_loupe_plain_options})
set(_loupe_rpc_own ${_loupe_plain_own})

# Loops over numbers, which -O3 makes faster; everything else is built with -O2.
set(_loupe_numeric_headers ${_loupe_plain_headers} <Eigen/Dense>)
set(_loupe_numeric_links ${_loupe_plain_links} Eigen3::Eigen)
set(_loupe_numeric_options $<$<CONFIG:Release>:-O3>)
set(_loupe_numeric_own ${_loupe_plain_own})

# What is tested is optimised; the tests themselves are compiled once and run for seconds. (Clang's front end is quick and its
# optimiser is half of the time; with GCC it is the other way round, and -O1 costs nothing over -O0.)
set(_loupe_test_headers ${_loupe_plain_headers} <gmock/gmock.h> <gtest/gtest.h>)
set(_loupe_test_links ${_loupe_plain_links} GTest::gmock GTest::gtest)
set(_loupe_test_options $<$<CONFIG:Release>:$<IF:$<CXX_COMPILER_ID:Clang>,-O0,-O1>>)
set(_loupe_test_own ${_loupe_plain_own})
foreach(_kind rpc torch)
  set(_loupe_${_kind}_test_options ${_loupe_test_options})
  set(_loupe_${_kind}_test_own ${_loupe_${_kind}_own})
endforeach()
set(_loupe_rpc_test_headers ${_loupe_test_headers} ${_loupe_rpc_only_headers})
set(_loupe_rpc_test_links ${_loupe_test_links} ${_loupe_rpc_only_links})
set(_loupe_torch_test_headers ${_loupe_test_headers} ${_loupe_torch_headers})
set(_loupe_torch_test_links ${_loupe_test_links} ${_loupe_torch_links})

function(_loupe_compile_as kind target)
  _loupe_precompiled_header(${kind} LINK ${_loupe_${kind}_links} OPTIONS ${_loupe_${kind}_options}
    HEADERS ${_loupe_${kind}_headers})
  target_compile_options(${target} PRIVATE ${_loupe_${kind}_options})
  target_link_libraries(${target} ${_loupe_${kind}_own})
  _loupe_use_precompiled(${target} ${kind})
endfunction()

# A sanitizer's build may take the libraries in which that sanitizer has nothing to find from another build of the same sources:
# LOUPE_READY names them, LOUPE_READY_FROM is that build's folder. Compiling them again is half of such a build's time.
function(_loupe_take_ready target)
  file(RELATIVE_PATH folder ${CMAKE_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
  add_library(${target} STATIC IMPORTED GLOBAL)
  set_target_properties(${target} PROPERTIES IMPORTED_LOCATION ${LOUPE_READY_FROM}/${folder}/lib${target}.a
    IMPORTED_NO_SYSTEM ON)
  target_link_libraries(${target} INTERFACE ${ARGN})
endfunction()

# Several sources of a target compiled at a time as one (in builds with LOUPE_UNITY): reading and instantiating third-party
# headers costs more than our code. Names in their anonymous namespaces must then differ. Sixteen at a time take a third less
# than six did; of a source that sees LibTorch, 18 of its 25 seconds are what every such source instantiates.
function(_loupe_unity target)
  if(LOUPE_UNITY)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 16)
  endif()
endfunction()

# loupe_library(NAME name SRCS a.cc … [DEPS …] [PRIVATE_DEPS …] [TORCH|RPC|NUMERIC] [UNITY])
# TORCH sees LibTorch, RPC gRPC and the generated messages, NUMERIC is loops over numbers: each with a precompiled header of its
# own. These are compiled several sources at a time; UNITY says so for others.
function(loupe_library)
  cmake_parse_arguments(ARG "TORCH;RPC;NUMERIC;UNITY" "NAME" "SRCS;DEPS;PRIVATE_DEPS" ${ARGN})
  if(ARG_NAME IN_LIST LOUPE_READY)
    _loupe_take_ready(${ARG_NAME} ${ARG_DEPS} ${ARG_PRIVATE_DEPS} fmt::fmt)
    target_include_directories(${ARG_NAME} INTERFACE ${CMAKE_SOURCE_DIR})
    return()
  endif()
  add_library(${ARG_NAME} STATIC ${ARG_SRCS})
  _loupe_common_settings(${ARG_NAME})
  target_link_libraries(${ARG_NAME} PUBLIC ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
  if(ARG_TORCH)
    _loupe_compile_as(torch ${ARG_NAME})
  elseif(ARG_RPC)
    _loupe_compile_as(rpc ${ARG_NAME})
  elseif(ARG_NUMERIC)
    _loupe_compile_as(numeric ${ARG_NAME})
  else()
    _loupe_compile_as(plain ${ARG_NAME})
  endif()
  if(ARG_UNITY OR ARG_TORCH OR ARG_RPC OR ARG_NUMERIC)
    _loupe_unity(${ARG_NAME})
  endif()
endfunction()

# loupe_executable(NAME name SRCS … [DEPS …] [TORCH|RPC])
function(loupe_executable)
  cmake_parse_arguments(ARG "TORCH;RPC" "NAME" "SRCS;DEPS" ${ARGN})
  add_executable(${ARG_NAME} ${ARG_SRCS})
  _loupe_common_settings(${ARG_NAME})
  target_link_libraries(${ARG_NAME} PRIVATE ${ARG_DEPS})
  if(ARG_TORCH)
    _loupe_compile_as(torch ${ARG_NAME})
  elseif(ARG_RPC)
    _loupe_compile_as(rpc ${ARG_NAME})
  else()
    _loupe_compile_as(plain ${ARG_NAME})
  endif()
endfunction()

# What ./test also runs under a sanitizer (SANITIZERS address, thread or both): `cmake --build … --target sanitized_tests` and
# `ctest -L sanitized` in such a build, whose preset sets LOUPE_SANITIZER. Sets `labels` for the caller.
function(_loupe_sanitized_test target sanitizers)
  if(LOUPE_SANITIZER AND LOUPE_SANITIZER IN_LIST sanitizers)
    if(NOT TARGET sanitized_tests)
      add_custom_target(sanitized_tests)
    endif()
    add_dependencies(sanitized_tests ${target})
    set(labels LABELS sanitized PARENT_SCOPE)
  endif()
endfunction()

# loupe_test(NAME folder/foo_test SRCS … [DEPS …] [TORCH|RPC|OPTIMISED] [TIMEOUT seconds] [WHOLE] [SANITIZERS address|thread …])
# The ctest names are `folder/foo_test:Suite.Case`. WHOLE registers the binary as one ctest entry: for suites that share a
# costly fixture, and for TORCH tests, where each process start costs a second. OPTIMISED is for a test that runs for minutes: of
# an inline function that both have, the linker takes the test's, and with it at -O0 the libraries run a third longer.
function(loupe_test)
  cmake_parse_arguments(ARG "TORCH;RPC;OPTIMISED;WHOLE" "NAME;TIMEOUT" "SRCS;DEPS;SANITIZERS" ${ARGN})
  if(NOT ARG_TIMEOUT AND ARG_TORCH)
    set(ARG_TIMEOUT 300)
  elseif(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  string(REPLACE "/" "_" target ${ARG_NAME})
  add_executable(${target} ${ARG_SRCS})
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/test-bin)
  _loupe_common_settings(${target})
  target_link_libraries(${target} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest GTest::gtest_main)
  if(ARG_TORCH)
    _loupe_compile_as(torch_test ${target})
  elseif(ARG_RPC)
    _loupe_compile_as(rpc_test ${target})
  elseif(ARG_OPTIMISED)
    _loupe_compile_as(plain ${target})
  else()
    _loupe_compile_as(test ${target})
  endif()
  _loupe_unity(${target})
  set(labels)
  _loupe_sanitized_test(${target} "${ARG_SANITIZERS}")
  if(ARG_WHOLE OR ARG_TORCH)
    add_test(NAME ${ARG_NAME} COMMAND ${target} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(${ARG_NAME} PROPERTIES TIMEOUT ${ARG_TIMEOUT} ${labels})
  else()
    gtest_discover_tests(${target} TEST_PREFIX "${ARG_NAME}:" WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
      DISCOVERY_TIMEOUT 30 PROPERTIES TIMEOUT ${ARG_TIMEOUT} ${labels})
  endif()
endfunction()

# loupe_proto(NAME name PROTOS a.proto …): the messages as `name`, which knows no gRPC, and the services' stubs as `name`_grpc;
# both included as system headers (generated code).
function(loupe_proto)
  cmake_parse_arguments(ARG "" "NAME" "PROTOS" ${ARGN})
  set(stubs ${ARG_NAME}_grpc)
  if(ARG_NAME IN_LIST LOUPE_READY)
    _loupe_take_ready(${ARG_NAME} protobuf::libprotobuf)
    _loupe_take_ready(${stubs} ${ARG_NAME} gRPC::grpc++)
    target_include_directories(${ARG_NAME} SYSTEM INTERFACE ${LOUPE_READY_FROM}/gen)
    return()
  endif()
  set(out ${CMAKE_BINARY_DIR}/gen)
  file(MAKE_DIRECTORY ${out})
  set(message_files)
  set(stub_files)
  foreach(proto ${ARG_PROTOS})
    string(REGEX REPLACE "\\.proto$" "" stem ${proto})
    set(messages ${out}/${stem}.pb.cc ${out}/${stem}.pb.h)
    set(services ${out}/${stem}.grpc.pb.cc ${out}/${stem}.grpc.pb.h)
    add_custom_command(OUTPUT ${messages}
      COMMAND protobuf::protoc -I ${CMAKE_SOURCE_DIR}/proto --cpp_out=${out} ${CMAKE_SOURCE_DIR}/proto/${proto}
      DEPENDS ${CMAKE_SOURCE_DIR}/proto/${proto} VERBATIM)
    add_custom_command(OUTPUT ${services}
      COMMAND protobuf::protoc -I ${CMAKE_SOURCE_DIR}/proto --grpc_out=${out}
              --plugin=protoc-gen-grpc=${GRPC_CPP_PLUGIN} ${CMAKE_SOURCE_DIR}/proto/${proto}
      DEPENDS ${CMAKE_SOURCE_DIR}/proto/${proto} VERBATIM)
    list(APPEND message_files ${messages})
    list(APPEND stub_files ${services})
  endforeach()
  add_library(${ARG_NAME} STATIC ${message_files})
  add_library(${stubs} STATIC ${stub_files})
  # Generated messages have static names in common; service stubs have not.
  _loupe_unity(${stubs})
  # Read once per message, run next to a network: half of the optimiser's time for nothing.
  foreach(target ${ARG_NAME} ${stubs})
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1> ${_loupe_plain_options})
  endforeach()
  target_include_directories(${ARG_NAME} SYSTEM PUBLIC ${out})
  target_link_libraries(${ARG_NAME} PUBLIC protobuf::libprotobuf)
  target_link_libraries(${stubs} PUBLIC ${ARG_NAME} gRPC::grpc++)
endfunction()
