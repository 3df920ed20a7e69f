# LibTorch::LibTorch from the PyTorch wheel (CPU or CUDA), without Torch's own CMake package: that one shadows
# protobuf's targets and wants nvcc at configure time.
#   LIBTORCH_ROOT   the wheel's `torch` folder; default: found in the project's .venv
file(GLOB _venv_torch ${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
set(LIBTORCH_ROOT "${_venv_torch}" CACHE PATH "The PyTorch wheel's torch folder")
if(NOT LIBTORCH_ROOT AND _venv_torch)
  set(LIBTORCH_ROOT "${_venv_torch}" CACHE PATH "The PyTorch wheel's torch folder" FORCE)
endif()

set(_torch_lib ${LIBTORCH_ROOT}/lib)
set(_torch_libs)
foreach(_name torch torch_cpu c10 torch_cuda c10_cuda)
  if(EXISTS ${_torch_lib}/lib${_name}.so)
    list(APPEND _torch_libs ${_torch_lib}/lib${_name}.so)
  endif()
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS LIBTORCH_ROOT _torch_libs
  REASON_FAILURE_MESSAGE "run ./test --build-only, or give -DLIBTORCH_ROOT=…/site-packages/torch, or -DLOUPE_WITH_TORCH=OFF")

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  add_library(LibTorch::LibTorch INTERFACE IMPORTED)
  # -idirafter: the wheel also carries fmt/ and google/ headers of other versions; Debian's must win.
  target_compile_options(LibTorch::LibTorch INTERFACE
    "SHELL:-idirafter ${LIBTORCH_ROOT}/include" "SHELL:-idirafter ${LIBTORCH_ROOT}/include/torch/csrc/api/include")
  target_compile_definitions(LibTorch::LibTorch INTERFACE USE_DISTRIBUTED USE_C10D_GLOO)
  # Before any other BLAS on the link line: the wheel exports its own under the standard names, and whichever comes first
  # serves both. OpenBLAS in its place would bring a second pool of threads that spins beside LibTorch's. But behind the C++
  # library: CUDA wheels export pieces of std::filesystem that crash outside LibTorch.
  target_link_options(LibTorch::LibTorch INTERFACE "LINKER:--no-as-needed" -lstdc++ ${_torch_libs})
  target_link_libraries(LibTorch::LibTorch INTERFACE ${_torch_libs})
  set_target_properties(LibTorch::LibTorch PROPERTIES INTERFACE_LINK_DIRECTORIES ${_torch_lib})
  set(LIBTORCH_HAS_CUDA OFF)
  if(EXISTS ${_torch_lib}/libtorch_cuda.so)
    set(LIBTORCH_HAS_CUDA ON)
    get_filename_component(_site ${LIBTORCH_ROOT} DIRECTORY)
    target_compile_definitions(LibTorch::LibTorch INTERFACE USE_C10D_NCCL LOUPE_WITH_CUDA)
    foreach(_dir nvidia/cu13/include nvidia/nccl/include)
      target_compile_options(LibTorch::LibTorch INTERFACE "SHELL:-idirafter ${_site}/${_dir}")
    endforeach()
    foreach(_dir cu13 nccl cudnn cusparselt nvshmem)
      target_link_options(LibTorch::LibTorch INTERFACE "LINKER:-rpath-link,${_site}/nvidia/${_dir}/lib")
    endforeach()
  endif()
endif()
