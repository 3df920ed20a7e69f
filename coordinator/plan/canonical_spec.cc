#include "coordinator/plan/canonical_spec.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "common/positions.h"
#include "common/score_table.h"
#include "common/settings/methods.h"
#include "common/settings/settings.h"
#include "coordinator/plan/factor_names.h"
#include "coordinator/plan/pattern_check.h"
#include "coordinator/plan/plan.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::coordinator::plan {
namespace {

constexpr size_t kMaxDisplayNameBytes = 200;
constexpr size_t kMaxSourceTextBytes = 1 << 20;
constexpr int32_t kMaxPriority = 1000;
constexpr int32_t kMaxRetryCount = 1000;
constexpr size_t kMaxLabelBytes = 63;

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

// A part of the spec that fixes and varies settings: the spec itself, or an entry of its methods.
struct Scope {
  // "spec", "spec.methods[1]"
  std::string field;
  const std::map<std::string, std::string>& given_settings;
  const std::vector<SweepFactor>& given_factors;
  const std::vector<PositionPairSpec>& given_positions;
  std::map<std::string, std::string>& settings;
  std::vector<SweepFactor>& factors;
  std::vector<PositionPairSpec>& positions;
  absl::StatusOr<std::string> (*resolve)(std::string_view key);
};

// What the levels of `factor` set: its key, or what it has for settings.
std::set<std::string> KeysOf(const SweepFactor& factor) {
  if (factor.settings.empty()) return {factor.key};
  std::set<std::string> keys;
  for (const auto& level : factor.settings) {
    for (const auto& [key, value] : level) keys.insert(key);
  }
  return keys;
}

// Walks over a spec and collects what is wrong with it.
class Canonicaliser {
 public:
  explicit Canonicaliser(const SweepSpec& given) : given_(given) {}

  CanonicalSpec Run() && {
    CheckHeader();
    CheckDefaults();
    CheckSearch();
    SweepSpec& spec = result_.spec;
    CheckScope({"spec", given_.settings, given_.factors, given_.positions, spec.settings, spec.factors, spec.positions,
                &settings::ResolveSettingKey});
    CheckMethods();
    JoinDesigns();
    PatternCheck patterns(given_, result_);
    spec.exclusions = patterns.Check("spec.exclusions", given_.exclusions, "leaves nothing out");
    spec.selections = patterns.Check("spec.selections", given_.selections, "selects nothing");
    return std::move(result_);
  }

