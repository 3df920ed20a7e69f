#include "coordinator/plan/plan.h"

#include <algorithm>
#include <set>

#include "common/error_details.h"
#include "coordinator/plan/canonical_spec.h"
#include "coordinator/plan/cell_filter.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::coordinator {
namespace {

absl::Status RefusedSettings(const std::vector<FieldViolation>& violations) {
  const FieldViolation& first = violations.front();
  const std::string more = violations.size() == 1 ? "" : fmt::format(" (and {} more)", violations.size() - 1);
  return WithFieldViolations(absl::InvalidArgumentError(fmt::format("{}: {}{}", first.field, first.description, more)),
                             violations);
}

// Whether `given`, as the caller wrote it, has a say about setting `key`: a fixed value, a factor, or position pairs.
bool Mentions(const SweepSpec& given, const std::string& key) {
  const auto means_key = [&](const std::string& written) { return ResolveSettingKey(written).value_or("") == key; };
  return (!given.positions.empty() && (key == kInputKey || key == kOutputKey)) ||
         std::any_of(given.factors.begin(), given.factors.end(),
                     [&](const SweepFactor& f) { return means_key(f.key); }) ||
         std::any_of(given.settings.begin(), given.settings.end(),
                     [&](const auto& pair) { return means_key(pair.first); });
}

// Where a setting of the cells comes from, as a field of the spec as the caller wrote it.
std::string FieldOfSetting(const SweepSpec& given, const std::string& key) {
  for (size_t f = 0; f < given.factors.size(); ++f) {
    if (ResolveSettingKey(given.factors[f].key).value_or("") == key) return fmt::format("spec.factors[{}].key", f);
  }
  for (const auto& [written, value] : given.settings) {
    if (ResolveSettingKey(written).value_or("") == key) return fmt::format("spec.settings[\"{}\"]", written);
  }
  return fmt::format("spec.settings[\"{}\"]", key);
}

// Whether it depends on this setting's value which others are meaningful or needed.
bool IsCondition(const std::string& key) {
  const auto needs_it = [&](const auto& needs) {
    return std::find(needs.second.begin(), needs.second.end(), key) != needs.second.end();
  };
  return std::any_of(SettingRules().begin(), SettingRules().end(), [&](const SettingRule& rule) {
    return rule.condition_key == key || (rule.key == key && !rule.choice_needs.empty()) ||
           std::any_of(rule.choice_needs.begin(), rule.choice_needs.end(), needs_it);
  });
}

// One cell per combination of these factors' levels has to be checked, and no more: each value has been checked by
// itself.
std::vector<size_t> ConditionFactors(const SweepSpec& spec) {
  std::vector<size_t> factors;
  for (size_t f = 0; f < spec.factors.size(); ++f) {
    if (IsCondition(spec.factors[f].key)) factors.push_back(f);
  }
  return factors;
}

// Makes the settings of cells that differ in the condition factors, and collects what is wrong with them.
class SettingsCheck {
 public:
  // `given` is the spec as written, `spec` its canonical form; both must outlive this.
  SettingsCheck(const SweepSpec& given, const SweepSpec& spec)
      : given_(given), spec_(spec), conditions_(ConditionFactors(spec)) {}

  void Check(const std::vector<uint32_t>& levels) {
    if (checked_any_ && conditions_.empty()) return;
    checked_any_ = true;
    std::vector<uint32_t> kind;
    for (const size_t factor : conditions_) kind.push_back(levels[factor]);
    if (!seen_kinds_.insert(kind).second) return;
    std::map<std::string, std::string> values = spec_.settings;
    for (size_t f = 0; f < spec_.factors.size(); ++f) values[spec_.factors[f].key] = spec_.factors[f].levels[levels[f]];
    absl::StatusOr<Settings> settings = Settings::Create(values, spec_.defaults);
    if (settings.ok()) {
      settings_.emplace(std::move(kind), *std::move(settings));
      return;
    }
    for (const FieldViolation& violation : FieldViolationsOf(settings.status())) {
      // Written, but refused on its own account already: not missing.
      if (!values.contains(violation.field) && Mentions(given_, violation.field)) continue;
      FieldViolation placed{FieldOfSetting(given_, violation.field), violation.description};
      if (std::find(violations_.begin(), violations_.end(), placed) == violations_.end()) violations_.push_back(placed);
    }
  }

  const std::vector<FieldViolation>& violations() const { return violations_; }
  const std::vector<size_t>& conditions() const { return conditions_; }
  std::map<std::vector<uint32_t>, Settings> TakeSettings() { return std::move(settings_); }

