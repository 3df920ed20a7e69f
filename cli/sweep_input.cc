#include "cli/sweep_input.h"

#include <filesystem>

#include "cli/base_check.h"
#include "cli/output.h"
#include "common/settings/settings.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::cli {
namespace {

// Plan makes no empty object, and needs none: the optional-like pair is built in one go.
absl::StatusOr<SweepInput> PlanFile(coordinator::plan::SweepFile file) {
  std::error_code error;
  const std::filesystem::path working_directory = std::filesystem::current_path(error);
  if (error) return absl::NotFoundError(fmt::format("cannot tell the working directory: {}", error.message()));
  coordinator::plan::MakePathsAbsolute(file.spec, working_directory.string());
  absl::StatusOr<coordinator::plan::Plan> plan = coordinator::plan::Plan::Create(file.spec);
  if (!plan.ok()) return coordinator::plan::LocateInFile(plan.status(), file);
  LOUPE_RETURN_IF_ERROR(CheckBases(*plan));
  return SweepInput{.file = std::move(file), .plan = *std::move(plan)};
}

}  // namespace

absl::StatusOr<SweepInput> ReadSweepInput(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const std::string text, ReadInput(path));
  LOUPE_ASSIGN_OR_RETURN(coordinator::plan::SweepFile file,
                         coordinator::plan::ParseSweepFile(text, path == "-" ? "standard input" : path));
  return PlanFile(std::move(file));
}

std::vector<std::string> MissingPathNotes(const coordinator::plan::Plan& plan) {
  std::vector<std::string> notes;
  for (const settings::SettingRule& rule : settings::SettingRules()) {
    if (rule.type != settings::SettingType::kPath) continue;
    for (const std::string& path : plan.ValuesOf(rule.key)) {
      std::error_code error;
      if (std::filesystem::exists(path, error)) continue;
      notes.push_back(
          fmt::format("{}: {} is not on this machine; the workers will need it under this path", rule.key, path));
    }
  }
  return notes;
}

}  // namespace loupe::cli
