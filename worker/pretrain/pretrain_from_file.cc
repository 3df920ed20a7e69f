#include "worker/pretrain/pretrain_from_file.h"

#include "common/status_macros.h"
#include "worker/pretrain/pretrain.h"
#include "worker/runtime/device.h"

namespace loupe::worker::pretrain {

absl::Status PretrainFromFile(const std::string& config_path, const std::string& out, double hours,
                              const std::string& device) {
  LOUPE_ASSIGN_OR_RETURN(const auto config, PretrainConfig::Read(config_path));
  train::TrainingLimit limit;
  if (hours > 0) limit = {.clock = &SystemClock(), .deadline = SystemClock().MonotonicNow() + absl::Hours(hours)};
  LOUPE_ASSIGN_OR_RETURN(const torch::Device where, runtime::PrepareDevice(device, /*threads=*/0));
  return Pretrain(config, out, limit, where);
}

}  // namespace loupe::worker::pretrain
