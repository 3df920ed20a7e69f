#include "analysis/report/results_union.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "analysis/report/untuned_base.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::report {
namespace {

using PictureLoader = std::function<absl::StatusOr<std::string>(int64_t)>;

absl::Status Differ(const SweepResults& a, const SweepResults& b, std::string_view what) {
  return absl::InvalidArgumentError(
      fmt::format("{} and {} cannot be analysed as one design: {}", a.sweep_id, b.sweep_id, what));
}

using SettingValues = std::map<std::string, std::string>;

// `where` ends with a space where it is not empty.
absl::Status CheckSame(const SweepResults& a, const SweepResults& b, const SettingValues& of_a,
                       const SettingValues& of_b, std::string_view where) {
  for (const auto& [key, value] : of_a) {
    const auto found = of_b.find(key);
    if (found == of_b.end()) return Differ(a, b, fmt::format("only the first sets {}'{}'", where, key));
    if (found->second != value) {
      return Differ(a, b, fmt::format("{}'{}' is {} and {}", where, key, value, found->second));
    }
  }
  for (const auto& [key, value] : of_b) {
    if (!of_a.contains(key)) return Differ(a, b, fmt::format("only the second sets {}'{}'", where, key));
  }
  return absl::OkStatus();
}

// What a level sets; nothing where it is a value.
SettingValues SettingsOf(const SweepFactor& factor, size_t level) {
  return level < factor.settings.size() ? factor.settings[level] : SettingValues();
}

// A level that both have is the same thing in both; one that only one has may set what it likes.
absl::Status CheckSameLevels(const SweepResults& a, const SweepResults& b, const SweepFactor& of_a,
                             const SweepFactor& of_b) {
  for (size_t level = 0; level < of_a.levels.size(); ++level) {
    const auto found = std::find(of_b.levels.begin(), of_b.levels.end(), of_a.levels[level]);
    if (found == of_b.levels.end()) continue;
    LOUPE_RETURN_IF_ERROR(CheckSame(a, b, SettingsOf(of_a, level),
                                    SettingsOf(of_b, static_cast<size_t>(found - of_b.levels.begin())),
                                    fmt::format("for the level '{}' of {} ", of_a.levels[level], of_a.name)));
  }
  return absl::OkStatus();
}

absl::Status CheckSameDesign(const SweepResults& a, const SweepResults& b) {
  if (a.factors.size() != b.factors.size()) return Differ(a, b, "they vary different factors");
  for (const SweepFactor& factor : a.factors) {
    const auto other =
        std::find_if(b.factors.begin(), b.factors.end(), [&](const SweepFactor& one) { return one.key == factor.key; });
    if (other == b.factors.end()) return Differ(a, b, fmt::format("only the first varies '{}'", factor.name));
    LOUPE_RETURN_IF_ERROR(CheckSameLevels(a, b, factor, *other));
  }
  if (a.replicates != b.replicates) {
    return Differ(a, b, fmt::format("they have {} and {} replicates", a.replicates, b.replicates));
  }
  if (a.provenance.seed != b.provenance.seed) {
    return Differ(a, b,
                  fmt::format("their seeds are {} and {}, so their replicates saw different random numbers",
                              a.provenance.seed, b.provenance.seed));
  }
  return CheckSame(a, b, a.provenance.settings, b.provenance.settings, "");
}

// For each factor of `into`: which factor of `from` it is, and the number that each of its levels has in `into`, where
// new levels are added at the end.
struct LevelMap {
  size_t factor = 0;
  std::vector<int32_t> code;
};
std::vector<LevelMap> MapLevels(SweepResults& into, const SweepResults& from) {
  std::vector<LevelMap> maps;
  for (SweepFactor& factor : into.factors) {
    LevelMap map;
    while (from.factors[map.factor].key != factor.key) ++map.factor;
    const SweepFactor& other = from.factors[map.factor];
    for (size_t level = 0; level < other.levels.size(); ++level) {
      const auto found = std::find(factor.levels.begin(), factor.levels.end(), other.levels[level]);
      map.code.push_back(static_cast<int32_t>(found - factor.levels.begin()));
      if (found != factor.levels.end()) continue;
      factor.levels.push_back(other.levels[level]);
      factor.settings.resize(factor.levels.size());
      factor.settings.back() = SettingsOf(other, level);
    }
    maps.push_back(std::move(map));
  }
  return maps;
}

void NoteVersions(SweepResults& into, const SweepResults& from) {
  for (const auto& [name, version] : from.provenance.versions) {
    const auto found = into.provenance.versions.find(name);
    if (found != into.provenance.versions.end() && found->second == version) continue;
    into.notes.push_back(fmt::format(
        "{} differs between the sweeps: {} in {}, {} in {}. Differences between their cells may "
        "come from that.",
        name, found == into.provenance.versions.end() ? "none" : found->second, into.sweep_id, version, from.sweep_id));
  }
}

absl::Status Append(SweepResults& into, SweepResults from) {
  LOUPE_RETURN_IF_ERROR(CheckSameDesign(into, from));
  const int64_t first_trial = into.trials.empty() ? 0 : into.trials.back().index + 1;
  int64_t first_cell = 0;
  std::set<std::pair<std::vector<int32_t>, int32_t>> known;
  for (const TrialRecord& trial : into.trials) {
    first_cell = std::max(first_cell, trial.cell_index + 1);
    known.emplace(trial.levels, trial.replicate);
  }
  const std::vector<LevelMap> maps = MapLevels(into, from);
  for (TrialRecord& trial : from.trials) {
    std::vector<int32_t> levels;
    for (const LevelMap& map : maps) {
      const int32_t level = trial.levels[map.factor];
      levels.push_back(level == kNoSuchFactor ? level : map.code[static_cast<size_t>(level)]);
    }
    trial.levels = std::move(levels);
    if (!known.emplace(trial.levels, trial.replicate).second) {
      return Differ(
          into, from,
          fmt::format("trial {} of the second is a cell and replicate that the first has too; with one seed that is "
                      "the same trial, not a second measurement",
                      trial.index));
    }
    trial.index += first_trial;
    trial.cell_index += first_cell;
    into.trials.push_back(std::move(trial));
  }
  for (MetricCurve& curve : from.curves) {
    curve.trial_index += first_trial;
    into.curves.push_back(std::move(curve));
  }
  std::stable_sort(into.curves.begin(), into.curves.end(), [](const MetricCurve& a, const MetricCurve& b) {
    return std::pair(a.metric, a.trial_index) < std::pair(b.metric, b.trial_index);
  });
  std::map<std::string, double> baseline = BaselineScores(into.trials);
  baseline.merge(into.baseline_scores);
  baseline.merge(from.baseline_scores);
  into.baseline_scores = std::move(baseline);
  if (from.load_sample_picture) {
    const PictureLoader before = into.load_sample_picture;
    into.load_sample_picture = [before, after = from.load_sample_picture,
                                first_trial](int64_t index) -> absl::StatusOr<std::string> {
      if (index >= first_trial) return after(index - first_trial);
      if (before) return before(index);
      return absl::NotFoundError("the trial has no sample sheet");
    };
  }
  into.provenance.spec_text += fmt::format("\n# {}\n{}", from.sweep_id, from.provenance.spec_text);
  into.notes.push_back(fmt::format("Trials from number {} on are those of {}.", first_trial, from.sweep_id));
  NoteVersions(into, from);
  if (into.state != from.state) into.state = fmt::format("{} and {}", into.state, from.state);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SweepResults> UniteResults(std::vector<SweepResults> sweeps) {
  SweepResults united = std::move(sweeps.front());
  for (size_t i = 1; i < sweeps.size(); ++i) LOUPE_RETURN_IF_ERROR(Append(united, std::move(sweeps[i])));
  return united;
}

}  // namespace loupe::analysis::report
