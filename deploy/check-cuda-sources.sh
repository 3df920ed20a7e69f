#!/usr/bin/env bash
# Compiles, without linking, the sources that differ where LibTorch has CUDA (LOUPE_WITH_CUDA), on a machine that has neither a GPU
# nor a CUDA toolkit: against the headers of NVIDIA's wheels and those of the LibTorch wheel at hand, with the product's warnings
# as errors. It shows that the NCCL path compiles, and nothing of what it does. Fetches about 400 MB, of which headers are kept.
#
#     deploy/check-cuda-sources.sh [FOLDER]      FOLDER keeps the headers for the next time (default: one that is removed)
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
torch=${LIBTORCH_INCLUDE:-$("$python" -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parent / "include")')}
folder=${1:-$(mktemp -d)}
[ $# -gt 0 ] || trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/stand-in/c10/cuda/impl"

# cuda_runtime.h takes crt/ from the compiler's wheel and nv/target from CCCL's.
for package in cuda-runtime-cu12==12.9.79 cuda-nvcc-cu12==12.9.86 cuda-cccl-cu12==12.9.27 nccl-cu12==2.32.3; do
  name=${package%%-cu12*}
  name=${name//-/_}
  [ -d "$folder/nvidia/$name/include" ] && continue
  "$python" -m pip download --quiet --no-deps --dest "$folder/wheels" "nvidia-$package"
  "$python" -m zipfile -e "$folder"/wheels/*.whl "$folder/unpacked"
  mkdir -p "$folder/nvidia/$name"
  mv "$folder/unpacked/nvidia/$name/include" "$folder/nvidia/$name/"
  rm -rf "$folder/wheels" "$folder/unpacked"
done

# LibTorch's CUDA headers name handles of three libraries of which nothing of ours is called; their wheels have gigabytes. And one
# header is made when LibTorch is built with CUDA.
stand_in() { printf '#pragma once\n%s\n' "$2" >"$folder/stand-in/$1"; }
stand_in cublas_v2.h 'using cublasHandle_t = struct cublasContext*; enum cublasStatus_t : int {};'
stand_in cublasLt.h 'using cublasLtHandle_t = struct cublasLtContext*;'
stand_in cusparse.h 'using cusparseHandle_t = struct cusparseContext*; enum cusparseStatus_t : int {};
extern "C" const char* cusparseGetErrorString(cusparseStatus_t);'
stand_in cusolverDn.h 'using cusolverDnHandle_t = struct cusolverDnContext*;'
stand_in cusolver_common.h 'enum cusolverStatus_t : int {};'
stand_in c10/cuda/impl/cuda_cmake_macros.h '#define C10_CUDA_BUILD_SHARED_LIBS'

system=(-isystem "$folder/stand-in")
for include in "$folder"/nvidia/*/include; do system+=(-isystem "$include"); done
for source in $(git grep -l LOUPE_WITH_CUDA -- 'worker/*.cc'); do
  "${CXX:-c++}" -std=c++20 -fsyntax-only -DLOUPE_WITH_CUDA -DUSE_C10D_NCCL -DUSE_C10D_GLOO -DUSE_DISTRIBUTED -DFMT_SHARED -I. \
    -Wall -Wextra -Wconversion -Wno-sign-conversion -Wno-missing-field-initializers -Werror "${system[@]}" \
    -idirafter "$torch" -idirafter "$torch/torch/csrc/api/include" "$source"
  echo "$source compiles with CUDA and NCCL"
done
