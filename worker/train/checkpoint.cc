#include "worker/train/checkpoint.h"

#include <torch/utils.h>

#include <filesystem>
#include <stdexcept>

#include "absl/strings/numbers.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"
#include "worker/io/safetensors.h"
#include "worker/models/weights.h"

namespace loupe::worker {
namespace {

constexpr char kFingerprintKey[] = "loupe.checkpoint";
constexpr char kStepKey[] = "loupe.step";
constexpr char kDigestKey[] = "loupe.arrays_sha256";

}  // namespace

void WriteCheckpoint(const std::string& path, const std::string& fingerprint, const Checkpoint& checkpoint) {
  const TensorArrays written = ToArrays(checkpoint.arrays);
  const Metadata metadata = {{kFingerprintKey, fingerprint},
                             {kStepKey, fmt::format("{}", checkpoint.step)},
                             {kDigestKey, DigestOfArrays(written.views)}};
  const absl::Status status = WriteSafetensors(path, written.views, metadata);
  if (!status.ok()) throw std::runtime_error(std::string(status.message()));
}

std::optional<Checkpoint> ReadCheckpoint(const std::string& path, const std::string& fingerprint) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  const auto file = SafetensorsFile::Open(path);
  if (!file.ok()) {
    spdlog::warn("the checkpoint is not used, training starts anew: {}", std::string(file.status().message()));
    return std::nullopt;
  }
  const auto found = file->metadata().find(kFingerprintKey);
  if (found == file->metadata().end() || found->second != fingerprint) {
    spdlog::info("{}: a checkpoint of other settings, seeds or data; training starts anew", path);
    return std::nullopt;
  }
  const auto digest = file->metadata().find(kDigestKey);
  if (digest == file->metadata().end() || digest->second != DigestOfArrays(file->arrays())) {
    spdlog::warn(
        "{}: its arrays do not have the digest that it names; the checkpoint is not used, training starts anew", path);
    return std::nullopt;
  }
  Checkpoint checkpoint;
  for (const auto& [name, view] : file->arrays()) checkpoint.arrays[name] = ToTensor(view);
  TORCH_CHECK(absl::SimpleAtoi(file->metadata().at(kStepKey), &checkpoint.step), path, ": its step is no number");
  return checkpoint;
}

}  // namespace loupe::worker
