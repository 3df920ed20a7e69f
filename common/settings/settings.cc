#include "common/settings/settings.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <unordered_map>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::settings {
namespace {

// Long enough for any path and prompt; bounds what a request can store per setting.
constexpr size_t kMaxValueBytes = 4096;

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string RangeText(const SettingRule& rule) {
  const bool low = std::isfinite(rule.minimum);
  const bool high = std::isfinite(rule.maximum);
  if (low && high) return fmt::format(" from {} to {}", rule.minimum, rule.maximum);
  if (low) return fmt::format(" of at least {}", rule.minimum);
  if (high) return fmt::format(" of at most {}", rule.maximum);
  return "";
}

absl::Status WrongValue(const SettingRule& rule, std::string_view value, std::string_view expected) {
  return absl::InvalidArgumentError(fmt::format("{}: '{}' is not {}", rule.key, value, expected));
}

absl::Status WrongChoice(const SettingRule& rule, std::string_view value) {
  const std::string nearest = NearestName(value, rule.choices);
  return WrongValue(rule, value,
                    ExpectedValue(rule) + (nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
}

// The default that the table had at `version`; empty where it had none.
const std::string& DefaultAt(const SettingRule& rule, int32_t version) {
  static const std::string none;
  if (rule.since > version) return none;
  for (const auto& [last, value] : rule.former_defaults) {
    if (version <= last) return value;
  }
  return rule.default_value;
}

bool InRange(const SettingRule& rule, double value) { return value >= rule.minimum && value <= rule.maximum; }

const std::string& ValueOf(const std::map<std::string, std::string, std::less<>>& values, std::string_view key) {
  const auto found = values.find(key);
  if (found == values.end()) {
    fmt::print(stderr, "setting '{}' was read but has no value\n", key);
    std::abort();
  }
  return found->second;
}

}  // namespace

const SettingRule* FindSettingRule(std::string_view key) {
  // Looked up for each setting of each lease.
  static const auto* const by_key = [] {
    auto* index = new std::unordered_map<std::string_view, const SettingRule*>();
    for (const SettingRule& rule : SettingRules()) index->emplace(rule.key, &rule);
    return index;
  }();
  const auto found = by_key->find(key);
  return found == by_key->end() ? nullptr : found->second;
}

std::string_view ShortSettingName(std::string_view key) {
  const size_t dot = key.rfind('.');
  return dot == std::string_view::npos ? key : key.substr(dot + 1);
}

std::string NearestName(std::string_view name, const std::vector<std::string>& candidates) {
  std::string best;
  if (name.size() > 100) return best;
  // Names of up to three letters must be one letter off at most: nearly everything is two letters away from them.
  size_t best_distance = (name.size() <= 3 ? 1 : std::max<size_t>(2, name.size() / 3)) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(absl::AsciiStrToLower(std::string(name)), absl::AsciiStrToLower(candidate));
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

absl::StatusOr<std::string> ResolveSettingKey(std::string_view key) {
  if (FindSettingRule(key) != nullptr) return std::string(key);
  std::vector<std::string> matches;
  std::vector<std::string> names;
  for (const SettingRule& rule : SettingRules()) {
    if (ShortSettingName(rule.key) == key) matches.push_back(rule.key);
    names.push_back(rule.key);
    names.emplace_back(ShortSettingName(rule.key));
  }
  if (matches.size() == 1) return matches.front();
  if (matches.size() > 1) {
    return absl::InvalidArgumentError(
        fmt::format("'{}' could be any of {}: write the full key", key, fmt::join(matches, ", ")));
  }
  const std::string nearest = NearestName(key, names);
  return absl::NotFoundError(nearest.empty()
                                 ? fmt::format("there is no setting '{}'", key)
                                 : fmt::format("there is no setting '{}'; did you mean '{}'?", key, nearest));
}

std::string ExpectedValue(const SettingRule& rule) {
  switch (rule.type) {
    case SettingType::kText:
      return "a text";
    case SettingType::kPath:
      return "a path";
    case SettingType::kInteger:
      return fmt::format("a whole number{}", RangeText(rule));
    case SettingType::kReal:
      return fmt::format("a number{}", RangeText(rule));
    case SettingType::kBoolean:
      return "true or false";
    case SettingType::kChoice:
      return fmt::format("one of {}", fmt::join(rule.choices, ", "));
    case SettingType::kNames:
      return rule.choices.empty() ? "names with spaces or commas between them"
                                  : fmt::format("one or more of {}", fmt::join(rule.choices, ", "));
  }
  std::abort();
}

absl::StatusOr<std::string> CanonicalValue(const SettingRule& rule, std::string_view value) {
  // No part of a prompt: it would change what the model is conditioned on.
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (value.starts_with(kByteOrderMark)) value.remove_prefix(kByteOrderMark.size());
  const std::string text(absl::StripAsciiWhitespace(absl::string_view(value.data(), value.size())));
  if (text.size() > kMaxValueBytes) {
    return absl::InvalidArgumentError(
        fmt::format("{}: a value of {} bytes is longer than the {} allowed", rule.key, text.size(), kMaxValueBytes));
  }
  switch (rule.type) {
    case SettingType::kText:
    case SettingType::kPath:
      if (text.empty())
        return WrongValue(rule, value, fmt::format("{} of at least one character", ExpectedValue(rule)));
      if (std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; })) {
        return absl::InvalidArgumentError(
            fmt::format("{}: the value holds a control character or line break; expected "
                        "one line of text",
                        rule.key));
      }
      // A path may be any bytes.
      if (const size_t at = FindNotUtf8(text); rule.type == SettingType::kText && at != std::string::npos) {
        return absl::InvalidArgumentError(
            fmt::format("{}: byte {} of '{}' is not UTF-8; expected text in UTF-8", rule.key, at + 1, Printable(text)));
      }
      return text;
    case SettingType::kInteger: {
      int64_t number = 0;
      if (absl::SimpleAtoi(text, &number) && InRange(rule, static_cast<double>(number)))
        return fmt::format("{}", number);
      return WrongValue(rule, value, ExpectedValue(rule));
    }
    case SettingType::kReal: {
      double number = 0;
      if (absl::SimpleAtod(text, &number) && std::isfinite(number) && InRange(rule, number)) {
        return fmt::format("{}", number == 0 ? 0.0 : number);
      }
      return WrongValue(rule, value, ExpectedValue(rule));
    }
    case SettingType::kBoolean: {
      const std::string lower = absl::AsciiStrToLower(text);
      if (lower == "true" || lower == "yes" || lower == "on") return "true";
      if (lower == "false" || lower == "no" || lower == "off") return "false";
      return WrongValue(rule, value, ExpectedValue(rule));
    }
    case SettingType::kNames: {
      const std::vector<std::string> names = absl::StrSplit(text, absl::ByAnyChar(", \t"), absl::SkipEmpty());
      if (names.empty()) return WrongValue(rule, value, ExpectedValue(rule));
      for (size_t i = 0; i < names.size(); ++i) {
        const bool well_formed = std::all_of(names[i].begin(), names[i].end(), [](char c) {
          return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '-' || c == '*';
        });
        if (!well_formed) {
          return WrongValue(rule, names[i], "a name of letters, digits, '_', '.', '-' and '*' for any letters");
        }
        if (!rule.choices.empty() &&
            std::find(rule.choices.begin(), rule.choices.end(), names[i]) == rule.choices.end()) {
          return WrongChoice(rule, names[i]);
        }
        if (std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(i), names[i]) !=
            names.begin() + static_cast<std::ptrdiff_t>(i)) {
          return absl::InvalidArgumentError(fmt::format("{}: '{}' is given twice", rule.key, names[i]));
        }
      }
      return fmt::format("{}", fmt::join(names, " "));
    }
    case SettingType::kChoice: {
      for (const std::string& choice : rule.choices) {
        if (absl::AsciiStrToLower(choice) == absl::AsciiStrToLower(text)) return choice;
      }
      return WrongChoice(rule, text);
    }
  }
  std::abort();
}

