// Every setting a trial has, in one table: the sweep file is checked against it at submission, the worker reads its
// values through it, and docs/sweep-file.md is written from it. A value is canonical text, so that it can travel in a
// map, be stored as it is, and be a factor's level.
//
// Keys are dotted ("budget.steps"): the part before the dot is the sweep file's section; keys without a dot stand at
// its top level. A factor may name a key by its last part when that is unambiguous ("scale" for "method.scale").
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/error_details.h"

namespace loupe {

enum class SettingType { kText, kPath, kInteger, kReal, kChoice, kBoolean };

// One row of the table.
struct SettingRule {
  std::string key;
  SettingType type = SettingType::kText;
  // Canonical text; empty and not `required` means "not set".
  std::string default_value;
  bool required = false;
  // Inclusive bounds of kInteger and kReal.
  double minimum = -std::numeric_limits<double>::infinity();
  double maximum = std::numeric_limits<double>::infinity();
  // The values of kChoice.
  std::vector<std::string> choices;
  // Of these, the ones that mean something only where other settings are given (and not 0): {"fid",
  // {"score.inception"}}.
  std::map<std::string, std::vector<std::string>> choice_needs;
  // When not empty, the setting is meaningful only where `condition_key` has one of these values (it is refused
  // elsewhere): {"method.kind", {"adapter"}}.
  std::string condition_key;
  std::vector<std::string> condition_values;
  // When not empty, exactly one of this setting and that one must be given: {"method.width", "method.parameters"}.
  std::string alternative_key;
  // One sentence for docs/sweep-file.md and for error messages.
  std::string description;
};

// The whole table, ordered as documented. Lives for the process.
const std::vector<SettingRule>& SettingRules();

// nullptr when there is no such key.
const SettingRule* FindSettingRule(std::string_view key);

// The full key of a short one ("scale" -> "method.scale"); full keys map to themselves. NOT_FOUND carries a suggestion
// ("did you mean 'scale'?") where one is near.
absl::StatusOr<std::string> ResolveSettingKey(std::string_view key);

// The part after the last dot: what tables and plots show.
std::string_view ShortSettingName(std::string_view key);

// Checks one value against its rule and returns its canonical text ("1.0" -> "1", "RELU" -> "relu" for choices).
// INVALID_ARGUMENT says what was expected.
absl::StatusOr<std::string> CanonicalValue(const SettingRule& rule, std::string_view value);

// What a rule expects of a value, for messages and documentation: "a whole number from 1 to 4096", "one of relu, silu".
std::string ExpectedValue(const SettingRule& rule);

// The nearest of `candidates` by edit distance (letter case aside), or empty when none is near enough to be meant.
std::string NearestName(std::string_view name, const std::vector<std::string>& candidates);

// Everything that is wrong with `values` as a trial's settings, in table order after unknown keys: unknown, ill-typed,
// out of range, refused by a condition, missing, given beside its alternative. FieldViolation::field is the key. Empty
// when Settings::Create would accept them.
std::vector<FieldViolation> SettingViolations(const std::map<std::string, std::string>& values);

// A trial's settings: complete (defaults filled in) and valid. Value type; const access is thread-safe.
class Settings {
 public:
  // From explicit values by full key. INVALID_ARGUMENT says what is wrong first and carries all SettingViolations
  // (FieldViolationsOf).
  static absl::StatusOr<Settings> Create(const std::map<std::string, std::string>& values);

  // A copy with other values for some keys. Precondition: Create would accept it as it is: nothing is checked.
  Settings With(const std::map<std::string, std::string>& values) const;

  // Preconditions for all: the key is in the table with that type (else the process aborts: a programming error).
  const std::string& Text(std::string_view key) const;
  int64_t Integer(std::string_view key) const;
  double Real(std::string_view key) const;
  bool Boolean(std::string_view key) const;
  // Whether it has a value (given or default).
  bool Has(std::string_view key) const;

  const std::map<std::string, std::string, std::less<>>& values() const { return values_; }

 private:
  std::map<std::string, std::string, std::less<>> values_;
};

}  // namespace loupe
