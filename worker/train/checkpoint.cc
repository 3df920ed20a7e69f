#include "worker/train/checkpoint.h"

#include <torch/utils.h>

#include <filesystem>

#include "absl/strings/numbers.h"
#include "fmt/format.h"
#include "worker/io/safetensors.h"
#include "worker/models/weights.h"

namespace loupe::worker::train {
namespace {

constexpr char kFingerprintKey[] = "loupe.checkpoint";
constexpr char kStepKey[] = "loupe.step";
constexpr char kDigestKey[] = "loupe.arrays_sha256";

}  // namespace

const torch::Tensor& TakeState(const TensorMap& state, const std::string& name) {
  const auto found = state.find(name);
  TORCH_CHECK(found != state.end(), "the checkpoint has no array '", name, "'");
  return found->second;
}

void CopyInto(torch::Tensor into, const TensorMap& state, const std::string& name) {
  const torch::Tensor& found = TakeState(state, name);
  TORCH_CHECK(found.sizes() == into.sizes(), "the checkpoint's array '", name, "' has shape ", found.sizes(),
              "; expected ", into.sizes());
  into.copy_(found);
}

absl::Status WriteCheckpoint(const std::string& path, const std::string& fingerprint, const Checkpoint& checkpoint) {
  const models::TensorArrays written = models::ToArrays(checkpoint.arrays);
  const io::Metadata metadata = {{kFingerprintKey, fingerprint},
                                 {kStepKey, fmt::format("{}", checkpoint.step)},
                                 {kDigestKey, models::DigestOfArrays(written.views)}};
  return io::WriteSafetensors(path, written.views, metadata);
}

absl::StatusOr<Checkpoint> ReadCheckpoint(const std::string& path, const std::string& fingerprint) {
  if (!std::filesystem::exists(path)) return absl::NotFoundError(fmt::format("{}: there is no checkpoint", path));
  const auto file = io::SafetensorsFile::Open(path);
  if (!file.ok()) return absl::DataLossError(file.status().message());
  const auto found = file->metadata().find(kFingerprintKey);
  if (found == file->metadata().end() || found->second != fingerprint) {
    return absl::InvalidArgumentError(
        fmt::format("{}: a checkpoint of another run: {}; this one is {}", path,
                    found == file->metadata().end() ? "it does not say which" : found->second, fingerprint));
  }
  const auto digest = file->metadata().find(kDigestKey);
  if (digest == file->metadata().end() || digest->second != models::DigestOfArrays(file->arrays())) {
    return absl::DataLossError(
        fmt::format("{}: the checkpoint's arrays do not have the digest that it names: it is damaged", path));
  }
  Checkpoint checkpoint;
  for (const auto& [name, view] : file->arrays()) checkpoint.arrays[name] = models::ToTensor(view);
  const auto step = file->metadata().find(kStepKey);
  if (step == file->metadata().end() || !absl::SimpleAtoi(step->second, &checkpoint.step)) {
    return absl::DataLossError(fmt::format("{}: the checkpoint's step is no number", path));
  }
  return checkpoint;
}

}  // namespace loupe::worker::train