namespace {

// Canonical values of the known keys, and what is wrong with the rest.
struct CheckedSettings {
  std::map<std::string, std::string, std::less<>> values;
  std::vector<FieldViolation> violations;
};

// `given` holds what the user wrote; `values` also the defaults of the rules before this one.
bool IsMeaningful(const SettingRule& rule, const std::map<std::string, std::string, std::less<>>& values) {
  if (rule.condition_key.empty()) return true;
  const auto found = values.find(rule.condition_key);
  return found != values.end() && std::find(rule.condition_values.begin(), rule.condition_values.end(),
                                            found->second) != rule.condition_values.end();
}

// With all defaults filled in: adds the choices that lack what they need.
void CheckNeeds(CheckedSettings& checked) {
  for (const SettingRule& rule : SettingRules()) {
    const auto choice = checked.values.find(rule.key);
    if (choice == checked.values.end()) continue;
    const auto needs = rule.choice_needs.find(choice->second);
    if (needs == rule.choice_needs.end()) continue;
    for (const std::string& needed : needs->second) {
      const auto found = checked.values.find(needed);
      if (found != checked.values.end() && found->second != "0") continue;
      checked.violations.push_back({rule.key, fmt::format("{}: {} is not computed without {}; give that too", rule.key,
                                                          choice->second, needed)});
    }
  }
}

// No device without a row of each batch.
void CheckDevices(CheckedSettings& checked) {
  const auto number = [&](std::string_view key) {
    int64_t value = 0;
    const auto found = checked.values.find(key);
    return found != checked.values.end() && absl::SimpleAtoi(found->second, &value) ? value : int64_t{1};
  };
  const int64_t devices = number("train.devices"), batch = number("budget.batch");
  if (devices <= batch) return;
  checked.violations.push_back(
      {"train.devices", fmt::format("train.devices: {} devices cannot share out the {} rows of budget.batch; give at "
                                    "most as many devices as rows",
                                    devices, batch)});
}

CheckedSettings CheckSettings(const std::map<std::string, std::string>& given, const SettingDefaults& defaults) {
  CheckedSettings checked;
  for (const auto& [key, value] : given) {
    const SettingRule* rule = FindSettingRule(key);
    if (rule == nullptr) {
      const absl::StatusOr<std::string> full = ResolveSettingKey(key);
      checked.violations.push_back({key, full.ok()
                                             ? fmt::format("'{}' must be written as its full key '{}'", key, *full)
                                             : std::string(full.status().message())});
      continue;
    }
    absl::StatusOr<std::string> canonical = CanonicalValue(*rule, value);
    if (canonical.ok()) {
      checked.values.emplace(key, *std::move(canonical));
    } else {
      checked.violations.push_back({key, std::string(canonical.status().message())});
    }
  }
  // In table order, so that a condition may rest on an earlier key's default.
  for (const SettingRule& rule : SettingRules()) {
    const bool is_given = given.contains(rule.key);
    if (!IsMeaningful(rule, checked.values)) {
      // A condition whose own value was refused says nothing about this one.
      const bool condition_known = checked.values.contains(rule.condition_key) || !given.contains(rule.condition_key);
      if (is_given && condition_known) {
        checked.values.erase(rule.key);
        checked.violations.push_back(
            {rule.key, fmt::format("{}: only meaningful where {} is {}", rule.key, rule.condition_key,
                                   fmt::join(rule.condition_values, " or "))});
      }
      continue;
    }
    // Of two alternatives the one that stands first in the table speaks for both.
    const bool speaks = !rule.alternative_key.empty() && &rule < FindSettingRule(rule.alternative_key);
    if (is_given) {
      if (speaks && given.contains(rule.alternative_key)) {
        checked.violations.push_back(
            {rule.key, fmt::format("{}: given beside {}; give one of the two", rule.key, rule.alternative_key)});
      }
      continue;
    }
    if (speaks && !given.contains(rule.alternative_key)) {
      checked.violations.push_back(
          {rule.key, fmt::format("{}: missing; give it or {}. {}", rule.key, rule.alternative_key, rule.description)});
    } else if (rule.required) {
      checked.violations.push_back(
          {rule.key, fmt::format("{}: missing; expected {}. {}", rule.key, ExpectedValue(rule), rule.description)});
    } else if (const std::string_view fallback = defaults.Of(rule); !fallback.empty()) {
      checked.values.emplace(rule.key, fallback);
    } else if (!DefaultAt(rule, defaults.version).empty()) {
      checked.violations.push_back(
          {rule.key, fmt::format("{}: missing; in version {} of the settings it always has a value", rule.key,
                                 defaults.version)});
    }
  }
  CheckNeeds(checked);
  CheckDevices(checked);
  return checked;
}

}  // namespace

