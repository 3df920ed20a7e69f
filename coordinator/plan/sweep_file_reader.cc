#include "coordinator/plan/sweep_file_reader.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "common/settings/settings.h"
#include "coordinator/plan/factor_names.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::coordinator::plan {
namespace {

// The settings' sections ("budget") and the settings that stand at the top ("base").
std::vector<std::string> Sections() {
  std::vector<std::string> sections;
  for (const settings::SettingRule& rule : settings::SettingRules()) {
    const std::string section = rule.key.substr(0, rule.key.find('.'));
    if (section != rule.key && std::find(sections.begin(), sections.end(), section) == sections.end()) {
      sections.push_back(section);
    }
  }
  return sections;
}

std::vector<std::string> KeysOfSection(std::string_view section) {
  std::vector<std::string> keys;
  for (const settings::SettingRule& rule : settings::SettingRules()) {
    if (rule.key.starts_with(fmt::format("{}.", section))) keys.push_back(rule.key.substr(section.size() + 1));
  }
  return keys;
}

}  // namespace

std::string Suggestion(std::string_view key, const std::vector<std::string>& candidates) {
  const std::string nearest = settings::NearestName(key, candidates);
  if (!nearest.empty()) return fmt::format("; did you mean '{}'?", nearest);
  return fmt::format("; there are: {}", fmt::join(candidates, ", "));
}

SweepFileReader::Part SweepFileReader::WholeSpec() {
  return {"spec", "factors", file_.spec.factors, file_.spec.positions, &settings::ResolveSettingKey};
}

std::vector<FileProblem> SweepFileReader::Read(const YamlNode& root) && {
  if (root.kind != Kind::kMap) {
    Refuse(root.place, fmt::format("expected keys such as 'name:' and 'base:', found {}", root.Describe()));
    return problems_;
  }
  const std::vector<std::string> sections = Sections();
  for (const YamlEntry& entry : root.entries) {
    if (!ReadStructure(entry)) ReadSettings(entry, sections);
  }
  if (file_.sweep_id.empty() && !name_refused_) {
    Refuse({}, "name: missing; expected the sweep's id, such as 'name: quickstart'");
  }
  if (positions_place_.line > 0) CheckPositionsStandAlone();
  CheckMode();
  return problems_;
}

bool SweepFileReader::ReadStructure(const YamlEntry& entry) {
  const YamlNode& value = entry.value;
  if (entry.key == "name") {
    ReadName(value);
  } else if (entry.key == "title") {
    ReadText(entry, "spec.display_name", file_.spec.display_name);
  } else if (entry.key == "factors") {
    ReadFactors(entry);
  } else if (entry.key == "positions") {
    positions_place_ = entry.key_place;
    ReadPositions(entry, WholeSpec());
  } else if (entry.key == "methods") {
    ReadMethods(entry);
  } else if (entry.key == "exclude") {
    ReadPatterns(entry, "spec.exclusions", file_.spec.exclusions);
  } else if (entry.key == "only") {
    ReadPatterns(entry, "spec.selections", file_.spec.selections);
  } else if (entry.key == "replicates") {
    ReadNumber(entry, "replicates", "spec.replicates", file_.spec.replicates);
  } else if (entry.key == "seed") {
    ReadNumber(entry, "seed", "spec.seed", file_.spec.seed);
  } else if (entry.key == "priority") {
    ReadNumber(entry, "priority", "spec.priority", file_.spec.priority);
  } else if (entry.key == "retry") {
    ReadRetry(entry);
  } else if (entry.key == "mode") {
    ReadMode(entry);
  } else if (entry.key == "search") {
    ReadSearch(entry);
  } else {
    return false;
  }
  return true;
}

void SweepFileReader::ReadName(const YamlNode& value) {
  name_refused_ = true;
  if (value.kind != Kind::kScalar)
    return Refuse(value.place, fmt::format("name: expected the sweep's id, found {}", value.Describe()));
  const absl::StatusOr<SweepId> id = SweepId::FromId(value.text);
  if (!id.ok()) return Refuse(value.place, fmt::format("name: {}", std::string(id.status().message())));
  file_.sweep_id = id->id();
}

