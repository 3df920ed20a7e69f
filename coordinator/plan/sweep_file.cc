#include "coordinator/plan/sweep_file.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "common/error_details.h"
#include "common/ids.h"
#include "common/positions.h"
#include "common/settings/settings.h"
#include "coordinator/plan/plan.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::coordinator {
namespace {

using Kind = YamlNode::Kind;

// The settings' sections ("budget") and the settings that stand at the top ("base").
std::vector<std::string> Sections() {
  std::vector<std::string> sections;
  for (const SettingRule& rule : SettingRules()) {
    const std::string section = rule.key.substr(0, rule.key.find('.'));
    if (section != rule.key && std::find(sections.begin(), sections.end(), section) == sections.end()) {
      sections.push_back(section);
    }
  }
  return sections;
}

std::vector<std::string> KeysOfSection(std::string_view section) {
  std::vector<std::string> keys;
  for (const SettingRule& rule : SettingRules()) {
    if (rule.key.starts_with(fmt::format("{}.", section))) keys.push_back(rule.key.substr(section.size() + 1));
  }
  return keys;
}

std::string Suggestion(std::string_view key, const std::vector<std::string>& candidates) {
  const std::string nearest = NearestName(key, candidates);
  if (!nearest.empty()) return fmt::format("; did you mean '{}'?", nearest);
  return fmt::format("; there are: {}", fmt::join(candidates, ", "));
}

absl::Status Refusal(std::string_view file_name, std::vector<FileProblem> problems) {
  std::stable_sort(problems.begin(), problems.end(),
                   [](const FileProblem& a, const FileProblem& b) { return a.place < b.place; });
  std::vector<FieldViolation> violations;
  std::vector<std::string> lines;
  for (const FileProblem& problem : problems) {
    std::string where(file_name);
    if (problem.place.line > 0) where += fmt::format(":{}:{}", problem.place.line, problem.place.column);
    lines.push_back(fmt::format("{}: {}", where, problem.message));
    violations.push_back({std::move(where), problem.message});
  }
  return WithFieldViolations(absl::InvalidArgumentError(fmt::format("{}", fmt::join(lines, "\n"))), violations);
}

class Reader {
 public:
  explicit Reader(SweepFile& file) : file_(file) {}

  std::vector<FileProblem> Read(const YamlNode& root) && {
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
    return problems_;
  }

 private:
  void Refuse(FilePlace place, std::string message) { problems_.push_back({place, std::move(message)}); }

  // Reads the keys that are no settings. False when `entry` is none of them.
  bool ReadStructure(const YamlEntry& entry) {
    const YamlNode& value = entry.value;
    if (entry.key == "name") {
      ReadName(value);
    } else if (entry.key == "title") {
      ReadText(entry, "spec.display_name", file_.spec.display_name);
    } else if (entry.key == "factors") {
      ReadFactors(entry);
    } else if (entry.key == "positions") {
      ReadPositions(entry);
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
    } else {
      return false;
    }
    return true;
  }

  void ReadName(const YamlNode& value) {
    name_refused_ = true;
    if (value.kind != Kind::kScalar)
      return Refuse(value.place, fmt::format("name: expected the sweep's id, found {}", value.Describe()));
    const absl::StatusOr<SweepId> id = SweepId::FromId(value.text);
    if (!id.ok()) return Refuse(value.place, fmt::format("name: {}", std::string(id.status().message())));
    file_.sweep_id = id->id();
  }

  void ReadText(const YamlEntry& entry, const std::string& field, std::string& text) {
    if (entry.value.kind != Kind::kScalar) {
      return Refuse(entry.value.place, fmt::format("{}: expected a text, found {}", entry.key, entry.value.Describe()));
    }
    text = entry.value.text;
    file_.places[field] = entry.value.place;
  }

  template <typename Number>
  void ReadNumber(const YamlEntry& entry, std::string_view key, const std::string& field, Number& number) {
    file_.places[field] = entry.value.place;
    if (entry.value.kind == Kind::kScalar && absl::SimpleAtoi(entry.value.text, &number)) return;
    Refuse(entry.value.place, fmt::format("{}: expected a whole number, found {}", key, entry.value.Describe()));
    number = Number();
    // Not accused again by the plan, for which 0 replicates are too few.
    if (key == "replicates") number = Number(1);
  }