bool FitsName(std::string_view pattern, std::string_view name) {
  // Whole parts: both between dots, and as many letters as liked before and after.
  const std::string text = fmt::format(".{}.", name);
  const std::string wanted = fmt::format("*.{}.*", pattern);
  // Greedy matching with one way back: at the last '*', which takes one letter more.
  size_t t = 0, p = 0, star = std::string::npos, taken = 0;
  while (t < text.size()) {
    if (p < wanted.size() && wanted[p] == '*') {
      star = p++;
      taken = t;
    } else if (p < wanted.size() && wanted[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string::npos) {
      p = star + 1;
      t = ++taken;
    } else {
      return false;
    }
  }
  return wanted.find_first_not_of('*', p) == std::string::npos;
}

std::vector<FieldViolation> SettingViolations(const std::map<std::string, std::string>& values) {
  return CheckSettings(values, SettingDefaults::OfVersion(kSettingsVersion)).violations;
}

SettingDefaults SettingDefaults::OfVersion(int32_t version) {
  SettingDefaults defaults{.version = version, .values = {}};
  for (const SettingRule& rule : SettingRules()) {
    if (const std::string& value = DefaultAt(rule, version); !value.empty()) defaults.values.emplace(rule.key, value);
  }
  return defaults;
}

std::string_view SettingDefaults::Of(const SettingRule& rule) const {
  if (rule.since > version) return rule.neutral;
  const auto found = values.find(rule.key);
  return found == values.end() ? std::string_view() : found->second;
}

int32_t RequiredSettingsVersion(const std::map<std::string, std::string, std::less<>>& values) {
  int32_t required = 1;
  for (const auto& [key, value] : values) {
    const SettingRule* rule = FindSettingRule(key);
    if (rule == nullptr) return kSettingsVersion + 1;
    if (value != rule->neutral) required = std::max(required, rule->since);
    const auto choice = rule->choices_since.find(value);
    if (choice != rule->choices_since.end()) required = std::max(required, choice->second);
  }
  return required;
}

std::string PackKey(const std::map<std::string, std::string, std::less<>>& values) {
  std::string key;
  for (const auto& [name, value] : values) {
    const SettingRule* rule = FindSettingRule(name);
    // A value may hold anything but a NUL.
    if (rule == nullptr || !rule->may_differ_in_pack) key.append(name).append("=").append(value).push_back('\0');
  }
  return key;
}

std::map<std::string, std::string, std::less<>> SettingsForVersion(
    const std::map<std::string, std::string, std::less<>>& values, int32_t version) {
  if (version >= kSettingsVersion) return values;
  std::map<std::string, std::string, std::less<>> known;
  for (const auto& [key, value] : values) {
    const SettingRule* rule = FindSettingRule(key);
    if (rule == nullptr || rule->since <= version) known.emplace(key, value);
  }
  return known;
}

absl::StatusOr<Settings> Settings::Create(const std::map<std::string, std::string>& values) {
  return Create(values, SettingDefaults::OfVersion(kSettingsVersion));
}

absl::StatusOr<Settings> Settings::Create(const std::map<std::string, std::string>& values,
                                          const SettingDefaults& defaults) {
  CheckedSettings checked = CheckSettings(values, defaults);
  if (!checked.violations.empty()) {
    return WithFieldViolations(absl::InvalidArgumentError(checked.violations.front().description), checked.violations);
  }
  Settings settings;
  settings.values_ = std::move(checked.values);
  return settings;
}

Settings Settings::With(const std::map<std::string, std::string>& values) const {
  Settings changed = *this;
  for (const auto& [key, value] : values) changed.values_.insert_or_assign(key, value);
  return changed;
}

const std::string& Settings::Text(std::string_view key) const { return ValueOf(values_, key); }

int64_t Settings::Integer(std::string_view key) const {
  int64_t number = 0;
  if (!absl::SimpleAtoi(ValueOf(values_, key), &number)) std::abort();
  return number;
}

double Settings::Real(std::string_view key) const {
  double number = 0;
  if (!absl::SimpleAtod(ValueOf(values_, key), &number)) std::abort();
  return number;
}

bool Settings::Boolean(std::string_view key) const { return ValueOf(values_, key) == "true"; }

std::vector<std::string> Settings::Names(std::string_view key) const {
  return absl::StrSplit(ValueOf(values_, key), ' ');
}

bool Settings::Has(std::string_view key) const { return values_.contains(key); }

}  // namespace loupe::settings
