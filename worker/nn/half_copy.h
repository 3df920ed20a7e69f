// A value in 16 bits, for passes under autocast: LibTorch would cast it in each of them. It keeps casts itself only of
// what is trained, and only until the scope ends; a base's weights are frozen, and a network has hundreds of them.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <mutex>

namespace loupe::worker::nn {

// Thread-safe. The memory is kept for as long as this lives: half of the value's.
class HalfCopy {
 public:
  // `value` in the type of this thread's passes on its device, the bytes that autocast would make of it; itself where
  // they are not in 16 bits, where it is not float32, where a gradient of it is wanted, and where it is undefined.
  // Whoever writes into it raises its version, as LibTorch's operators do.
  torch::Tensor Of(const torch::Tensor& value);
  // The copy that there is; undefined without one.
  torch::Tensor kept() const {
    const std::lock_guard lock(mutex_);
    return made_;
  }

 private:
  mutable std::mutex mutex_;
  torch::Tensor made_from_, made_;
  int64_t version_ = 0;
};

}  // namespace loupe::worker::nn