  void ReadSettings(const YamlEntry& entry, const std::vector<std::string>& sections) {
    if (FindSettingRule(entry.key) != nullptr && entry.key.find('.') == std::string::npos) {
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
      if (FindSettingRule(key) == nullptr) {
        Refuse(setting.key_place, fmt::format("'{}' is not a key of '{}'{}", setting.key, entry.key,
                                              Suggestion(setting.key, KeysOfSection(entry.key))));
      } else {
        ReadSetting(key, setting.value);
      }
    }
  }

  void RefuseTopKey(const YamlEntry& entry, const std::vector<std::string>& sections) {
    std::vector<std::string> homes;
    for (const SettingRule& rule : SettingRules()) {
      if (ShortSettingName(rule.key) == entry.key || rule.key == entry.key)
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
    for (const SettingRule& rule : SettingRules()) {
      if (rule.key.find('.') == std::string::npos) candidates.push_back(rule.key);
    }
    Refuse(entry.key_place,
           fmt::format("'{}' is not a key of a sweep file{}", entry.key, Suggestion(entry.key, candidates)));
  }

  void ReadSetting(const std::string& key, const YamlNode& value) {
    const SettingRule& rule = *FindSettingRule(key);
    file_.places[fmt::format("spec.settings[\"{}\"]", key)] = value.place;
    if (value.kind == Kind::kScalar) {
      file_.spec.settings[key] = value.text;
      return;
    }
    if (value.kind == Kind::kList) {
      return Refuse(value.place,
                    fmt::format("{}: expected {}, found a list; to vary it, list its values under 'factors'", key,
                                ExpectedValue(rule)));
    }
    Refuse(value.place, fmt::format("{}: expected {}, found {}", key, ExpectedValue(rule), value.Describe()));
  }

  void ReadFactors(const YamlEntry& entry) {
    if (entry.value.kind != Kind::kMap) {
      return Refuse(entry.value.place, fmt::format("factors: expected a mapping such as 'scale: [1, 2]', found {}",
                                                   entry.value.Describe()));
    }
    file_.places["spec.factors"] = entry.key_place;
    for (const YamlEntry& factor : entry.value.entries) ReadFactor(factor);
  }

  void ReadFactor(const YamlEntry& entry) {
    const std::string field = fmt::format("spec.factors[{}]", file_.spec.factors.size());
    SweepFactor factor{.key = entry.key};
    file_.places[field] = entry.key_place;
    factor_places_[ResolveSettingKey(entry.key).value_or(entry.key)] = entry.key_place;
    if (entry.value.kind == Kind::kScalar && entry.value.text == "all") {
      const absl::StatusOr<std::string> full = ResolveSettingKey(entry.key);
      const SettingRule* rule = full.ok() ? FindSettingRule(*full) : nullptr;
      if (rule != nullptr && rule->choices.empty()) {
        Refuse(entry.value.place,
               fmt::format("factors.{}: 'all' stands for every choice, and {} has none to list: expected {}", entry.key,
                           rule->key, "a list of values"));
        return;
      }
      if (rule != nullptr) factor.levels = rule->choices;
      // An unknown key is the plan's to refuse; one level keeps it from complaining of none.
      if (rule == nullptr) factor.levels = {"all"};
    } else if (entry.value.kind == Kind::kList) {
      for (const YamlNode& item : entry.value.items) {
        if (item.kind != Kind::kScalar) {
          return Refuse(item.place, fmt::format("factors.{}: expected single values as levels, found {}", entry.key,
                                                item.Describe()));
        }
        file_.places[fmt::format("{}.levels[{}]", field, factor.levels.size())] = item.place;
        factor.levels.push_back(item.text);
      }
    } else {
      return Refuse(entry.value.place,
                    fmt::format("factors.{}: expected a list of levels such as [a, b], or 'all', found {}", entry.key,
                                entry.value.Describe()));
    }
    file_.spec.factors.push_back(std::move(factor));
  }

  void ReadPositions(const YamlEntry& entry) {
    positions_place_ = entry.key_place;
    file_.places["spec.positions"] = entry.key_place;
    if (entry.value.kind == Kind::kScalar && entry.value.text == "all") {
      for (const PositionPairId& pair : LegalPairs()) {
        file_.spec.positions.push_back({std::string(PositionName(pair.input)), std::string(PositionName(pair.output))});
      }
      return;
    }
    if (entry.value.kind != Kind::kList || entry.value.items.empty()) {
      return Refuse(entry.value.place,
                    fmt::format("positions: expected 'all' or a list of pairs such as \"CA_out -> FFN_in\", found {}",
                                entry.value.kind == Kind::kList ? "an empty list" : entry.value.Describe()));
    }
    for (const YamlNode& item : entry.value.items) ReadPair(item);
  }

  void ReadPair(const YamlNode& item) {
    const std::string field = fmt::format("spec.positions[{}]", file_.spec.positions.size());
    PositionPairSpec pair;
    if (item.kind == Kind::kScalar) {
      const std::vector<std::string> sides = absl::StrSplit(item.text, "->");
      if (sides.size() == 2)
        pair = {std::string(absl::StripAsciiWhitespace(sides[0])), std::string(absl::StripAsciiWhitespace(sides[1]))};
    }
    if (pair.input.empty() || pair.output.empty()) {
      return Refuse(item.place,
                    fmt::format("positions: expected a pair such as \"CA_out -> FFN_in\", found {}", item.Describe()));
    }
    file_.places[field] = item.place;
    file_.spec.positions.push_back(std::move(pair));
  }

  void CheckPositionsStandAlone() {
    for (const char* key : {"method.input", "method.output"}) {
      if (const auto found = factor_places_.find(key); found != factor_places_.end()) {
        Refuse(found->second, fmt::format("factors: {} is set by 'positions' (line {}); keep one of the two",
                                          ShortSettingName(key), positions_place_.line));
      }
    }
  }

  void ReadPatterns(const YamlEntry& entry, const std::string& list, std::vector<CellPattern>& patterns) {
    if (entry.value.kind != Kind::kList) {
      return Refuse(entry.value.place,
                    fmt::format("{}: expected a list such as [{{activation: sigmoid, scale: 4}}], found {}", entry.key,
                                entry.value.Describe()));
    }
    file_.places[list] = entry.key_place;
    for (const YamlNode& item : entry.value.items) {
      if (item.kind != Kind::kMap) {
        Refuse(item.place,
               fmt::format("{}: expected factors and levels such as {{activation: sigmoid, scale: 4}}, found {}",
                           entry.key, item.Describe()));
        continue;
      }
      const std::string field = fmt::format("{}[{}]", list, patterns.size());
      file_.places[field] = item.place;
      CellPattern& pattern = patterns.emplace_back();
      for (const YamlEntry& level : item.entries) {
        if (level.value.kind != Kind::kScalar) {
          Refuse(level.value.place,
                 fmt::format("{}: expected one level of {}, found {}; repeat the entry for each level", entry.key,
                             level.key, level.value.Describe()));
          continue;
        }
        file_.places[fmt::format("{}.levels[\"{}\"]", field, level.key)] = level.value.place;
        pattern[level.key] = level.value.text;
      }
    }
  }

  void ReadRetry(const YamlEntry& entry) {
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
        const std::vector<std::string> keys = {"max_trial_attempts", "max_worker_losses", "max_failed_trials",
                                               "backoff"};
        Refuse(item.key_place, fmt::format("'{}' is not a key of 'retry'{}", item.key, Suggestion(item.key, keys)));
      }
    }
  }