void SweepFileReader::ReadText(const YamlEntry& entry, const std::string& field, std::string& text) {
  if (entry.value.kind != Kind::kScalar) {
    return Refuse(entry.value.place, fmt::format("{}: expected a text, found {}", entry.key, entry.value.Describe()));
  }
  text = entry.value.text;
  file_.places[field] = entry.value.place;
}

template <typename Number>
void SweepFileReader::ReadNumber(const YamlEntry& entry, std::string_view key, const std::string& field,
                                 Number& number) {
  file_.places[field] = entry.value.place;
  if (entry.value.kind == Kind::kScalar && absl::SimpleAtoi(entry.value.text, &number)) return;
  Refuse(entry.value.place, fmt::format("{}: expected a whole number, found {}", key, entry.value.Describe()));
  number = Number();
  // Not accused again by the plan, for which 0 replicates are too few.
  if (key == "replicates") number = Number(1);
}

void SweepFileReader::ReadSettings(const YamlEntry& entry, const std::vector<std::string>& sections) {
  if (settings::FindSettingRule(entry.key) != nullptr && entry.key.find('.') == std::string::npos) {
    return ReadSetting(entry.key, entry.value);
  }
  if (std::find(sections.begin(), sections.end(), entry.key) == sections.end()) return RefuseTopKey(entry, sections);
  if (entry.value.kind != Kind::kMap) {
    const std::vector<std::string> keys = KeysOfSection(entry.key);
    return Refuse(entry.value.place, fmt::format("{}: expected a mapping with keys such as '{}', found {}", entry.key,
                                                 keys.front(), entry.value.Describe()));
  }
  for (const YamlEntry& setting : entry.value.entries) {
    const std::string key = fmt::format("{}.{}", entry.key, setting.key);
    if (settings::FindSettingRule(key) == nullptr) {
      Refuse(setting.key_place, fmt::format("'{}' is not a key of '{}'{}", setting.key, entry.key,
                                            Suggestion(setting.key, KeysOfSection(entry.key))));
    } else {
      ReadSetting(key, setting.value);
    }
  }
}

void SweepFileReader::RefuseTopKey(const YamlEntry& entry, const std::vector<std::string>& sections) {
  std::vector<std::string> homes;
  for (const settings::SettingRule& rule : settings::SettingRules()) {
    if (settings::ShortSettingName(rule.key) == entry.key || rule.key == entry.key)
      homes.push_back(rule.key.substr(0, rule.key.find('.')));
  }
  if (!homes.empty()) {
    return Refuse(entry.key_place, fmt::format("'{}' does not stand at the top of the file; put it under '{}:'",
                                               entry.key, fmt::join(homes, ":' or '")));
  }
  std::vector<std::string> candidates = sections;
  for (const StructureKey& key : SweepFileStructure()) {
    if (key.key.find('.') == std::string::npos) candidates.push_back(key.key);
  }
  for (const settings::SettingRule& rule : settings::SettingRules()) {
    if (rule.key.find('.') == std::string::npos) candidates.push_back(rule.key);
  }
  Refuse(entry.key_place,
         fmt::format("'{}' is not a key of a sweep file{}", entry.key, Suggestion(entry.key, candidates)));
}

void SweepFileReader::ReadSetting(const std::string& key, const YamlNode& value) {
  const settings::SettingRule& rule = *settings::FindSettingRule(key);
  file_.places[fmt::format("spec.settings[\"{}\"]", key)] = value.place;
  if (value.kind == Kind::kScalar) {
    file_.spec.settings[key] = value.text;
    return;
  }
  if (value.kind == Kind::kList) {
    return Refuse(value.place, fmt::format("{}: expected {}, found a list; to vary it, list its values under 'factors'",
                                           key, settings::ExpectedValue(rule)));
  }
  Refuse(value.place, fmt::format("{}: expected {}, found {}", key, settings::ExpectedValue(rule), value.Describe()));
}

