#include "worker/io/base_folder.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/settings/settings.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "fmt/format.h"
#include "worker/io/json_config.h"

namespace loupe::worker::io {
namespace {

namespace fs = std::filesystem;

std::string IndexPath(const std::string& folder) { return folder + "/model_index.json"; }

std::string LowerName(std::string_view name) {
  return absl::AsciiStrToLower(absl::StripAsciiWhitespace({name.data(), name.size()}));
}

}  // namespace

std::string_view BaseKindName(BaseKind kind) {
  switch (kind) {
    case BaseKind::kUNet:
      return "UNet";
    case BaseKind::kDiT:
      return "DiT";
    case BaseKind::kDiffuSSM:
      return "DiffuSSM";
  }
  return "";
}

std::string_view DenoiserFolder(BaseKind kind) {
  switch (kind) {
    case BaseKind::kUNet:
      return "unet";
    case BaseKind::kDiT:
      return "transformer";
    case BaseKind::kDiffuSSM:
      return "ssm";
  }
  return "";
}

std::string_view DenoiserClass(BaseKind kind) {
  switch (kind) {
    case BaseKind::kUNet:
      return "UNet2DConditionModel";
    case BaseKind::kDiT:
      return "DiTTransformer2DModel";
    case BaseKind::kDiffuSSM:
      return "DiffuSSMModel";
  }
  return "";
}

absl::StatusOr<BaseKind> BaseKindOf(const std::string& folder) {
  std::error_code error;
  if (fs::exists(IndexPath(folder), error)) {
    LOUPE_ASSIGN_OR_RETURN(const JsonConfig index, JsonConfig::Read(IndexPath(folder)));
    for (const BaseKind kind : kBaseKinds) {
      if (index.Has(DenoiserFolder(kind))) return kind;
    }
  }
  for (const BaseKind kind : kBaseKinds) {
    if (fs::exists(fmt::format("{}/{}/config.json", folder, DenoiserFolder(kind)), error)) return kind;
  }
  return BaseKind::kUNet;
}

const std::vector<Position>& MissingPositions(BaseKind kind) {
  using enum Position;
  static const std::vector<Position> none, dit = {kCaIn, kCaC, kCaOut, kResIn, kResOut},
                                           ssm = {kCaIn, kCaC, kCaOut, kFfnIn, kFfnOut, kResIn, kResOut};
  switch (kind) {
    case BaseKind::kUNet:
      return none;
    case BaseKind::kDiT:
      return dit;
    case BaseKind::kDiffuSSM:
      return ssm;
  }
  return none;
}

absl::StatusOr<ClassNames> ClassNames::Read(const std::string& folder, int64_t classes) {
  ClassNames names;
  names.classes_ = classes;
  const std::string path = IndexPath(folder);
  std::error_code error;
  if (!fs::exists(path, error)) return names;
  LOUPE_ASSIGN_OR_RETURN(JsonConfig index, JsonConfig::Read(path));
  if (!index.Has("id2label")) return names;
  const JsonConfig labels = index.Object("id2label");
  LOUPE_RETURN_IF_ERROR(index.status());
  for (const auto& [key, value] : labels.object().items()) {
    int64_t id = 0;
    if (!absl::SimpleAtoi(key, &id) || id < 0 || id >= classes || !value.is_string()) {
      return absl::InvalidArgumentError(
          fmt::format("{}: id2label has '{}': {}, expected a class from 0 to {} and a text", path, Printable(key),
                      Printable(value.dump()), classes - 1));
    }
    for (const absl::string_view part : absl::StrSplit(value.get_ref<const std::string&>(), ',')) {
      const std::string name(absl::StripAsciiWhitespace(part));
      if (name.empty()) continue;
      names.first_name_.emplace(id, name);
      const auto [other, is_new] = names.by_name_.emplace(LowerName(name), id);
      // ImageNet itself calls two of its classes "crane": the first keeps the name.
      if (!is_new) other->second = std::min(other->second, id);
    }
  }
  return names;
}

std::string ClassNames::NameOf(int64_t id) const {
  const auto found = first_name_.find(id);
  return found == first_name_.end() ? std::to_string(id) : found->second;
}

absl::StatusOr<int64_t> ClassNames::Find(std::string_view prompt) const {
  const std::string name = LowerName(prompt);
  if (name.empty()) return classes_ == 1 ? 0 : classes_;
  if (const auto found = by_name_.find(name); found != by_name_.end()) return found->second;
  int64_t id = 0;
  if (absl::SimpleAtoi(name, &id) && id >= 0 && id < classes_) return id;
  std::vector<std::string> known;
  for (const auto& [other, number] : by_name_) known.push_back(other);
  const std::string near = settings::NearestName(name, known);
  return absl::InvalidArgumentError(fmt::format("'{}' is no class of the base: expected a number from 0 to {}{}{}",
                                                Printable(std::string(prompt)), classes_ - 1,
                                                known.empty() ? "" : ", or a class's name such as '" + NameOf(0) + "'",
                                                near.empty() ? "" : "; did you mean '" + near + "'?"));
}

}  // namespace loupe::worker::io
