#include "coordinator/plan/sweep_file.h"

#include <algorithm>
#include <filesystem>

#include "common/error_details.h"
#include "common/settings/settings.h"
#include "coordinator/plan/factor_names.h"
#include "coordinator/plan/plan.h"
#include "coordinator/plan/sweep_file_reader.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::coordinator::plan {
namespace {

absl::Status Refusal(std::string_view file_name, std::vector<FileProblem> problems) {
  std::stable_sort(problems.begin(), problems.end(),
                   [](const FileProblem& a, const FileProblem& b) { return a.place < b.place; });
  std::vector<FieldViolation> violations;
  std::vector<std::string> lines;
  for (const FileProblem& problem : problems) {
    std::string where(file_name);
    if (problem.place.line > 0) where += fmt::format(":{}:{}", problem.place.line, problem.place.column);
    lines.push_back(fmt::format("{}: {}", where, problem.message));
    violations.push_back({std::move(where), problem.message});
  }
  return WithFieldViolations(absl::InvalidArgumentError(fmt::format("{}", fmt::join(lines, "\n"))), violations);
}

// The place of a violation's field, or of the nearest thing around it.
FilePlace PlaceOfField(const SweepFile& file, std::string field) {
  while (!field.empty()) {
    if (const auto found = file.places.find(field); found != file.places.end()) return found->second;
    const size_t cut = field.find_last_of(".[");
    if (cut == std::string::npos) break;
    field.resize(cut);
  }
  return {};
}

// What the plan says of the values of a file whose shape is wrong: of settings and levels only, since everything else
// may be a consequence of what could not be read.
std::vector<FileProblem> ProblemsOfValues(const SweepFile& file) {
  std::vector<FileProblem> problems;
  for (const FieldViolation& violation : FieldViolationsOf(Plan::Create(file.spec).status())) {
    const auto place = file.places.find(violation.field);
    const bool is_value = violation.field.find(".settings[") != std::string::npos ||
                          violation.field.find(".levels[") != std::string::npos;
    if (place != file.places.end() && is_value && !violation.field.starts_with("spec.exclusions") &&
        !violation.field.starts_with("spec.selections")) {
      problems.push_back({place->second, violation.description});
    }
  }
  return problems;
}

}  // namespace

const std::vector<StructureKey>& SweepFileStructure() {
  static const std::vector<StructureKey> keys = {
      {"name", "4 to 63 lower-case letters, digits and '-', starting with a letter",
       "The sweep's id: how commands and reports call it. Required."},
      {"title", "one line of text", "A name for people."},
      {"factors",
       "a mapping from a setting to a list of its values, or to all; from a free name to levels and what each sets",
       "What the sweep varies. A setting may be called by its last part where that is unambiguous."},
      {"methods", "a list of {kind: …, setting: value or list of values, …}",
       "Methods to compare, each with settings and factors of its own; instead of the section method. An entry may have a "
       "label (by default its kind), and an adapter's positions."},
      {"positions", "all, or a list of pairs \"input -> output\"",
       "Named position pairs, instead of the factors input and output."},
      {"exclude", "a list of {factor: level, …}", "Cells that match every level of an entry are left out."},
      {"only", "a list of {factor: level, …}", "When given, only cells that match an entry are run."},
      {"replicates", "a whole number from 1 to 100000",
       "How often each cell runs, each time with other random numbers. Default 1."},
      {"seed", "a whole number from 0 to 18446744073709551615", "Seed of every random number of the sweep. Default 0."},
      {"priority", "a whole number from -1000 to 1000", "Sweeps of higher priority run first. Default 0."},
      {"retry.max_trial_attempts", "a whole number from 0 to 1000",
       "Attempts a trial may fail for its own reasons before it is given up; 0 means the coordinator's default, 2."},
      {"retry.max_worker_losses", "a whole number from 0 to 1000",
       "Lost workers a trial may cause before it is quarantined; 0 means the coordinator's default, 3."},
      {"retry.max_failed_trials", "a whole number from 0 to 1000000",
       "Failed trials after which the whole sweep is paused; 0 means no limit."},
      {"retry.backoff", "a time with its unit, such as 500ms, 10s or 2m",
       "First wait before a failed trial is offered again; it doubles each time. Default 1s."},
      {"mode", "one of study, search",
       "study: every trial has its whole budget. search: trials that are seen to be worse than others are ended early. "
       "Default study."},
      {"search.curve", "loss, validation_loss, or a score", "What trials of a search are compared by, as they train."},
      {"search.direction", "one of minimize, maximize", "Which way is better. Default: as the curve's own table says."},
      {"search.reduction", "a whole number from 2 to 100",
       "One in so many goes on at each rung; rungs are so many times further apart each time. Default 3."},
      {"search.min_steps", "a whole number from 1 to 1000000000",
       "Steps to the first rung: before it nothing is ended."},
  };
  return keys;
}