 private:
  void Refuse(std::string field, std::string description) {
    if (result_.violations.size() < kMaxSpecViolations) {
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

  void CheckSearch() {
    result_.spec.search = given_.search;
    if (!given_.search) return;
    SearchSpec& search = *result_.spec.search;
    const ScoreEntry* curve = FindScore(search.curve);
    if (search.curve.empty() || curve == nullptr || curve->name != search.curve) {
      Refuse("spec.search.curve",
             fmt::format("'{}' is no curve of a trial: expected loss, validation_loss, or the name "
                         "of a score, such as clip_i",
                         search.curve));
    } else if (search.direction == SearchSpec::Direction::kOfTheCurve) {
      search.direction =
          curve->better == Better::kSmaller ? SearchSpec::Direction::kMinimize : SearchSpec::Direction::kMaximize;
    } else if (search.direction != SearchSpec::Direction::kMinimize &&
               search.direction != SearchSpec::Direction::kMaximize) {
      Refuse("spec.search.direction", "expected to minimize or to maximize");
    }
    CheckRange("spec.search.reduction", search.reduction, 2, 100);
    CheckRange("spec.search.min_steps", search.min_steps, 1, 1'000'000'000);
    CheckCurveIsDrawn(search.curve);
  }

  // A curve that no trial reports would end none, without a word.
  void CheckCurveIsDrawn(const std::string& curve) {
    if (curve == "loss") return;
    const std::string key = curve == "validation_loss" ? "train.validate_every" : "score.every";
    const auto is_factor = [&](const SweepFactor& factor) {
      const absl::StatusOr<std::string> full = settings::ResolveSettingKey(factor.key);
      return full.ok() && *full == key;
    };
    if (std::any_of(given_.factors.begin(), given_.factors.end(), is_factor)) return;
    for (const auto& [name, value] : given_.settings) {
      const absl::StatusOr<std::string> full = settings::ResolveSettingKey(name);
      if (full.ok() && *full == key && value != "0") return;
    }
    if (const auto found = result_.spec.defaults.values.find(key);
        found != result_.spec.defaults.values.end() && found->second != "0")
      return;
    Refuse("spec.search.curve",
           fmt::format("no trial reports {} while it trains, since {} is 0: give it a number of steps", curve, key));
  }

  void CheckDefaults() {
    settings::SettingDefaults& defaults = result_.spec.defaults;
    if (given_.defaults.version == 0 && given_.defaults.values.empty()) {
      defaults = settings::SettingDefaults::OfVersion(settings::kSettingsVersion);
      return;
    }
    defaults.version = given_.defaults.version;
    if (defaults.version < 1 || defaults.version > settings::kSettingsVersion) {
      // The rest is judged by what this program knows.
      const int32_t version =
          std::exchange(defaults, settings::SettingDefaults::OfVersion(settings::kSettingsVersion)).version;
      return Refuse(
          "spec.defaults.version",
          fmt::format("the sweep was made with version {} of the settings, and this program knows up to {}: use "
                      "one Loupe for both, the newer",
                      version, settings::kSettingsVersion));
    }
    for (const auto& [key, value] : given_.defaults.values) {
      const std::string field = fmt::format("spec.defaults.values[\"{}\"]", key);
      const settings::SettingRule* rule = settings::FindSettingRule(key);
      if (rule == nullptr || rule->since > defaults.version) {
        Refuse(field, fmt::format("version {} of the settings has no '{}'", defaults.version, key));
        continue;
      }
      absl::StatusOr<std::string> canonical = settings::CanonicalValue(*rule, value);
      if (!canonical.ok()) {
        Refuse(field, MessageOf(canonical.status()));
      } else {
        defaults.values.emplace(key, *std::move(canonical));
      }
    }
  }

  void CheckScope(const Scope& scope) {
    CheckSettings(scope);
    if (scope.given_factors.size() > kMaxFactors) {
      Refuse(scope.field + ".factors",
             fmt::format("{} factors are more than the {} allowed", scope.given_factors.size(), kMaxFactors));
    } else {
      for (size_t i = 0; i < scope.given_factors.size(); ++i) CheckFactor(scope, i);
    }
    CheckPositions(scope);
  }

  void CheckSettings(const Scope& scope) {
    for (const auto& [key, value] : scope.given_settings) {
      const std::string field = fmt::format("{}.settings[\"{}\"]", scope.field, key);
      const absl::StatusOr<std::string> full = scope.resolve(key);
      if (!full.ok()) {
        Refuse(field, MessageOf(full.status()));
        continue;
      }
      // The value itself is judged by Plan::Create, together with the settings' conditions.
      const absl::StatusOr<std::string> canonical = settings::CanonicalValue(*settings::FindSettingRule(*full), value);
      if (!scope.settings.emplace(*full, canonical.ok() ? *canonical : value).second) {
        Refuse(field, fmt::format("{} is given twice", *full));
      }
    }
  }

  // Refuses a factor's key (or what its levels set) that this scope fixes or varies already.
  bool IsTaken(const Scope& scope, const std::string& field, const std::string& key) {
    for (const SweepFactor& factor : scope.factors) {
      if (!KeysOf(factor).contains(key)) continue;
      Refuse(field, factor.key == key ? fmt::format("{} is a factor twice", key)
                                      : fmt::format("{} is set by the factor {} already", key, factor.key));
      return true;
    }
    const auto fixed = scope.settings.find(key);
    if (fixed == scope.settings.end()) return false;
    Refuse(field,
           fmt::format("{} is a factor and also has the fixed value '{}'; keep one of the two", key, fixed->second));
    // Accused once.
    scope.settings.erase(fixed);
    return false;
  }

  void CheckFactor(const Scope& scope, size_t i) {
    const SweepFactor& given = scope.given_factors[i];
    const std::string field = fmt::format("{}.factors[{}]", scope.field, i);
    SweepFactor factor;
    const settings::SettingRule* rule = nullptr;
    if (!given.settings.empty()) {
      if (!CheckFreeName(scope, field, given)) return;
      factor.key = given.key;
    } else {
      const absl::StatusOr<std::string> full = scope.resolve(given.key);
      if (!full.ok()) return Refuse(field + ".key", MessageOf(full.status()));
      factor.key = *full;
      rule = settings::FindSettingRule(*full);
      if (IsTaken(scope, field + ".key", factor.key)) return;
    }
    if (given.levels.empty())
      return Refuse(field + ".levels", fmt::format("{} has no levels; give at least one", factor.key));
    if (given.levels.size() > kMaxLevelsPerFactor) {
      return Refuse(field + ".levels", fmt::format("{} levels of {} are more than the {} allowed", given.levels.size(),
                                                   factor.key, kMaxLevelsPerFactor));
    }
    static const settings::SettingRule name_of_level{.key = "a level's name", .type = settings::SettingType::kText};
    std::set<std::string> seen;
    for (size_t j = 0; j < given.levels.size(); ++j) {
      const std::string level_field = fmt::format("{}.levels[{}]", field, j);
      absl::StatusOr<std::string> level =
          settings::CanonicalValue(rule == nullptr ? name_of_level : *rule, given.levels[j]);
      if (!level.ok()) {
        Refuse(level_field, MessageOf(level.status()));
      } else if (!seen.insert(*level).second) {
        Refuse(level_field, fmt::format("{}: the level '{}' is given twice", factor.key, *level));
      } else {
        factor.levels.push_back(*std::move(level));
        if (rule == nullptr) factor.settings.push_back(LevelSettings(scope, field, given, j));
      }
    }
    if (rule == nullptr) {
      for (const std::string& key : KeysOf(factor)) {
        if (IsTaken(scope, field, key)) return;
      }
      CheckSameKeys(field, factor);
    }
    if (!factor.levels.empty()) scope.factors.push_back(std::move(factor));
  }

  // A factor whose levels set several settings: its name must be no setting's, nor one that reports use.
  bool CheckFreeName(const Scope& scope, const std::string& field, const SweepFactor& given) {
    const std::string& name = given.key;
    const bool well_formed = !name.empty() && name.size() <= kMaxLabelBytes && absl::ascii_isalpha(name[0]) &&
                             std::all_of(name.begin(), name.end(), [](unsigned char c) {
                               return absl::ascii_isalnum(c) || c == '_' || c == '-';
                             });
    if (!well_formed) {
      Refuse(field + ".key",
             fmt::format("'{}' is no name for a factor: expected letters, digits, '_' and '-', the first a "
                         "letter, at most {}",
                         name, kMaxLabelBytes));
      return false;
    }
    if (name == kMethodFactor || name == "replicate") {
      Refuse(field + ".key", fmt::format("'{}' is a factor of its own in reports; give this one another name", name));
      return false;
    }
    // "steps" could be two: not NOT_FOUND either.
    if (!absl::IsNotFound(scope.resolve(name).status())) {
      Refuse(field + ".key",
             fmt::format("'{}' is the name of a setting, whose levels are a list of its values; a factor "
                         "whose levels set several settings needs a name of its own",
                         name));
      return false;
    }
    if (FindFactor(scope.factors, name).has_value()) {
      Refuse(field + ".key", fmt::format("{} is a factor twice", name));
      return false;
    }
    if (given.settings.size() != given.levels.size()) {
      Refuse(field + ".settings",
             fmt::format("{} has {} levels and settings for {}", name, given.levels.size(), given.settings.size()));
      return false;
    }
    return true;
  }

  std::map<std::string, std::string> LevelSettings(const Scope& scope, const std::string& factor_field,
                                                   const SweepFactor& given, size_t level) {
    std::map<std::string, std::string> settings;
    const std::string field = fmt::format("{}.settings[{}]", factor_field, level);
    if (given.settings[level].empty()) {
      Refuse(field, fmt::format("{}: the level '{}' sets nothing", given.key, given.levels[level]));
    }
    for (const auto& [key, value] : given.settings[level]) {
      const std::string value_field = fmt::format("{}.values[\"{}\"]", field, key);
      const absl::StatusOr<std::string> full = scope.resolve(key);
      if (!full.ok()) {
        Refuse(value_field, MessageOf(full.status()));
        continue;
      }
      absl::StatusOr<std::string> canonical = settings::CanonicalValue(*settings::FindSettingRule(*full), value);
      if (!canonical.ok()) {
        Refuse(value_field, MessageOf(canonical.status()));
      } else if (!settings.emplace(*full, *std::move(canonical)).second) {
        Refuse(value_field, fmt::format("{} is given twice", *full));
      }
    }
    return settings;
  }

  // A level without a setting that another level has would take it from the defaults, which is easily overlooked: it
  // may only where its own condition (another task, another method) leaves the setting no meaning.
  void CheckSameKeys(const std::string& field, const SweepFactor& factor) {
    for (const std::string& key : KeysOf(factor)) {
      const settings::SettingRule& rule = *settings::FindSettingRule(key);
      for (size_t level = 0; level < factor.settings.size(); ++level) {
        const auto& settings = factor.settings[level];
        if (settings.contains(key)) continue;
        const auto condition = settings.find(rule.condition_key);
        if (condition != settings.end() && std::find(rule.condition_values.begin(), rule.condition_values.end(),
                                                     condition->second) == rule.condition_values.end()) {
          continue;
        }
        Refuse(fmt::format("{}.settings[{}]", field, level),
               fmt::format("{}: the level '{}' does not set {}, which another level sets; give it in every level",
                           factor.key, factor.levels[level], key));
      }
    }
  }

  void CheckPositions(const Scope& scope) {
    if (scope.given_positions.empty()) return;
    std::vector<PositionPairSpec>& pairs = scope.positions;
    for (size_t i = 0; i < scope.given_positions.size(); ++i) {
      const std::string field = fmt::format("{}.positions[{}]", scope.field, i);
      const absl::StatusOr<std::string> input =
          settings::CanonicalValue(*settings::FindSettingRule(kInputKey), scope.given_positions[i].input);
      const absl::StatusOr<std::string> output =
          settings::CanonicalValue(*settings::FindSettingRule(kOutputKey), scope.given_positions[i].output);
      if (!input.ok()) Refuse(field + ".input", MessageOf(input.status()));
      if (!output.ok()) Refuse(field + ".output", MessageOf(output.status()));
      if (!input.ok() || !output.ok()) continue;
      const PositionPairSpec pair{*input, *output};
      if (!IsLegalPair(*ParsePosition(*input), *ParsePosition(*output))) {
        Refuse(field, settings::WhyIllegal(*ParsePosition(*input), *ParsePosition(*output)));
      } else if (std::find(pairs.begin(), pairs.end(), pair) != pairs.end()) {
        Refuse(field, fmt::format("the pair {} -> {} is given twice", *input, *output));
      } else {
        pairs.push_back(pair);
      }
    }
    AddPositionFactor(scope, kInputKey, InputPositions(), &PositionPairSpec::input);
    AddPositionFactor(scope, kOutputKey, OutputPositions(), &PositionPairSpec::output);
  }

  // Adds the factor where it is missing; checks that the pairs use its levels where it is there.
  void AddPositionFactor(const Scope& scope, std::string_view key, const std::vector<Position>& all,
                         std::string PositionPairSpec::*side) {
    if (scope.settings.contains(std::string(key))) {
      Refuse(fmt::format("{}.settings[\"{}\"]", scope.field, key),
             fmt::format("{} is given beside positions; keep one of the two", key));
      scope.settings.erase(std::string(key));
    }
    if (const std::optional<size_t> present = FindFactor(scope.factors, key); present.has_value()) {
      const std::vector<std::string>& levels = scope.factors[*present].levels;
      for (size_t i = 0; i < scope.positions.size(); ++i) {
        const std::string& name = scope.positions[i].*side;
        if (std::find(levels.begin(), levels.end(), name) != levels.end()) continue;
        Refuse(fmt::format("{}.positions[{}]", scope.field, i),
               fmt::format("{} is not among the levels of {}: {}", name, key, fmt::join(levels, ", ")));
      }
      return;
    }
    SweepFactor factor{.key = std::string(key)};
    for (const Position position : all) {
      const bool used = std::any_of(scope.positions.begin(), scope.positions.end(),
                                    [&](const PositionPairSpec& pair) { return pair.*side == PositionName(position); });
      if (used) factor.levels.emplace_back(PositionName(position));
    }
    if (factor.levels.empty()) return;
    // Input first, output right after it: the order in which tables and heat maps read.
    const std::optional<size_t> input = key == kOutputKey ? FindFactor(scope.factors, kInputKey) : std::nullopt;
    scope.factors.insert(scope.factors.begin() + static_cast<std::ptrdiff_t>(input.has_value() ? *input + 1 : 0),
                         std::move(factor));
  }

  void CheckMethods() {
    if (given_.methods.empty()) return;
    SweepSpec& spec = result_.spec;
    if (given_.methods.size() > kMaxMethods) {
      return Refuse("spec.methods",
                    fmt::format("{} methods are more than the {} allowed", given_.methods.size(), kMaxMethods));
    }
    if (!given_.positions.empty())
      Refuse("spec.positions", "'methods' are given: put the positions into the adapter's entry");
    for (const auto& [key, value] : spec.settings) {
      if (!key.starts_with(kMethodSection)) continue;
      Refuse(fmt::format("spec.settings[\"{}\"]", key),
             fmt::format("'methods' are given: put {} into their entries", key));
    }
    std::erase_if(spec.settings, [](const auto& setting) { return setting.first.starts_with(kMethodSection); });
    for (size_t i = 0; i < given_.methods.size(); ++i) CheckMethod(i);
  }

  void CheckMethod(size_t i) {
    const MethodSpec& given = given_.methods[i];
    SweepSpec& spec = result_.spec;
    const std::string field = fmt::format("spec.methods[{}]", i);
    MethodSpec method;
    CheckScope({field, given.settings, given.factors, given.positions, method.settings, method.factors,
                method.positions, &ResolveMethodKey});
    // What is shared by all methods is no entry's own.
    for (const auto& [key, value] : method.settings) CheckNotShared(field, "settings", key, given);
    for (const SweepFactor& factor : method.factors) {
      if (!factor.settings.empty() && FindFactor(spec.factors, factor.key).has_value()) {
        Refuse(field, fmt::format("{} is a factor of all methods too; give one of the two another name", factor.key));
      }
      for (const std::string& key : KeysOf(factor)) CheckNotShared(field, "factors", key, given);
    }
    const auto kind = method.settings.find(std::string(kKindKey));
    if (kind == method.settings.end()) {
      Refuse(field,
             fmt::format("an entry needs a kind: {}", settings::ExpectedValue(*settings::FindSettingRule(kKindKey))));
    } else if (!given.positions.empty() && kind->second != "adapter") {
      Refuse(field + ".positions", fmt::format("positions are an adapter's; {} has none", kind->second));
    }
    method.label = !given.label.empty() ? given.label : kind == method.settings.end() ? "" : kind->second;
    const bool printable =
        std::none_of(method.label.begin(), method.label.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
    const bool is_new = std::none_of(spec.methods.begin(), spec.methods.end(),
                                     [&](const MethodSpec& other) { return other.label == method.label; });
    if (method.label.size() > kMaxLabelBytes || !printable) {
      Refuse(field + ".label", fmt::format("expected one line of at most {} bytes", kMaxLabelBytes));
    } else if (!is_new && !method.label.empty()) {
      Refuse(field, fmt::format("there are two entries '{}': give each a label of its own", method.label));
    }
    spec.methods.push_back(std::move(method));
  }

  void CheckNotShared(const std::string& field, std::string_view part, const std::string& key,
                      const MethodSpec& given) {
    const SweepSpec& spec = result_.spec;
    std::string where = field;
    if (part == "settings") {
      for (const auto& [written, value] : given.settings) {
        if (ResolveMethodKey(written).value_or("") == key) where = fmt::format("{}.settings[\"{}\"]", field, written);
      }
    }
    if (const auto fixed = spec.settings.find(key); fixed != spec.settings.end()) {
      return Refuse(where, fmt::format("{} has the fixed value '{}' for all methods; give it there or in every entry",
                                       key, fixed->second));
    }
    for (const SweepFactor& factor : spec.factors) {
      if (!KeysOf(factor).contains(key)) continue;
      return Refuse(where,
                    fmt::format("{} is varied for all methods by the factor {}; keep one of the two", key, factor.key));
    }
  }

  // The factors of the whole plan, and which of them each design has.
  void JoinDesigns() {
    const SweepSpec& spec = result_.spec;
    if (spec.methods.empty()) {
      result_.factors = spec.factors;
      result_.designs.emplace_back(spec.factors.size());
      std::iota(result_.designs[0].begin(), result_.designs[0].end(), 0);
      return;
    }
    SweepFactor& method = result_.factors.emplace_back(SweepFactor{.key = std::string(kMethodFactor), .levels = {}});
    for (const MethodSpec& entry : spec.methods) {
      method.levels.push_back(entry.label);
      method.settings.push_back(entry.settings);
    }
    for (const MethodSpec& entry : spec.methods) {
      std::vector<size_t>& design = result_.designs.emplace_back();
      for (const SweepFactor& factor : entry.factors) {
        design.push_back(result_.factors.size());
        result_.factors.push_back(factor);
        result_.factors.back().within = entry.label;
      }
    }
    for (const SweepFactor& factor : spec.factors) {
      for (std::vector<size_t>& design : result_.designs) design.push_back(result_.factors.size());
      result_.factors.push_back(factor);
    }
  }

  const SweepSpec& given_;
  CanonicalSpec result_;
};

}  // namespace

CanonicalSpec CanonicaliseSpec(const SweepSpec& spec) { return Canonicaliser(spec).Run(); }

}  // namespace loupe::coordinator::plan
