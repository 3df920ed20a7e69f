#include "coordinator/engine/result_check.h"

#include <map>
#include <set>
#include <string>
#include <utility>

#include "fmt/format.h"

namespace loupe::coordinator::engine {
namespace {

constexpr size_t kSha256Digits = 64;

std::string NamesOf(const std::map<std::string, double>& scores) {
  std::string names;
  for (const auto& [name, value] : scores) names += (names.empty() ? "" : ", ") + name;
  return names.empty() ? "none" : names;
}

}  // namespace

std::string InputName(const InputSetting& setting, const settings::Settings& cell) {
  if (!cell.Has(setting.key)) return "";
  std::string name = fmt::format("{} {}", setting.key, cell.Text(setting.key));
  if (std::string_view(setting.key) == "task.images" && cell.Has("task.kind")) {
    name += fmt::format(" ({})", cell.Text("task.kind"));
  }
  // The word that is found depends on these.
  if (std::string_view(setting.key) == "task.identifier") {
    for (const char* key : {"base", "task.instance_prompt"})
      name += fmt::format(" ({})", cell.Has(key) ? cell.Text(key) : "");
  }
  return name;
}

absl::StatusOr<scheduler::Result> ExamineResult(const settings::Settings& cell, scheduler::Result result) {
  if (cell.Has("score.primary") && !result.scores.contains(cell.Text("score.primary"))) {
    return absl::InvalidArgumentError(fmt::format("the result lacks the sweep's primary score '{}'; its scores: {}",
                                                  cell.Text("score.primary"), NamesOf(result.scores)));
  }
  for (const InputSetting& setting : kInputSettings) {
    const auto found = result.provenance.find(setting.provenance);
    const std::string name = InputName(setting, cell);
    if (name.empty() || found == result.provenance.end() || found->second.size() != kSha256Digits) continue;
    result.inputs.emplace(name, found->second);
  }
  return result;
}

namespace {

// Rounding is not a different model, but the reader should know.
std::string NumericsNote(const std::map<std::string, int64_t>& numerics) {
  if (numerics.size() < 2) return {};
  std::string parts;
  for (const auto& [version, trials] : numerics) {
    parts += fmt::format("{}{} of version {}", parts.empty() ? "" : ", ", trials, version);
  }
  return fmt::format(
      "The results were computed in {} kinds of arithmetic: {}. The same trial differs between them by "
      "rounding, which training carries on (docs/trial.md, Numerics).",
      numerics.size(), parts);
}

}  // namespace

std::vector<std::string> InputNotes(const store::SweepSnapshot& snapshot, const plan::Plan& plan) {
  struct Seen {
    int64_t trials = 0;
    int64_t first = 0;
  };
  std::vector<std::string> notes;
  for (const InputSetting& setting : kInputSettings) {
    std::set<std::string> states;
    for (const auto& set : snapshot.input_sets) {
      if (const auto found = set.find(setting.provenance); found != set.end()) states.insert(found->second);
    }
    if (states.size() < 2) continue;
    // A level each, or one value in several states: the cells tell.
    std::map<std::string, std::map<std::string, Seen>> by_name;
    for (const store::SweepSnapshot::Trial& trial : snapshot.trials) {
      if (trial.input_set < 0) continue;
      const auto& set = snapshot.input_sets[static_cast<size_t>(trial.input_set)];
      const auto sha256 = set.find(setting.provenance);
      const std::string name = InputName(setting, plan.CellSettings(trial.cell_index));
      if (sha256 == set.end() || name.empty()) continue;
      Seen& seen = by_name[name][sha256->second];
      if (++seen.trials == 1) seen.first = trial.index;
    }
    for (const auto& [name, seen] : by_name) {
      if (seen.size() < 2) continue;
      std::string parts;
      for (const auto& [sha256, where] : seen) {
        parts += fmt::format("{}{}… in {} trials (first: {})", parts.empty() ? "" : ", ", sha256.substr(0, 12),
                             where.trials, where.first);
      }
      notes.push_back(
          fmt::format("The files of '{}' were replaced during the sweep: its results come from {} states of them, "
                      "SHA-256 {}. Scores of different states are not comparable.",
                      name, seen.size(), parts));
    }
  }
  if (std::string numerics = NumericsNote(snapshot.numerics); !numerics.empty()) notes.push_back(std::move(numerics));
  return notes;
}

scheduler::ResultExaminer MakeResultExaminer(PlanCache& plans) {
  return [&plans](const scheduler::SweepRecord& sweep, int64_t index,
                  scheduler::Result result) -> absl::StatusOr<scheduler::Result> {
    const auto plan = plans.Get(sweep);
    // A specification that this program cannot plan must not cost a finished trial.
    if (!plan.ok()) return result;
    return ExamineResult((*plan)->CellSettings(scheduler::CellOf(sweep, index)), std::move(result));
  };
}

}  // namespace loupe::coordinator::engine
