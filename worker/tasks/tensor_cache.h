// Tensors that are costly to compute and depend on their key alone, kept on disk and shared by all workers of a
// machine.
#pragma once

#include <torch/types.h>

#include <functional>
#include <string>

#include "worker/train/batch_source.h"

namespace loupe::worker::tasks {

// {root}/{kind}/{SHA-256 of the key's text}.safetensors: a key names everything that the content depends on, so entries
// are only made, never changed. Nobody removes them. Thread-safe.
class TensorCache {
 public:
  explicit TensorCache(std::string root) : root_(std::move(root)) {}

  // The entry's arrays, contiguous and on the CPU; what `make` returns is brought to that form too, so that a cold and
  // a warm cache give the same bits. Of several processes that miss an entry one calls `make` and the others wait;
  // `while_waiting` is called ten times a second meanwhile and may throw. The lock of a process that dies is free
  // again.
  //
  // A damaged entry (each holds a digest of its arrays), and one with a value that is not finite, is made anew; when
  // the disk refuses the entry, what was made is used all the same. Both are logged as warnings. Throws UserError
  // naming the folder when it cannot be made; what `make` throws flies through and leaves no entry.
  train::TensorMap GetOrMake(const std::string& kind, const std::string& key,
                             const std::function<train::TensorMap()>& make,
                             const std::function<void()>& while_waiting = {}) const;

 private:
  const std::string root_;
};

}  // namespace loupe::worker::tasks
