#include "coordinator/plan/canonical_spec.h"

#include <algorithm>
#include <set>
#include <unordered_set>
#include <utility>

#include "common/settings/settings.h"
#include "coordinator/plan/plan.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::coordinator {
namespace {

constexpr size_t kMaxDisplayNameBytes = 200;
constexpr size_t kMaxSourceTextBytes = 1 << 20;
constexpr int32_t kMaxPriority = 1000;
constexpr int32_t kMaxRetryCount = 1000;
constexpr size_t kMaxViolations = 100;
constexpr size_t kMaxNotes = 100;

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

// Walks over a spec and collects what is wrong with it.
class Canonicaliser {
 public:
  explicit Canonicaliser(const SweepSpec& given) : given_(given) {}

  CanonicalSpec Run() && {
    CheckHeader();
    CheckDefaults();
    CheckSettings();
    CheckFactors();
    CheckPositions();
    for (const SweepFactor& factor : result_.spec.factors) {
      level_sets_.emplace_back(factor.levels.begin(), factor.levels.end());
    }
    result_.spec.exclusions = CheckPatterns("spec.exclusions", given_.exclusions, "leaves nothing out");
    result_.spec.selections = CheckPatterns("spec.selections", given_.selections, "selects nothing");
    return std::move(result_);
  }

 private:
  void Refuse(std::string field, std::string description) {
    if (result_.violations.size() < kMaxViolations) {
      result_.violations.push_back({std::move(field), std::move(description)});
    }
  }

  void CheckRange(std::string_view field, int64_t value, int64_t low, int64_t high) {
    if (value >= low && value <= high) return;
    Refuse(std::string(field), fmt::format("{} is not a whole number from {} to {}", value, low, high));
  }

