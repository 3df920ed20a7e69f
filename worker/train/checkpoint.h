// A training run's state in a file: arrays, the step that they are of, and whose they are.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "worker/train/batch_source.h"

namespace loupe::worker {

struct Checkpoint {
  TensorMap arrays;
  int64_t step = 0;
};

// Atomically, with a digest of the arrays. `fingerprint` names the run: settings, seeds, base, data, and the format.
// Throws std::runtime_error when the disk refuses; then the file that was there stays.
void WriteCheckpoint(const std::string& path, const std::string& fingerprint, const Checkpoint& checkpoint);

// Nothing when there is none at `path`, it is of another run (said in the log), or it is damaged (a warning).
std::optional<Checkpoint> ReadCheckpoint(const std::string& path, const std::string& fingerprint);

}  // namespace loupe::worker
