// Whose a pretraining checkpoint is, and those that were written before trials and pretraining had one format.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace loupe::worker::pretrain {

// What a checkpoint of one part of a run is told by (checkpoint.h): "stage 'vae', seed '5'".
std::string PretrainingFingerprint(const std::string& stage, uint64_t seed);

// A checkpoint of the older format at `path` (arrays "network.…" and "optimiser.…", metadata stage, seed and step) is
// replaced by the same state in today's, from which training goes on; anything else, or nothing there, is left alone.
// DATA_LOSS: the old file is damaged. Errors of writing pass through; then the old file stays.
absl::Status UpgradeOldCheckpoint(const std::string& path);

}  // namespace loupe::worker::pretrain