  void CheckHeader() {
    SweepSpec& spec = result_.spec;
    spec.display_name = given_.display_name;
    const bool printable = std::none_of(spec.display_name.begin(), spec.display_name.end(),
                                        [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    if (spec.display_name.size() > kMaxDisplayNameBytes || !printable) {
      Refuse("spec.display_name", fmt::format("expected one line of at most {} bytes", kMaxDisplayNameBytes));
    }
    spec.source_text = given_.source_text;
    if (spec.source_text.size() > kMaxSourceTextBytes) {
      Refuse("spec.source_text",
             fmt::format("{} bytes are more than the {} allowed", spec.source_text.size(), kMaxSourceTextBytes));
    }
    spec.replicates = given_.replicates;
    CheckRange("spec.replicates", spec.replicates, 1, kMaxReplicates);
    spec.seed = given_.seed;
    spec.priority = given_.priority;
    CheckRange("spec.priority", spec.priority, -kMaxPriority, kMaxPriority);
    spec.retry = given_.retry;
    CheckRange("spec.retry.max_trial_attempts", spec.retry.max_trial_attempts, 0, kMaxRetryCount);
    CheckRange("spec.retry.max_worker_losses", spec.retry.max_worker_losses, 0, kMaxRetryCount);
    CheckRange("spec.retry.max_failed_trials", spec.retry.max_failed_trials, 0, kMaxTrialsPerSweep);
    if (spec.retry.backoff < absl::ZeroDuration() || spec.retry.backoff > absl::Hours(24)) {
      Refuse("spec.retry.backoff", "expected a duration from 0 to 24 hours");
    }
  }

  void CheckDefaults() {
    SettingDefaults& defaults = result_.spec.defaults;
    if (given_.defaults.version == 0 && given_.defaults.values.empty()) {
      defaults = SettingDefaults::OfVersion(kSettingsVersion);
      return;
    }
    defaults.version = given_.defaults.version;
    if (defaults.version < 1 || defaults.version > kSettingsVersion) {
      return Refuse(
          "spec.defaults.version",
          fmt::format("the sweep was made with version {} of the settings, and this program knows up to {}: use "
                      "one Loupe for both, the newer",
                      defaults.version, kSettingsVersion));
    }
    for (const auto& [key, value] : given_.defaults.values) {
      const std::string field = fmt::format("spec.defaults.values[\"{}\"]", key);
      const SettingRule* rule = FindSettingRule(key);
      if (rule == nullptr || rule->since > defaults.version) {
        Refuse(field, fmt::format("version {} of the settings has no '{}'", defaults.version, key));
        continue;
      }
      absl::StatusOr<std::string> canonical = CanonicalValue(*rule, value);
      if (!canonical.ok()) {
        Refuse(field, MessageOf(canonical.status()));
      } else {
        defaults.values.emplace(key, *std::move(canonical));
      }
    }
  }

  void CheckSettings() {
    for (const auto& [key, value] : given_.settings) {
      const std::string field = fmt::format("spec.settings[\"{}\"]", key);
      const absl::StatusOr<std::string> full = ResolveSettingKey(key);
      if (!full.ok()) {
        Refuse(field, MessageOf(full.status()));
        continue;
      }
      // The value itself is judged by Plan::Create, together with the settings' conditions.
      const absl::StatusOr<std::string> canonical = CanonicalValue(*FindSettingRule(*full), value);
      if (!result_.spec.settings.emplace(*full, canonical.ok() ? *canonical : value).second) {
        Refuse(field, fmt::format("{} is given twice", *full));
      }
    }
  }

  void CheckFactors() {
    if (given_.factors.size() > kMaxFactors) {
      Refuse("spec.factors",
             fmt::format("{} factors are more than the {} allowed", given_.factors.size(), kMaxFactors));
      return;
    }
    for (size_t i = 0; i < given_.factors.size(); ++i) CheckFactor(i);
  }

  void CheckFactor(size_t i) {
    const SweepFactor& given = given_.factors[i];
    const std::string field = fmt::format("spec.factors[{}]", i);
    const absl::StatusOr<std::string> full = ResolveSettingKey(given.key);
    if (!full.ok()) return Refuse(field + ".key", MessageOf(full.status()));
    if (FindFactor(result_.spec, *full).has_value())
      return Refuse(field + ".key", fmt::format("{} is a factor twice", *full));
    if (result_.spec.settings.contains(*full)) {
      Refuse(field + ".key", fmt::format("{} is a factor and also has the fixed value '{}'; keep one of the two", *full,
                                         result_.spec.settings.at(*full)));
      result_.spec.settings.erase(*full);
    }
    if (given.levels.empty())
      return Refuse(field + ".levels", fmt::format("{} has no levels; give at least one", *full));
    if (given.levels.size() > kMaxLevelsPerFactor) {
      return Refuse(field + ".levels", fmt::format("{} levels of {} are more than the {} allowed", given.levels.size(),
                                                   *full, kMaxLevelsPerFactor));
    }
    const SettingRule& rule = *FindSettingRule(*full);
    SweepFactor factor{.key = *full};
    std::set<std::string> seen;
    for (size_t j = 0; j < given.levels.size(); ++j) {
      const std::string level_field = fmt::format("{}.levels[{}]", field, j);
      absl::StatusOr<std::string> level = CanonicalValue(rule, given.levels[j]);
      if (!level.ok()) {
        Refuse(level_field, MessageOf(level.status()));
      } else if (!seen.insert(*level).second) {
        Refuse(level_field, fmt::format("{}: the level '{}' is given twice", *full, *level));
      } else {
        factor.levels.push_back(*std::move(level));
      }
    }
    if (!factor.levels.empty()) result_.spec.factors.push_back(std::move(factor));
  }

  void CheckPositions() {
    if (given_.positions.empty()) return;
    std::vector<PositionPairSpec>& pairs = result_.spec.positions;
    for (size_t i = 0; i < given_.positions.size(); ++i) {
      const std::string field = fmt::format("spec.positions[{}]", i);
      const absl::StatusOr<std::string> input = CanonicalValue(*FindSettingRule(kInputKey), given_.positions[i].input);
      const absl::StatusOr<std::string> output =
          CanonicalValue(*FindSettingRule(kOutputKey), given_.positions[i].output);
      if (!input.ok()) Refuse(field + ".input", MessageOf(input.status()));
      if (!output.ok()) Refuse(field + ".output", MessageOf(output.status()));
      if (!input.ok() || !output.ok()) continue;
      const PositionPairSpec pair{*input, *output};
      if (!IsLegalPair(*ParsePosition(*input), *ParsePosition(*output))) {
        Refuse(field, WhyIllegal(*ParsePosition(*input), *ParsePosition(*output)));
      } else if (std::find(pairs.begin(), pairs.end(), pair) != pairs.end()) {
        Refuse(field, fmt::format("the pair {} -> {} is given twice", *input, *output));
      } else {
        pairs.push_back(pair);
      }
    }
    AddPositionFactor(kInputKey, InputPositions(), &PositionPairSpec::input);
    AddPositionFactor(kOutputKey, OutputPositions(), &PositionPairSpec::output);
  }

  // Adds the factor where it is missing; checks that the pairs use its levels where it is there.
  void AddPositionFactor(std::string_view key, const std::vector<Position>& all, std::string PositionPairSpec::*side) {
    SweepSpec& spec = result_.spec;
    if (spec.settings.contains(std::string(key))) {
      Refuse(fmt::format("spec.settings[\"{}\"]", key),
             fmt::format("{} is given beside positions; keep one of the two", key));
      spec.settings.erase(std::string(key));
    }
    if (const std::optional<size_t> present = FindFactor(spec, key); present.has_value()) {
      const std::vector<std::string>& levels = spec.factors[*present].levels;
      for (size_t i = 0; i < spec.positions.size(); ++i) {
        const std::string& name = spec.positions[i].*side;
        if (std::find(levels.begin(), levels.end(), name) != levels.end()) continue;
        Refuse(fmt::format("spec.positions[{}]", i),
               fmt::format("{} is not among the levels of {}: {}", name, key, fmt::join(levels, ", ")));
      }
      return;
    }
    SweepFactor factor{.key = std::string(key)};
    for (const Position position : all) {
      const bool used = std::any_of(spec.positions.begin(), spec.positions.end(),
                                    [&](const PositionPairSpec& pair) { return pair.*side == PositionName(position); });
      if (used) factor.levels.emplace_back(PositionName(position));
    }
    if (factor.levels.empty()) return;
    // Input first, output right after it: the order in which tables and heat maps read.
    const std::optional<size_t> input = key == kOutputKey ? FindFactor(spec, kInputKey) : std::nullopt;
    spec.factors.insert(spec.factors.begin() + static_cast<std::ptrdiff_t>(input.has_value() ? *input + 1 : 0),
                        std::move(factor));
  }

  std::vector<CellPattern> CheckPatterns(const std::string& list, const std::vector<CellPattern>& given,
                                         std::string_view effect) {
    std::vector<CellPattern> patterns;
    if (given.size() > kMaxPatterns) {
      Refuse(list, fmt::format("{} entries are more than the {} allowed", given.size(), kMaxPatterns));
      return patterns;
    }
    for (size_t i = 0; i < given.size(); ++i) {
      const std::string field = fmt::format("{}[{}]", list, i);
      CellPattern pattern;
      if (given[i].empty()) Refuse(field, "names no factor: it would match every cell");
      for (const auto& [key, value] : given[i]) CheckPatternLevel(field, key, value, effect, pattern);
      if (pattern.size() == given[i].size() && !pattern.empty()) patterns.push_back(std::move(pattern));
    }
    return patterns;
  }

  void CheckPatternLevel(const std::string& pattern_field, const std::string& key, const std::string& value,
                         std::string_view effect, CellPattern& pattern) {
    const std::string field = fmt::format("{}.levels[\"{}\"]", pattern_field, key);
    const absl::StatusOr<std::string> full = ResolveSettingKey(key);
    if (!full.ok()) return Refuse(field, MessageOf(full.status()));
    const std::optional<size_t> factor = FindFactor(result_.spec, *full);
    if (!factor.has_value()) {
      // A factor that was refused has been reported already.
      const bool reported = std::any_of(
          given_.factors.begin(), given_.factors.end(),
          [&](const SweepFactor& candidate) { return ResolveSettingKey(candidate.key).value_or("") == *full; });
      if (reported) return;
      std::vector<std::string> keys;
      for (const SweepFactor& present : result_.spec.factors) keys.push_back(present.key);
      return Refuse(field,
                    fmt::format("{} is not a factor of this sweep; its factors are: {}", *full, fmt::join(keys, ", ")));
    }
    const absl::StatusOr<std::string> level = CanonicalValue(*FindSettingRule(*full), value);
    if (!level.ok()) return Refuse(field, MessageOf(level.status()));
    if (!level_sets_[*factor].contains(*level) && result_.notes.size() < kMaxNotes) {
      result_.notes.push_back(fmt::format("{} {}: {} has no level '{}' (its levels are {})", pattern_field, effect,
                                          *full, *level, fmt::join(result_.spec.factors[*factor].levels, ", ")));
    }
    if (!pattern.emplace(*full, *level).second) Refuse(field, fmt::format("{} is given twice", *full));
  }

  const SweepSpec& given_;
  CanonicalSpec result_;
  // Per factor of result_.spec.
  std::vector<std::unordered_set<std::string>> level_sets_;
};

std::string_view PositionKindText(PositionKind kind) {
  switch (kind) {
    case PositionKind::kTransformer:
      return "in the transformer block's image stream";
    case PositionKind::kContext:
      return "the text context";
    case PositionKind::kResidual:
      return "in the residual block";
  }
  return "";
}

}  // namespace

CanonicalSpec CanonicaliseSpec(const SweepSpec& spec) { return Canonicaliser(spec).Run(); }

std::optional<size_t> FindFactor(const SweepSpec& spec, std::string_view key) {
  for (size_t i = 0; i < spec.factors.size(); ++i) {
    if (spec.factors[i].key == key) return i;
  }
  return std::nullopt;
}

std::string WhyIllegal(Position input, Position output) {
  std::vector<std::string_view> legal;
  for (const PositionPairId& pair : LegalPairs()) {
    if (pair.input == input) legal.push_back(PositionName(pair.output));
  }
  const std::string why =
      KindOf(input) != KindOf(output)
          ? fmt::format("{} is {} and {} is {}", PositionName(input), PositionKindText(KindOf(input)),
                        PositionName(output), PositionKindText(KindOf(output)))
          : fmt::format("{} comes before {} on the data path", PositionName(output), PositionName(input));
  return fmt::format("the pair {} -> {} is not legal: {}; legal outputs of {} are {}", PositionName(input),
                     PositionName(output), why, PositionName(input), fmt::join(legal, ", "));
}

}  // namespace loupe::coordinator