  SweepFile& file_;
  std::vector<FileProblem> problems_;
  std::map<std::string, FilePlace> factor_places_;  // by full key
  FilePlace positions_place_;
  bool name_refused_ = false;
};

// The place of a violation's field, or of the nearest thing around it.
FilePlace PlaceOfField(const SweepFile& file, std::string field) {
  while (!field.empty()) {
    if (const auto found = file.places.find(field); found != file.places.end()) return found->second;
    const size_t cut = field.find_last_of(".[");
    if (cut == std::string::npos) break;
    field.resize(cut);
  }
  return {};
}

// What the plan says of the values of a file whose shape is wrong: of settings and levels only, since everything else
// may be a consequence of what could not be read.
std::vector<FileProblem> ProblemsOfValues(const SweepFile& file) {
  std::vector<FileProblem> problems;
  for (const FieldViolation& violation : FieldViolationsOf(Plan::Create(file.spec).status())) {
    const auto place = file.places.find(violation.field);
    const bool is_value =
        violation.field.starts_with("spec.settings[") || violation.field.find(".levels[") != std::string::npos;
    if (place != file.places.end() && is_value && !violation.field.starts_with("spec.exclusions") &&
        !violation.field.starts_with("spec.selections")) {
      problems.push_back({place->second, violation.description});
    }
  }
  return problems;
}

}  // namespace

