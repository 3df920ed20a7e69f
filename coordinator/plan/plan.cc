#include "coordinator/plan/plan.h"

#include <algorithm>
#include <optional>
#include <set>

#include "common/error_details.h"
#include "coordinator/plan/canonical_spec.h"
#include "coordinator/plan/cell_filter.h"
#include "coordinator/plan/factor_names.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::coordinator::plan {
namespace {

absl::Status RefusedSettings(const std::vector<FieldViolation>& violations) {
  const FieldViolation& first = violations.front();
  const std::string more = violations.size() == 1 ? "" : fmt::format(" (and {} more)", violations.size() - 1);
  return WithFieldViolations(absl::InvalidArgumentError(fmt::format("{}: {}{}", first.field, first.description, more)),
                             violations);
}

// Where the caller's spec says something about setting `key`, in the spec itself or in the entry of its methods to
// which the cells belong.
struct GivenPlace {
  // A field of the spec as written; where nothing is said, the field where it should be.
  std::string field;
  bool is_given = false;
};

GivenPlace FindGiven(const SweepSpec& given, std::optional<size_t> method, const std::string& key) {
  struct Part {
    std::string field;
    const std::vector<SweepFactor>& factors;
    const std::map<std::string, std::string>& settings;
    const std::vector<PositionPairSpec>& positions;
    absl::StatusOr<std::string> (*resolve)(std::string_view);
  };
  std::vector<Part> parts;
  if (method.has_value()) {
    const MethodSpec& entry = given.methods[*method];
    parts.push_back(
        {fmt::format("spec.methods[{}]", *method), entry.factors, entry.settings, entry.positions, &ResolveMethodKey});
  }
  parts.push_back({"spec", given.factors, given.settings, given.positions, &settings::ResolveSettingKey});
  for (const Part& part : parts) {
    const auto is_key = [&](const auto& setting) { return part.resolve(setting.first).value_or("") == key; };
    for (size_t f = 0; f < part.factors.size(); ++f) {
      const SweepFactor& factor = part.factors[f];
      const bool sets = factor.settings.empty()
                            ? part.resolve(factor.key).value_or("") == key
                            : std::any_of(factor.settings.begin(), factor.settings.end(), [&](const auto& level) {
                                return std::any_of(level.begin(), level.end(), is_key);
                              });
      if (sets) return {fmt::format("{}.factors[{}].key", part.field, f), true};
    }
    if (const auto found = std::find_if(part.settings.begin(), part.settings.end(), is_key);
        found != part.settings.end()) {
      return {fmt::format("{}.settings[\"{}\"]", part.field, found->first), true};
    }
    if (!part.positions.empty() && (key == kInputKey || key == kOutputKey)) return {part.field + ".positions", true};
  }
  const bool is_methods_own = method.has_value() && key.starts_with("method.");
  return {is_methods_own ? parts.front().field : fmt::format("spec.settings[\"{}\"]", key), false};
}

// Whether it depends on this setting's value which others are meaningful or needed.
bool IsCondition(const std::string& key) {
  const auto needs_it = [&](const auto& needs) {
    return std::find(needs.second.begin(), needs.second.end(), key) != needs.second.end();
  };
  return std::any_of(settings::SettingRules().begin(), settings::SettingRules().end(),
                     [&](const settings::SettingRule& rule) {
                       return rule.condition_key == key || (rule.key == key && !rule.choice_needs.empty()) ||
                              std::any_of(rule.choice_needs.begin(), rule.choice_needs.end(), needs_it);
                     });
}

bool SetsCondition(const SweepFactor& factor) {
  if (factor.settings.empty()) return IsCondition(factor.key);
  return std::any_of(factor.settings.begin(), factor.settings.end(), [](const auto& level) {
    return std::any_of(level.begin(), level.end(), [](const auto& set) { return IsCondition(set.first); });
  });
}

// One cell per combination of these factors' levels has to be checked, and no more: each value has been checked by
// itself. The method is always one of them: it decides which factors there are.
std::vector<size_t> ConditionFactors(const CanonicalSpec& canonical) {
  std::vector<size_t> factors;
  for (size_t f = 0; f < canonical.factors.size(); ++f) {
    if (SetsCondition(canonical.factors[f])) factors.push_back(f);
  }
  return factors;
}

// What the factors of a cell set.
std::map<std::string, std::string> SettingsOfLevels(const std::vector<SweepFactor>& factors,
                                                    const std::vector<uint32_t>& levels) {
  std::map<std::string, std::string> values;
  for (size_t f = 0; f < factors.size(); ++f) {
    if (levels[f] == kNoLevel) continue;
    if (factors[f].settings.empty()) {
      values[factors[f].key] = factors[f].levels[levels[f]];
    } else {
      for (const auto& [key, value] : factors[f].settings[levels[f]]) values[key] = value;
    }
  }
  return values;
}

// Makes the settings of cells that differ in the condition factors, and collects what is wrong with them.
class SettingsCheck {
 public:
  // `given` is the spec as written; both must outlive this.
  SettingsCheck(const SweepSpec& given, const SweepSpec& spec, const std::vector<SweepFactor>& factors,
                std::vector<size_t> conditions)
      : given_(given), spec_(spec), factors_(factors), conditions_(std::move(conditions)) {}