 private:
  const SweepSpec& given_;
  const SweepSpec& spec_;
  const std::vector<size_t> conditions_;
  bool checked_any_ = false;
  std::set<std::vector<uint32_t>> seen_kinds_;
  std::map<std::vector<uint32_t>, Settings> settings_;
  std::vector<FieldViolation> violations_;
};

// The number of level combinations, or nullopt when it is more than kMaxCandidateCells.
std::optional<uint64_t> CandidateCount(const std::vector<SweepFactor>& factors) {
  uint64_t count = 1;
  for (const SweepFactor& factor : factors) {
    count *= factor.levels.size();
    if (count > static_cast<uint64_t>(kMaxCandidateCells)) return std::nullopt;
  }
  return count;
}

// The next combination, last factor fastest.
void Advance(std::vector<uint32_t>& levels, const std::vector<SweepFactor>& factors) {
  for (size_t f = factors.size(); f-- > 0;) {
    if (++levels[f] < factors[f].levels.size()) return;
    levels[f] = 0;
  }
}

// What the enumeration saw of each factor's levels.
struct Usage {
  explicit Usage(const std::vector<SweepFactor>& factors) {
    for (const SweepFactor& factor : factors) {
      legal.emplace_back(factor.levels.size());
      planned.emplace_back(factor.levels.size());
    }
  }
  bool any_legal = false;
  std::vector<std::vector<bool>> legal;    // occurs in a combination whose positions are allowed
  std::vector<std::vector<bool>> planned;  // occurs in a cell
};

std::vector<std::string> UnusedLevelNotes(const SweepSpec& spec, const Usage& usage) {
  std::vector<std::string> notes;
  for (size_t f = 0; f < spec.factors.size(); ++f) {
    std::vector<std::string_view> no_pair, left_out;
    for (size_t level = 0; level < spec.factors[f].levels.size(); ++level) {
      if (usage.planned[f][level]) continue;
      (usage.legal[f][level] ? left_out : no_pair).push_back(spec.factors[f].levels[level]);
    }
    const std::string_view name = ShortSettingName(spec.factors[f].key);
    if (!no_pair.empty()) {
      notes.push_back(fmt::format("{}: no legal pair of this sweep uses {}", name, fmt::join(no_pair, ", ")));
    }
    if (!left_out.empty()) {
      notes.push_back(
          fmt::format("{}: the exclusions and selections leave no cell with {}", name, fmt::join(left_out, ", ")));
    }
  }
  return notes;
}

// Precondition: no combination became a cell.
FieldViolation WhyNoCells(const SweepSpec& spec, const Usage& usage) {
  if (usage.any_legal) return {"spec.factors", "the exclusions and selections leave no cell"};
  // Without a legal pair both positions are given, each fixed or as a factor.
  const std::optional<size_t> input = FindFactor(spec, kInputKey);
  const std::optional<size_t> output = FindFactor(spec, kOutputKey);
  const std::string& input_name =
      input ? spec.factors[*input].levels.front() : spec.settings.at(std::string(kInputKey));
  const std::string& output_name =
      output ? spec.factors[*output].levels.front() : spec.settings.at(std::string(kOutputKey));
  const std::string why = WhyIllegal(*ParsePosition(input_name), *ParsePosition(output_name));
  if (!input && !output) return {FieldOfSetting(spec, std::string(kOutputKey)), why};
  return {"spec.factors", fmt::format("no input and output of this sweep make a legal pair; for example, {}", why)};
}

}  // namespace