const std::vector<StructureKey>& SweepFileStructure() {
  static const std::vector<StructureKey> keys = {
      {"name", "4 to 63 lower-case letters, digits and '-', starting with a letter",
       "The sweep's id: how commands and reports call it. Required."},
      {"title", "one line of text", "A name for people."},
      {"factors", "a mapping from a setting to a list of its values, or to all",
       "What the sweep varies. A setting may be called by its last part where that is unambiguous."},
      {"positions", "all, or a list of pairs \"input -> output\"",
       "Named position pairs, instead of the factors input and output."},
      {"exclude", "a list of {factor: level, …}", "Cells that match every level of an entry are left out."},
      {"only", "a list of {factor: level, …}", "When given, only cells that match an entry are run."},
      {"replicates", "a whole number from 1 to 100000",
       "How often each cell runs, each time with other random numbers. Default 1."},
      {"seed", "a whole number from 0 to 18446744073709551615", "Seed of every random number of the sweep. Default 0."},
      {"priority", "a whole number from -1000 to 1000", "Sweeps of higher priority run first. Default 0."},
      {"retry.max_trial_attempts", "a whole number from 0 to 1000",
       "Attempts a trial may fail for its own reasons before it is given up; 0 means the coordinator's default, 2."},
      {"retry.max_worker_losses", "a whole number from 0 to 1000",
       "Lost workers a trial may cause before it is quarantined; 0 means the coordinator's default, 3."},
      {"retry.max_failed_trials", "a whole number from 0 to 1000000",
       "Failed trials after which the whole sweep is paused; 0 means no limit."},
      {"retry.backoff", "a time with its unit, such as 500ms, 10s or 2m",
       "First wait before a failed trial is offered again; it doubles each time. Default 1s."},
  };
  return keys;
}

absl::StatusOr<SweepFile> ParseSweepFile(std::string_view text, std::string_view file_name) {
  FileProblem syntax;
  const absl::StatusOr<YamlNode> root = ParseYaml(text, syntax);
  if (!root.ok()) return Refusal(file_name, {syntax});
  SweepFile file;
  file.file_name = std::string(file_name);
  std::vector<FileProblem> problems = Reader(file).Read(*root);
  if (!problems.empty()) {
    const std::vector<FileProblem> of_shape = problems;
    for (FileProblem& problem : ProblemsOfValues(file)) {
      const bool known =
          std::any_of(of_shape.begin(), of_shape.end(), [&](const FileProblem& p) { return p.place == problem.place; });
      if (!known) problems.push_back(std::move(problem));
    }
    return Refusal(file_name, std::move(problems));
  }
  file.spec.source_text = std::string(text);
  return file;
}

absl::Status LocateInFile(const absl::Status& status, const SweepFile& file) {
  const std::vector<FieldViolation> violations = FieldViolationsOf(status);
  if (violations.empty()) return status;
  std::vector<FileProblem> problems;
  for (const FieldViolation& violation : violations) {
    problems.push_back({PlaceOfField(file, violation.field), violation.description});
  }
  return Refusal(file.file_name, std::move(problems));
}

void MakePathsAbsolute(SweepSpec& spec, std::string_view working_directory) {
  const auto absolute = [&](std::string_view key, std::string& value) {
    const absl::StatusOr<std::string> full = ResolveSettingKey(key);
    if (!full.ok() || FindSettingRule(*full)->type != SettingType::kPath || value.empty()) return;
    std::string normal = (std::filesystem::path(working_directory) / value).lexically_normal().string();
    if (normal.size() > 1 && normal.back() == '/') normal.pop_back();
    value = std::move(normal);
  };
  for (auto& [key, value] : spec.settings) absolute(key, value);
  for (SweepFactor& factor : spec.factors) {
    for (std::string& level : factor.levels) absolute(factor.key, level);
  }
  for (std::vector<CellPattern>* patterns : {&spec.exclusions, &spec.selections}) {
    for (CellPattern& pattern : *patterns) {
      for (auto& [key, level] : pattern) absolute(key, level);
    }
  }
}

}  // namespace loupe::coordinator
