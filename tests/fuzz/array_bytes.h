// How many bytes an array has by its type and shape: what a reader's answer is held to.
#pragma once

#include "worker/io/safetensors.h"

namespace loupe::fuzz {

inline size_t BytesOfShape(const worker::io::ArrayView& array) {
  auto bits = static_cast<size_t>(worker::io::ElementBits(array.type));
  for (const int64_t extent : array.shape) bits *= static_cast<size_t>(extent);
  return bits / 8;
}

}  // namespace loupe::fuzz
