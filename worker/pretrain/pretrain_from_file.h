// Pretraining as a command sees it, without its tensors.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace loupe::worker::pretrain {

// Reads the config (configs/bases/*.yaml) and trains into `out`, or goes on there (pretrain.h), for `hours` at most (0:
// until finished), on `device` as ParseDevice reads it. INVALID_ARGUMENT or NOT_FOUND names what is wrong with the
// config, FAILED_PRECONDITION a device that is not there; other errors name the part or the file.
absl::Status PretrainFromFile(const std::string& config_path, const std::string& out, double hours,
                              const std::string& device);

}  // namespace loupe::worker::pretrain