void SweepFileReader::ReadRetry(const YamlEntry& entry) {
  if (entry.value.kind != Kind::kMap) {
    return Refuse(entry.value.place, fmt::format("retry: expected a mapping, found {}", entry.value.Describe()));
  }
  RetryPolicySpec& retry = file_.spec.retry;
  for (const YamlEntry& item : entry.value.entries) {
    const std::string key = "retry." + item.key;
    const std::string field = "spec." + key;
    if (item.key == "max_trial_attempts") {
      ReadNumber(item, key, field, retry.max_trial_attempts);
    } else if (item.key == "max_worker_losses") {
      ReadNumber(item, key, field, retry.max_worker_losses);
    } else if (item.key == "max_failed_trials") {
      ReadNumber(item, key, field, retry.max_failed_trials);
    } else if (item.key == "backoff") {
      file_.places[field] = item.value.place;
      if (item.value.kind != Kind::kScalar || !absl::ParseDuration(item.value.text, &retry.backoff)) {
        Refuse(item.value.place,
               fmt::format("retry.backoff: expected a time with its unit, such as 500ms, 10s or 2m, found {}",
                           item.value.Describe()));
      }
    } else {
      const std::vector<std::string> keys = {"max_trial_attempts", "max_worker_losses", "max_failed_trials", "backoff"};
      Refuse(item.key_place, fmt::format("'{}' is not a key of 'retry'{}", item.key, Suggestion(item.key, keys)));
    }
  }
}

void SweepFileReader::ReadMode(const YamlEntry& entry) {
  mode_place_ = entry.key_place;
  const bool known = entry.value.kind == Kind::kScalar && (entry.value.text == "study" || entry.value.text == "search");
  if (!known) {
    return Refuse(entry.value.place,
                  fmt::format("mode: expected one of study, search; found {}", entry.value.Describe()));
  }
  searches_ = entry.value.text == "search";
}

void SweepFileReader::ReadSearch(const YamlEntry& entry) {
  search_place_ = entry.key_place;
  if (entry.value.kind != Kind::kMap) {
    return Refuse(entry.value.place, fmt::format("search: expected a mapping, found {}", entry.value.Describe()));
  }
  SearchSpec& search = file_.spec.search.emplace();
  file_.places["spec.search"] = entry.key_place;
  for (const YamlEntry& item : entry.value.entries) {
    const std::string key = "search." + item.key;
    const std::string field = "spec." + key;
    if (item.key == "curve") {
      ReadText(item, field, search.curve);
    } else if (item.key == "direction") {
      std::string text;
      ReadText(item, field, text);
      if (text == "minimize" || text == "maximize") {
        search.direction = text == "minimize" ? SearchSpec::Direction::kMinimize : SearchSpec::Direction::kMaximize;
      } else {
        Refuse(item.value.place,
               fmt::format("search.direction: expected one of minimize, maximize; found {}", item.value.Describe()));
      }
    } else if (item.key == "reduction") {
      ReadNumber(item, key, field, search.reduction);
    } else if (item.key == "min_steps") {
      ReadNumber(item, key, field, search.min_steps);
    } else {
      const std::vector<std::string> keys = {"curve", "direction", "reduction", "min_steps"};
      Refuse(item.key_place, fmt::format("'{}' is not a key of 'search'{}", item.key, Suggestion(item.key, keys)));
    }
  }
}

void SweepFileReader::CheckMode() {
  if (searches_ && search_place_.line == 0) {
    Refuse(mode_place_,
           "mode: search needs a section 'search' that says by which curve, such as "
           "'search: {curve: validation_loss, min_steps: 100}'");
  } else if (!searches_ && search_place_.line > 0) {
    Refuse(search_place_, "search: trials are ended early only with 'mode: search'");
  }
}

}  // namespace loupe::coordinator::plan
