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
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/error_details.h"

namespace loupe::settings {

// Version of the table: rises with every new setting, choice and default (setting_rules.h says how). Stored with every
// sweep and told by every worker. 1: adapters alone; 2: lora, full, bitfit.
inline constexpr int32_t kSettingsVersion = 4;

// kNames: one or more names or patterns, written with spaces or commas between them; canonical with single spaces. A
// pattern fits a layer when it fits some run of whole parts of the layer's name ("attn2", "attn1.to_q",
// "down_blocks.0");
// '*' stands for any letters.
enum class SettingType { kText, kPath, kInteger, kReal, kChoice, kBoolean, kNames };

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
  // The values of kChoice; the names of kNames where only these are known.
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
  // The version of the table with which the setting came.
  int32_t since = 1;
  // The value that means what programs before `since` did; empty means "not set". Meaningless for since = 1.
  std::string neutral;
  // Defaults of former versions: {last version that had it, its canonical text or nothing}, ascending.
  std::vector<std::pair<int32_t, std::string>> former_defaults;
  // Those of `choices` that came after `since`, and the version with which each came.
  std::map<std::string, int32_t> choices_since;
  // Whether trials that differ in it can be trained together, as one pack on one base (PackKey).
  bool may_differ_in_pack = false;
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

// Whether a pattern of kNames fits `name`, the dotted name of a layer or weight.
bool FitsName(std::string_view pattern, std::string_view name);

// Everything that is wrong with `values` as a trial's settings, in table order after unknown keys: unknown, ill-typed,
// out of range, refused by a condition, missing, given beside its alternative. FieldViolation::field is the key. Empty
// when Settings::Create would accept them.
std::vector<FieldViolation> SettingViolations(const std::map<std::string, std::string>& values);

// What settings that are not given are taken to be. A stored sweep carries its own, so that no later program's defaults
// enter it.
struct SettingDefaults {
  // Of the table that made it; 0 stands for nothing at all.
  int32_t version = 0;
  // By full key, canonical. Settings::Create refuses to go without one that the version had, so that a reader of
  // settings never meets a hole.
  std::map<std::string, std::string> values;

  // All defaults that the table had at `version` (1 … kSettingsVersion; newer ones are what this program knows).
  static SettingDefaults OfVersion(int32_t version);
  // For values that are complete already, as a trial's are on the wire: nothing is added but the neutral values of
  // settings that are newer than `version`.
  static SettingDefaults None(int32_t version) { return {.version = version, .values = {}}; }

  // Canonical text for `rule`: empty means "not set".
  std::string_view Of(const SettingRule& rule) const;
  bool operator==(const SettingDefaults&) const = default;
};

// The version of the table that a program must know to run a trial with these complete settings: the largest `since`
// among the settings that are not at their neutral value and the choices that are taken. kSettingsVersion + 1 when a
// key is not in this program's table.
int32_t RequiredSettingsVersion(const std::map<std::string, std::string, std::less<>>& values);

// Of complete settings, those that a program of `version` knows: what may be sent to it. Precondition:
// RequiredSettingsVersion(values) <= version, else something is lost.
std::map<std::string, std::string, std::less<>> SettingsForVersion(
    const std::map<std::string, std::string, std::less<>>& values, int32_t version);

// What trials must have in common to be trained together as one pack: of complete settings, those that may not differ,
// as text. Trials with equal keys fit each other; settings that this program does not know are part of it.
std::string PackKey(const std::map<std::string, std::string, std::less<>>& values);

// A trial's settings: complete (defaults filled in) and valid. Value type; const access is thread-safe.
class Settings {
 public:
  // From explicit values by full key. INVALID_ARGUMENT says what is wrong first and carries all SettingViolations
  // (FieldViolationsOf).
  static absl::StatusOr<Settings> Create(const std::map<std::string, std::string>& values);
  // The same with other defaults than this program's.
  static absl::StatusOr<Settings> Create(const std::map<std::string, std::string>& values,
                                         const SettingDefaults& defaults);

  // A copy with other values for some keys. Precondition: Create would accept it as it is: nothing is checked.
  Settings With(const std::map<std::string, std::string>& values) const;

  // Preconditions for all: the key is in the table with that type (else the process aborts: a programming error).
  const std::string& Text(std::string_view key) const;
  int64_t Integer(std::string_view key) const;
  double Real(std::string_view key) const;
  bool Boolean(std::string_view key) const;
  std::vector<std::string> Names(std::string_view key) const;
  // Whether it has a value (given or default).
  bool Has(std::string_view key) const;

  const std::map<std::string, std::string, std::less<>>& values() const { return values_; }

 private:
  std::map<std::string, std::string, std::less<>> values_;
};

}  // namespace loupe::settings