absl::StatusOr<Plan> Plan::Create(SweepSpec given) {
  CanonicalSpec canonical = CanonicaliseSpec(given);
  std::vector<FieldViolation>& violations = canonical.violations;
  Plan plan;
  plan.spec_ = std::move(canonical.spec);
  plan.notes_ = std::move(canonical.notes);
  const SweepSpec& spec = plan.spec_;

  SettingsCheck settings_check(given, spec);
  const auto refuse = [&] {
    settings_check.Check(std::vector<uint32_t>(spec.factors.size(), 0));
    violations.insert(violations.end(), settings_check.violations().begin(), settings_check.violations().end());
    return RefusedSettings(violations);
  };
  if (!violations.empty()) return refuse();

  const std::optional<uint64_t> candidates = CandidateCount(spec.factors);
  if (!candidates.has_value()) {
    violations.push_back(
        {"spec.factors", fmt::format("the factors' levels make more than {} combinations; take out factors "
                                     "or levels, or split the sweep",
                                     kMaxCandidateCells)});
    return refuse();
  }
  const absl::StatusOr<PatternSet> excluded = PatternSet::Create(spec.factors, spec.exclusions);
  if (!excluded.ok()) violations.push_back({"spec.exclusions", std::string(excluded.status().message())});
  const absl::StatusOr<PatternSet> selected = PatternSet::Create(spec.factors, spec.selections);
  if (!selected.ok()) violations.push_back({"spec.selections", std::string(selected.status().message())});
  if (!violations.empty()) return refuse();
  const PositionFilter positions(spec);

  plan.strides_.assign(spec.factors.size(), 1);
  for (size_t f = spec.factors.size(); f-- > 1;) {
    plan.strides_[f - 1] = plan.strides_[f] * spec.factors[f].levels.size();
  }
  Usage usage(spec.factors);
  std::vector<uint32_t> levels(spec.factors.size(), 0);
  for (uint64_t code = 0; code < *candidates; ++code, Advance(levels, spec.factors)) {
    if (!positions.Allows(levels)) continue;
    usage.any_legal = true;
    for (size_t f = 0; f < levels.size(); ++f) usage.legal[f][levels[f]] = true;
    if (excluded->Matches(levels) || (!spec.selections.empty() && !selected->Matches(levels))) continue;
    for (size_t f = 0; f < levels.size(); ++f) usage.planned[f][levels[f]] = true;
    settings_check.Check(levels);
    plan.cell_codes_.push_back(code);
  }

  if (plan.cell_codes_.empty()) {
    violations.push_back(WhyNoCells(spec, usage));
    return refuse();
  }
  if (plan.trial_count() > kMaxTrialsPerSweep) {
    violations.push_back(
        {"spec.replicates", fmt::format("{} cells × {} replicates are {} trials, more than the {} allowed in "
                                        "one sweep",
                                        plan.cell_count(), spec.replicates, plan.trial_count(), kMaxTrialsPerSweep)});
    return refuse();
  }
  if (!settings_check.violations().empty()) return refuse();
  for (std::string& note : UnusedLevelNotes(spec, usage)) plan.notes_.push_back(std::move(note));
  for (const SweepFactor& factor : spec.factors) {
    if (factor.levels.size() == 1) {
      plan.notes_.push_back(fmt::format("{}: has the one level {}, so its effect cannot be tested",
                                        ShortSettingName(factor.key), factor.levels.front()));
    }
  }
  plan.condition_factors_ = settings_check.conditions();
  plan.settings_of_kind_ = settings_check.TakeSettings();
  plan.cell_codes_.shrink_to_fit();
  return plan;
}

TrialPlace Plan::Place(int64_t trial) const {
  return {.cell = trial % cell_count(), .replicate = static_cast<int32_t>(trial / cell_count())};
}

int64_t Plan::TrialIndex(int64_t cell, int32_t replicate) const { return replicate * cell_count() + cell; }

size_t Plan::LevelIndex(int64_t cell, size_t factor) const {
  return cell_codes_[static_cast<size_t>(cell)] / strides_[factor] % spec_.factors[factor].levels.size();
}

std::string Plan::FactorName(size_t factor) const {
  const std::string_view name = ShortSettingName(spec_.factors[factor].key);
  const auto shares = [&](const SweepFactor& other) { return ShortSettingName(other.key) == name; };
  const bool unique = std::count_if(spec_.factors.begin(), spec_.factors.end(), shares) == 1;
  return unique ? std::string(name) : spec_.factors[factor].key;
}

std::map<std::string, std::string> Plan::CellLevels(int64_t cell) const {
  std::map<std::string, std::string> levels;
  for (size_t f = 0; f < spec_.factors.size(); ++f)
    levels[FactorName(f)] = spec_.factors[f].levels[LevelIndex(cell, f)];
  return levels;
}

Settings Plan::CellSettings(int64_t cell) const {
  std::vector<uint32_t> kind;
  for (const size_t f : condition_factors_) kind.push_back(static_cast<uint32_t>(LevelIndex(cell, f)));
  std::map<std::string, std::string> levels;
  for (size_t f = 0; f < spec_.factors.size(); ++f)
    levels[spec_.factors[f].key] = spec_.factors[f].levels[LevelIndex(cell, f)];
  return settings_of_kind_.at(kind).With(levels);
}

}  // namespace loupe::coordinator