  // `method`: the entry to which the cell belongs.
  void Check(const std::vector<uint32_t>& levels, std::optional<size_t> method) {
    if (checked_any_ && conditions_.empty()) return;
    checked_any_ = true;
    std::vector<uint32_t> kind;
    for (const size_t factor : conditions_) kind.push_back(levels[factor]);
    if (!seen_kinds_.insert(kind).second) return;
    std::map<std::string, std::string> values = SettingsOfLevels(factors_, levels);
    values.insert(spec_.settings.begin(), spec_.settings.end());
    absl::StatusOr<settings::Settings> settings = settings::Settings::Create(values, spec_.defaults);
    if (settings.ok()) {
      settings_.emplace(std::move(kind), *std::move(settings));
      return;
    }
    for (const FieldViolation& violation : FieldViolationsOf(settings.status())) {
      const GivenPlace place = FindGiven(given_, method, violation.field);
      // Written, but refused on its own account already: not missing.
      if (!values.contains(violation.field) && place.is_given) continue;
      FieldViolation placed{place.field, violation.description};
      if (std::find(violations_.begin(), violations_.end(), placed) == violations_.end()) violations_.push_back(placed);
    }
  }

  const std::vector<FieldViolation>& violations() const { return violations_; }
  const std::vector<size_t>& conditions() const { return conditions_; }
  std::map<std::vector<uint32_t>, settings::Settings> TakeSettings() { return std::move(settings_); }

 private:
  const SweepSpec& given_;
  const SweepSpec& spec_;
  const std::vector<SweepFactor>& factors_;
  const std::vector<size_t> conditions_;
  bool checked_any_ = false;
  std::set<std::vector<uint32_t>> seen_kinds_;
  std::map<std::vector<uint32_t>, settings::Settings> settings_;
  std::vector<FieldViolation> violations_;
};

// The number of level combinations of all designs, or nullopt when it is more than kMaxCandidateCells.
std::optional<uint64_t> CandidateCount(const CanonicalSpec& canonical) {
  uint64_t total = 0;
  for (const std::vector<size_t>& design : canonical.designs) {
    uint64_t count = 1;
    for (const size_t f : design) {
      count *= canonical.factors[f].levels.size();
      if (count > static_cast<uint64_t>(kMaxCandidateCells)) return std::nullopt;
    }
    total += count;
    if (total > static_cast<uint64_t>(kMaxCandidateCells)) return std::nullopt;
  }
  return total;
}

// The next combination of the design, last factor fastest.
void Advance(std::vector<uint32_t>& levels, const std::vector<size_t>& design,
             const std::vector<SweepFactor>& factors) {
  for (size_t i = design.size(); i-- > 0;) {
    if (++levels[design[i]] < factors[design[i]].levels.size()) return;
    levels[design[i]] = 0;
  }
}

// The first combination of a design: level 0 of its factors, and of "method" its own.
std::vector<uint32_t> FirstLevels(const CanonicalSpec& canonical, size_t design) {
  std::vector<uint32_t> levels(canonical.factors.size(), kNoLevel);
  for (const size_t f : canonical.designs[design]) levels[f] = 0;
  if (!canonical.spec.methods.empty()) levels[0] = static_cast<uint32_t>(design);
  return levels;
}

// What the enumeration saw of each factor's levels.
struct Usage {
  explicit Usage(const std::vector<SweepFactor>& factors) {
    for (const SweepFactor& factor : factors) {
      legal.emplace_back(factor.levels.size());
      planned.emplace_back(factor.levels.size());
    }
  }
  static void Mark(std::vector<std::vector<bool>>& seen, const std::vector<uint32_t>& levels) {
    for (size_t f = 0; f < levels.size(); ++f) {
      if (levels[f] != kNoLevel) seen[f][levels[f]] = true;
    }
  }
  std::vector<std::vector<bool>> legal;    // occurs in a combination that is legal
  std::vector<std::vector<bool>> planned;  // occurs in a cell
  std::string noun = "combination";
};

std::vector<std::string> UnusedLevelNotes(const std::vector<SweepFactor>& factors,
                                          const std::vector<std::string>& names, const Usage& usage) {
  std::vector<std::string> notes;
  for (size_t f = 0; f < factors.size(); ++f) {
    std::vector<std::string_view> not_legal, left_out;
    for (size_t level = 0; level < factors[f].levels.size(); ++level) {
      if (usage.planned[f][level]) continue;
      (usage.legal[f][level] ? left_out : not_legal).push_back(factors[f].levels[level]);
    }
    if (!not_legal.empty()) {
      notes.push_back(
          fmt::format("{}: no legal {} of this sweep uses {}", names[f], usage.noun, fmt::join(not_legal, ", ")));
    }
    if (!left_out.empty()) {
      notes.push_back(
          fmt::format("{}: the exclusions and selections leave no cell with {}", names[f], fmt::join(left_out, ", ")));
    }
  }
  return notes;
}

// Precondition: no combination of the design was legal.
FieldViolation WhyNoneIsLegal(const SweepSpec& given, std::optional<size_t> method, const LegalityFilter& filter) {
  if (!filter.depends_on_levels() && !method.has_value()) {
    return {FindGiven(given, method, std::string(kOutputKey)).field, filter.reason()};
  }
  const std::string field = method.has_value() ? fmt::format("spec.methods[{}]", *method) : "spec.factors";
  return {field, fmt::format("no settings of this {} make a legal {}; for example, {}",
                             method.has_value() ? "method" : "sweep", filter.noun(), filter.reason())};
}

}  // namespace