absl::StatusOr<SweepFile> ParseSweepFile(std::string_view text, std::string_view file_name) {
  FileProblem syntax;
  const absl::StatusOr<YamlNode> root = ParseYaml(text, syntax);
  if (!root.ok()) return Refusal(file_name, {syntax});
  SweepFile file;
  file.file_name = std::string(file_name);
  std::vector<FileProblem> problems = SweepFileReader(file).Read(*root);
  if (!problems.empty()) {
    const std::vector<FileProblem> of_shape = problems;
    for (FileProblem& problem : ProblemsOfValues(file)) {
      const bool known =
          std::any_of(of_shape.begin(), of_shape.end(), [&](const FileProblem& p) { return p.place == problem.place; });
      if (!known) problems.push_back(std::move(problem));
    }
    return Refusal(file_name, std::move(problems));
  }
  file.spec.source_text = std::string(text);
  return file;
}

absl::Status LocateInFile(const absl::Status& status, const SweepFile& file) {
  const std::vector<FieldViolation> violations = FieldViolationsOf(status);
  if (violations.empty()) return status;
  std::vector<FileProblem> problems;
  for (const FieldViolation& violation : violations) {
    problems.push_back({PlaceOfField(file, violation.field), violation.description});
  }
  return Refusal(file.file_name, std::move(problems));
}

void MakePathsAbsolute(SweepSpec& spec, std::string_view working_directory) {
  using Resolve = absl::StatusOr<std::string> (*)(std::string_view);
  const auto absolute = [&](Resolve resolve, std::string_view key, std::string& value) {
    const absl::StatusOr<std::string> full = resolve(key);
    if (!full.ok() || settings::FindSettingRule(*full)->type != settings::SettingType::kPath || value.empty()) return;
    std::string normal = (std::filesystem::path(working_directory) / value).lexically_normal().string();
    if (normal.size() > 1 && normal.back() == '/') normal.pop_back();
    value = std::move(normal);
  };
  const auto all_of = [&](Resolve resolve, std::map<std::string, std::string>& settings,
                          std::vector<SweepFactor>& factors) {
    for (auto& [key, value] : settings) absolute(resolve, key, value);
    for (SweepFactor& factor : factors) {
      for (auto& level : factor.settings) {
        for (auto& [key, value] : level) absolute(resolve, key, value);
      }
      // The levels of a free name are names themselves.
      if (!factor.settings.empty()) continue;
      for (std::string& level : factor.levels) absolute(resolve, factor.key, level);
    }
  };
  all_of(&settings::ResolveSettingKey, spec.settings, spec.factors);
  for (MethodSpec& method : spec.methods) all_of(&ResolveMethodKey, method.settings, method.factors);
  for (std::vector<CellPattern>* patterns : {&spec.exclusions, &spec.selections}) {
    for (CellPattern& pattern : *patterns) {
      for (auto& [key, level] : pattern) absolute(&settings::ResolveSettingKey, key, level);
    }
  }
}

}  // namespace loupe::coordinator::plan
