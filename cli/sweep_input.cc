#include "cli/sweep_input.h"

#include <filesystem>

#include "cli/output.h"
#include "common/settings/settings.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::cli {
namespace {

// Plan makes no empty object, and needs none: the optional-like pair is built in one go.
absl::StatusOr<SweepInput> PlanFile(coordinator::SweepFile file) {
  std::error_code error;
  const std::filesystem::path working_directory = std::filesystem::current_path(error);
  if (error) return absl::NotFoundError(fmt::format("cannot tell the working directory: {}", error.message()));
  coordinator::MakePathsAbsolute(file.spec, working_directory.string());
  absl::StatusOr<coordinator::Plan> plan = coordinator::Plan::Create(file.spec);
  if (!plan.ok()) return coordinator::LocateInFile(plan.status(), file);
  return SweepInput{.file = std::move(file), .plan = *std::move(plan)};
}

}  // namespace

absl::StatusOr<SweepInput> ReadSweepInput(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const std::string text, ReadInput(path));
  LOUPE_ASSIGN_OR_RETURN(coordinator::SweepFile file,
                         coordinator::ParseSweepFile(text, path == "-" ? "standard input" : path));
  return PlanFile(std::move(file));
}

std::vector<std::string> MissingPathNotes(const coordinator::Plan& plan) {
  std::vector<std::string> notes;
  const auto check = [&](const std::string& key, const std::string& path) {
    std::error_code error;
    if (FindSettingRule(key)->type != SettingType::kPath || std::filesystem::exists(path, error)) return;
    notes.push_back(fmt::format("{}: {} is not on this machine; the workers will need it under this path", key, path));
  };
  for (const auto& [key, value] : plan.spec().settings) check(key, value);
  for (const coordinator::SweepFactor& factor : plan.factors()) {
    for (const std::string& level : factor.levels) check(factor.key, level);
  }
  return notes;
}

}  // namespace loupe::cli