absl::StatusOr<Plan> Plan::Create(const SweepSpec& given) {
  CanonicalSpec canonical = CanonicaliseSpec(given);
  std::vector<FieldViolation>& violations = canonical.violations;
  Plan plan;
  plan.spec_ = canonical.spec;
  plan.factors_ = canonical.factors;
  plan.names_ = FactorNames(plan.factors_);
  plan.ids_ = FactorIds(plan.factors_);
  plan.notes_ = std::move(canonical.notes);
  const SweepSpec& spec = plan.spec_;
  const auto method_of = [&](size_t design) { return spec.methods.empty() ? std::nullopt : std::optional(design); };

  SettingsCheck settings_check(given, spec, plan.factors_, ConditionFactors(canonical));
  const auto refuse = [&] {
    for (size_t d = 0; d < canonical.designs.size(); ++d) {
      settings_check.Check(FirstLevels(canonical, d), method_of(d));
    }
    violations.insert(violations.end(), settings_check.violations().begin(), settings_check.violations().end());
    return RefusedSettings(violations);
  };
  if (!violations.empty()) return refuse();

  if (!CandidateCount(canonical).has_value()) {
    violations.push_back(
        {"spec.factors", fmt::format("the factors' levels make more than {} combinations; take out factors "
                                     "or levels, or split the sweep",
                                     kMaxCandidateCells)});
    return refuse();
  }
  const absl::StatusOr<PatternSet> excluded = PatternSet::Create(plan.factors_, spec.exclusions);
  if (!excluded.ok()) violations.push_back({"spec.exclusions", std::string(excluded.status().message())});
  const absl::StatusOr<PatternSet> selected = PatternSet::Create(plan.factors_, spec.selections);
  if (!selected.ok()) violations.push_back({"spec.selections", std::string(selected.status().message())});
  if (!violations.empty()) return refuse();

  Usage usage(plan.factors_);
  uint64_t code = 0;
  for (size_t d = 0; d < canonical.designs.size(); ++d) {
    SubDesign design{.factors = canonical.designs[d], .strides = {}, .first_code = code};
    design.strides.assign(design.factors.size(), 1);
    for (size_t i = design.factors.size(); i-- > 1;) {
      design.strides[i - 1] = design.strides[i] * plan.factors_[design.factors[i]].levels.size();
    }
    const uint64_t end =
        code +
        (design.factors.empty() ? 1 : design.strides.front() * plan.factors_[design.factors.front()].levels.size());
    LegalityFilter filter(spec, plan.factors_, design.factors,
                          spec.methods.empty() ? spec.positions : spec.methods[d].positions);
    bool any_legal = false;
    std::vector<uint32_t> levels = FirstLevels(canonical, d);
    for (; code < end; ++code, Advance(levels, design.factors, plan.factors_)) {
      if (!filter.Allows(levels)) continue;
      any_legal = true;
      Usage::Mark(usage.legal, levels);
      if (excluded->Matches(levels) || (!spec.selections.empty() && !selected->Matches(levels))) continue;
      Usage::Mark(usage.planned, levels);
      settings_check.Check(levels, method_of(d));
      plan.cell_codes_.push_back(code);
    }
    if (!any_legal) violations.push_back(WhyNoneIsLegal(given, method_of(d), filter));
    if (!filter.reason().empty()) usage.noun = filter.noun();
    plan.designs_.push_back(std::move(design));
  }

  if (plan.cell_codes_.empty() && violations.empty()) {
    violations.push_back({"spec.factors", "the exclusions and selections leave no cell"});
  }
  if (!violations.empty()) return refuse();
  if (plan.trial_count() > kMaxTrialsPerSweep) {
    violations.push_back(
        {"spec.replicates", fmt::format("{} cells × {} replicates are {} trials, more than the {} allowed in "
                                        "one sweep",
                                        plan.cell_count(), spec.replicates, plan.trial_count(), kMaxTrialsPerSweep)});
    return refuse();
  }
  if (!settings_check.violations().empty()) return refuse();
  for (std::string& note : UnusedLevelNotes(plan.factors_, plan.names_, usage)) plan.notes_.push_back(std::move(note));
  for (size_t f = 0; f < plan.factors_.size(); ++f) {
    if (plan.factors_[f].levels.size() == 1) {
      plan.notes_.push_back(fmt::format("{}: has the one level {}, so its effect cannot be tested", plan.names_[f],
                                        plan.factors_[f].levels.front()));
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

const Plan::SubDesign& Plan::DesignOf(int64_t cell) const {
  const uint64_t code = cell_codes_[static_cast<size_t>(cell)];
  const auto after = std::upper_bound(designs_.begin(), designs_.end(), code,
                                      [](uint64_t c, const SubDesign& design) { return c < design.first_code; });
  return *std::prev(after);
}

size_t Plan::LevelIndex(int64_t cell, size_t factor) const {
  const SubDesign& design = DesignOf(cell);
  if (!spec_.methods.empty() && factor == 0) return static_cast<size_t>(&design - designs_.data());
  const auto place = std::lower_bound(design.factors.begin(), design.factors.end(), factor);
  if (place == design.factors.end() || *place != factor) return kAbsent;
  const uint64_t code = cell_codes_[static_cast<size_t>(cell)] - design.first_code;
  return code / design.strides[static_cast<size_t>(place - design.factors.begin())] % factors_[factor].levels.size();
}

std::string_view Plan::Level(int64_t cell, size_t factor) const {
  const size_t level = LevelIndex(cell, factor);
  return level == kAbsent ? std::string_view() : factors_[factor].levels[level];
}

std::map<std::string, std::string> Plan::CellLevels(int64_t cell) const {
  std::map<std::string, std::string> levels;
  for (size_t f = 0; f < factors_.size(); ++f) {
    if (const size_t level = LevelIndex(cell, f); level != kAbsent) levels[names_[f]] = factors_[f].levels[level];
  }
  return levels;
}

CellPattern Plan::PatternOf(int64_t cell) const {
  CellPattern pattern;
  for (size_t f = 0; f < factors_.size(); ++f) {
    if (const size_t level = LevelIndex(cell, f); level != kAbsent) pattern[ids_[f]] = factors_[f].levels[level];
  }
  return pattern;
}

std::vector<std::string> Plan::ValuesOf(const std::string& key) const {
  std::vector<std::string> values;
  const auto add = [&](const std::string& value) {
    if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
  };
  if (const auto fixed = spec_.settings.find(key); fixed != spec_.settings.end()) add(fixed->second);
  for (const SweepFactor& factor : factors_) {
    if (factor.settings.empty() && factor.key == key) std::for_each(factor.levels.begin(), factor.levels.end(), add);
    for (const auto& level : factor.settings) {
      if (const auto set = level.find(key); set != level.end()) add(set->second);
    }
  }
  return values;
}

settings::Settings Plan::CellSettings(int64_t cell) const {
  std::vector<uint32_t> levels;
  for (size_t f = 0; f < factors_.size(); ++f) {
    const size_t level = LevelIndex(cell, f);
    levels.push_back(level == kAbsent ? kNoLevel : static_cast<uint32_t>(level));
  }
  std::vector<uint32_t> kind;
  for (const size_t f : condition_factors_) kind.push_back(levels[f]);
  return settings_of_kind_.at(kind).With(SettingsOfLevels(factors_, levels));
}

}  // namespace loupe::coordinator::plan
