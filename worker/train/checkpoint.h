// A training run's state in a file: arrays, the step that they are of, and whose they are.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/train/batch_source.h"

namespace loupe::worker::train {

struct Checkpoint {
  TensorMap arrays;
  int64_t step = 0;
};

// Atomically, with a digest of the arrays. `fingerprint` names the run: settings, seeds, base, data, and the format.
// The file that was there stays when the disk refuses.
absl::Status WriteCheckpoint(const std::string& path, const std::string& fingerprint, const Checkpoint& checkpoint);

// NOT_FOUND: there is none at `path`; INVALID_ARGUMENT: it is of another run, and the message has that run's
// fingerprint; DATA_LOSS: it is damaged. Each is a sentence that begins with the path.
absl::StatusOr<Checkpoint> ReadCheckpoint(const std::string& path, const std::string& fingerprint);

}  // namespace loupe::worker::train
