#include "cli/base_check.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "common/positions.h"
#include "common/settings/settings.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "worker/io/base_folder.h"
#include "worker/io/json_config.h"

namespace loupe::cli {
namespace {

using worker::io::BaseKind;

// Cells beyond it are looked at evenly spread: what can be wrong repeats.
constexpr int64_t kMostCells = 20'000;

struct KnownBase {
  BaseKind kind;
  worker::io::ClassNames classes;
};

// Of the config.json beside the weights, by the key that its kind of network has.
absl::StatusOr<int64_t> ClassCount(const std::string& base, BaseKind kind) {
  LOUPE_ASSIGN_OR_RETURN(auto config, worker::io::JsonConfig::Read(
                                          fmt::format("{}/{}/config.json", base, worker::io::DenoiserFolder(kind))));
  const int64_t classes =
      kind == BaseKind::kDiT ? config.Int("num_embeds_ada_norm", 1000) : config.Int("num_classes", 1);
  LOUPE_RETURN_IF_ERROR(config.status());
  return classes;
}

// nullopt: not on this machine.
absl::StatusOr<std::optional<KnownBase>> Look(const std::string& base) {
  std::error_code error;
  if (!std::filesystem::exists(base, error)) return std::nullopt;
  KnownBase known;
  LOUPE_ASSIGN_OR_RETURN(known.kind, worker::io::BaseKindOf(base));
  if (known.kind == BaseKind::kUNet) return known;
  LOUPE_ASSIGN_OR_RETURN(const int64_t classes, ClassCount(base, known.kind));
  LOUPE_ASSIGN_OR_RETURN(known.classes, worker::io::ClassNames::Read(base, classes));
  return known;
}

absl::Status CheckPositions(const std::string& base, BaseKind kind, const settings::Settings& settings) {
  if (settings.Text("method.kind") != "adapter") return absl::OkStatus();
  const std::vector<Position>& missing = worker::io::MissingPositions(kind);
  for (const char* key : {"method.input", "method.output"}) {
    const auto position = ParsePosition(settings.Text(key));
    if (!position || std::find(missing.begin(), missing.end(), *position) == missing.end()) continue;
    std::vector<std::string_view> there;
    for (const Position other : key == std::string_view("method.input") ? InputPositions() : OutputPositions()) {
      if (std::find(missing.begin(), missing.end(), other) == missing.end()) there.push_back(PositionName(other));
    }
    return absl::InvalidArgumentError(fmt::format("{}: {} is a {}, whose blocks have no {}; there it can be {}", key,
                                                  base, worker::io::BaseKindName(kind), PositionName(*position),
                                                  fmt::join(there, ", ")));
  }
  return absl::OkStatus();
}

absl::Status CheckTask(const std::string& base, const KnownBase& known, const settings::Settings& settings) {
  const std::string& task = settings.Text("task.kind");
  if (known.kind == BaseKind::kUNet) {
    if (task != "classes") return absl::OkStatus();
    return absl::InvalidArgumentError(fmt::format(
        "task.kind: classes is for a base whose prompts are classes, and {} is a UNet told by texts; use finetune",
        base));
  }
  if (task == "finetune") {
    return absl::InvalidArgumentError(
        fmt::format("task.kind: finetune is for captions, and the prompts of {}, a {}, are classes; use classes", base,
                    worker::io::BaseKindName(known.kind)));
  }
  if (task != "dreambooth") return absl::OkStatus();
  for (const char* key : {"task.instance_prompt", "task.class_prompt"}) {
    const auto found = known.classes.Find(settings.Text(key));
    if (!found.ok()) {
      return absl::InvalidArgumentError(fmt::format("{}: {}: {}", key, base, std::string(found.status().message())));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckBases(const coordinator::plan::Plan& plan) {
  std::map<std::string, std::optional<KnownBase>> bases;
  for (const std::string& base : plan.ValuesOf("base")) {
    absl::StatusOr<std::optional<KnownBase>> known = Look(base);
    // Whatever is wrong in its folder is told by who loads it.
    if (known.ok() && known->has_value()) bases[base] = **known;
  }
  // A UNet has every position and takes every prompt.
  const std::vector<std::string> tasks = plan.ValuesOf("task.kind");
  const bool asks_for_classes = std::find(tasks.begin(), tasks.end(), "classes") != tasks.end();
  const bool only_unets =
      std::all_of(bases.begin(), bases.end(), [](const auto& base) { return base.second->kind == BaseKind::kUNet; });
  if (only_unets && !asks_for_classes) return absl::OkStatus();
  const int64_t stride = std::max<int64_t>(1, plan.cell_count() / kMostCells);
  for (int64_t cell = 0; cell < plan.cell_count(); cell += stride) {
    const settings::Settings settings = plan.CellSettings(cell);
    const auto found = bases.find(settings.Text("base"));
    if (found == bases.end()) continue;
    LOUPE_RETURN_IF_ERROR(CheckPositions(found->first, found->second->kind, settings));
    LOUPE_RETURN_IF_ERROR(CheckTask(found->first, *found->second, settings));
  }
  return absl::OkStatus();
}

}  // namespace loupe::cli
