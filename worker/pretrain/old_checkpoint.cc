#include "worker/pretrain/old_checkpoint.h"

#include <filesystem>
#include <utility>

#include "absl/strings/numbers.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/safetensors.h"
#include "worker/models/weights.h"
#include "worker/train/checkpoint.h"

namespace loupe::worker::pretrain {
namespace {

// Prefixes of then, and what stands around a parameter's name now. The average's were as they are.
struct Renamed {
  const char *old_prefix, *prefix, *suffix;
};
constexpr Renamed kRenamed[] = {
    {"network.", "value.", ""},
    {"optimiser.momentum.", "optimizer.", ".momentum"},
    {"optimiser.adam_first.", "optimizer.", ".exp_avg"},
    {"optimiser.adam_second.", "optimizer.", ".exp_avg_sq"},
};

std::string NameToday(const std::string& old) {
  for (const Renamed& renamed : kRenamed) {
    const std::string prefix = renamed.old_prefix;
    if (old.starts_with(prefix)) return renamed.prefix + old.substr(prefix.size()) + renamed.suffix;
  }
  return old;
}

}  // namespace

std::string PretrainingFingerprint(const std::string& stage, uint64_t seed) {
  return fmt::format("stage '{}', seed '{}'", stage, seed);
}

absl::Status UpgradeOldCheckpoint(const std::string& path) {
  if (!std::filesystem::exists(path)) return absl::OkStatus();
  const auto file = io::SafetensorsFile::Open(path);
  // Whoever reads it next says what is wrong with it.
  if (!file.ok()) return absl::OkStatus();
  io::Metadata metadata = file->metadata();
  train::Checkpoint checkpoint;
  uint64_t seed = 0;
  if (!metadata.contains("stage") || !absl::SimpleAtoi(metadata["seed"], &seed) ||
      !absl::SimpleAtoi(metadata["step"], &checkpoint.step)) {
    return absl::OkStatus();
  }
  // The oldest have no digest.
  const auto digest = metadata.find("arrays_sha256");
  if (digest != metadata.end() && digest->second != models::DigestOfArrays(file->arrays())) {
    return absl::DataLossError(fmt::format(
        "{}: its arrays do not have the digest that it names: it is damaged; remove it to begin this part anew", path));
  }
  for (const auto& [name, array] : file->arrays()) checkpoint.arrays[NameToday(name)] = models::ToTensor(array);
  return train::WriteCheckpoint(path, PretrainingFingerprint(metadata["stage"], seed), checkpoint);
}

}  // namespace loupe::worker::pretrain
