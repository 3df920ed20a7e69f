#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "common/positions.h"
#include "common/settings/settings.h"
#include "coordinator/plan/factor_names.h"
#include "coordinator/plan/sweep_file_reader.h"
#include "fmt/format.h"

namespace loupe::coordinator::plan {

void SweepFileReader::ReadFactors(const YamlEntry& entry) {
  if (entry.value.kind != Kind::kMap) {
    return Refuse(entry.value.place,
                  fmt::format("factors: expected a mapping such as 'scale: [1, 2]', found {}", entry.value.Describe()));
  }
  file_.places["spec.factors"] = entry.key_place;
  for (const YamlEntry& factor : entry.value.entries) ReadFactor(factor, WholeSpec());
}

void SweepFileReader::ReadFactor(const YamlEntry& entry, const Part& part) {
  const std::string field = fmt::format("{}.factors[{}]", part.field, part.factors.size());
  SweepFactor factor{.key = entry.key, .levels = {}};
  file_.places[field] = entry.key_place;
  const absl::StatusOr<std::string> full = part.resolve(entry.key);
  if (part.field == "spec") factor_places_[full.value_or(entry.key)] = entry.key_place;
  if (entry.value.kind == Kind::kScalar && entry.value.text == "all") {
    const settings::SettingRule* rule = full.ok() ? settings::FindSettingRule(*full) : nullptr;
    if (rule != nullptr && rule->choices.empty()) {
      return Refuse(entry.value.place,
                    fmt::format("{}.{}: 'all' stands for every choice, and {} has none to list: expected {}", part.name,
                                entry.key, rule->key, "a list of values"));
    }
    if (rule != nullptr) factor.levels = rule->choices;
    // An unknown key is the plan's to refuse; one level keeps it from complaining of none.
    if (rule == nullptr) factor.levels = {"all"};
  } else if (entry.value.kind == Kind::kList) {
    for (const YamlNode& item : entry.value.items) {
      if (item.kind != Kind::kScalar) {
        return Refuse(item.place, fmt::format("{}.{}: expected single values as levels, found {}", part.name, entry.key,
                                              item.Describe()));
      }
      file_.places[fmt::format("{}.levels[{}]", field, factor.levels.size())] = item.place;
      factor.levels.push_back(item.text);
    }
  } else if (entry.value.kind == Kind::kMap) {
    ReadLevelSettings(entry, field, part, factor);
  } else {
    return Refuse(entry.value.place, fmt::format("{}.{}: expected a list of levels such as [a, b], or 'all', found {}",
                                                 part.name, entry.key, entry.value.Describe()));
  }
  part.factors.push_back(std::move(factor));
}

// A factor of a free name: level -> what it sets. Settings are dotted ("task.images"), or in their sections.
void SweepFileReader::ReadLevelSettings(const YamlEntry& entry, const std::string& field, const Part& part,
                                        SweepFactor& factor) {
  for (const YamlEntry& level : entry.value.entries) {
    const size_t index = factor.levels.size();
    file_.places[fmt::format("{}.levels[{}]", field, index)] = level.key_place;
    file_.places[fmt::format("{}.settings[{}]", field, index)] = level.key_place;
    factor.levels.push_back(level.key);
    std::map<std::string, std::string>& settings = factor.settings.emplace_back();
    if (level.value.kind != Kind::kMap) {
      Refuse(level.value.place,
             fmt::format("{}.{}: expected what the level '{}' sets, such as {{task.images: a/folder}}, found {}",
                         part.name, entry.key, level.key, level.value.Describe()));
      continue;
    }
    for (const YamlEntry& setting : level.value.entries) {
      if (setting.value.kind != Kind::kScalar) {
        Refuse(setting.value.place, fmt::format("{}.{}: expected one value of {}, found {}", part.name, entry.key,
                                                setting.key, setting.value.Describe()));
        continue;
      }
      file_.places[fmt::format("{}.settings[{}].values[\"{}\"]", field, index, setting.key)] = setting.value.place;
      settings[setting.key] = setting.value.text;
    }
  }
}

void SweepFileReader::ReadPositions(const YamlEntry& entry, const Part& part) {
  file_.places[part.field + ".positions"] = entry.key_place;
  if (entry.value.kind == Kind::kScalar && entry.value.text == "all") {
    for (const PositionPairId& pair : LegalPairs()) {
      part.positions.push_back({std::string(PositionName(pair.input)), std::string(PositionName(pair.output))});
    }
    return;
  }
  if (entry.value.kind != Kind::kList || entry.value.items.empty()) {
    return Refuse(entry.value.place,
                  fmt::format("positions: expected 'all' or a list of pairs such as \"CA_out -> FFN_in\", found {}",
                              entry.value.kind == Kind::kList ? "an empty list" : entry.value.Describe()));
  }
  for (const YamlNode& item : entry.value.items) ReadPair(item, part);
}

// "CA_out -> FFN_in" or [CA_out, FFN_in].
void SweepFileReader::ReadPair(const YamlNode& item, const Part& part) {
  const std::string field = fmt::format("{}.positions[{}]", part.field, part.positions.size());
  std::vector<std::string> sides;
  if (item.kind == Kind::kScalar) sides = absl::StrSplit(item.text, "->");
  for (const YamlNode& side : item.items) sides.push_back(side.kind == Kind::kScalar ? side.text : "");
  for (std::string& side : sides) absl::StripAsciiWhitespace(&side);
  if (sides.size() != 2 || sides[0].empty() || sides[1].empty()) {
    return Refuse(item.place,
                  fmt::format("positions: expected a pair such as \"CA_out -> FFN_in\", found {}", item.Describe()));
  }
  file_.places[field] = item.place;
  part.positions.push_back({sides[0], sides[1]});
}

void SweepFileReader::CheckPositionsStandAlone() {
  for (const char* key : {"method.input", "method.output"}) {
    if (const auto found = factor_places_.find(key); found != factor_places_.end()) {
      Refuse(found->second, fmt::format("factors: {} is set by 'positions' (line {}); keep one of the two",
                                        settings::ShortSettingName(key), positions_place_.line));
    }
  }
}

void SweepFileReader::ReadMethods(const YamlEntry& entry) {
  file_.places["spec.methods"] = entry.key_place;
  if (entry.value.kind != Kind::kList || entry.value.items.empty()) {
    return Refuse(entry.value.place,
                  fmt::format("methods: expected a list such as [{{kind: lora, rank: [4, 16]}}, {{kind: "
                              "bitfit}}], found {}",
                              entry.value.kind == Kind::kList ? "an empty list" : entry.value.Describe()));
  }
  for (const YamlNode& item : entry.value.items) ReadMethod(item);
}

void SweepFileReader::ReadMethod(const YamlNode& item) {
  if (item.kind != Kind::kMap) {
    return Refuse(item.place,
                  fmt::format("methods: expected a method's settings such as {{kind: lora, rank: [4, 16]}}, found {}",
                              item.Describe()));
  }
  const std::string field = fmt::format("spec.methods[{}]", file_.spec.methods.size());
  file_.places[field] = item.place;
  MethodSpec method;
  const Part part{field, "methods", method.factors, method.positions, &ResolveMethodKey};
  for (const YamlEntry& entry : item.entries) ReadMethodKey(entry, part, method);
  file_.spec.methods.push_back(std::move(method));
}

// A single value is fixed in the entry; a list of them is a factor nested in it.
void SweepFileReader::ReadMethodKey(const YamlEntry& entry, const Part& part, MethodSpec& method) {
  if (entry.key == "label") return ReadText(entry, part.field + ".label", method.label);
  if (entry.key == "positions") return ReadPositions(entry, part);
  const absl::StatusOr<std::string> full = part.resolve(entry.key);
  if (full.ok() && *full == kKindKey && entry.value.kind != Kind::kScalar) {
    return Refuse(entry.value.place,
                  fmt::format("methods: expected one kind of method, found {}; give each kind an entry of "
                              "its own",
                              entry.value.Describe()));
  }
  // Free names are for factors whose levels set several settings.
  if (!full.ok() && entry.value.kind != Kind::kMap) {
    std::vector<std::string> candidates = {"label", "positions"};
    for (const settings::SettingRule& rule : settings::SettingRules()) {
      candidates.push_back(rule.key.starts_with("method.") ? rule.key.substr(7) : rule.key);
    }
    const std::string nearest = settings::NearestName(entry.key, candidates);
    return Refuse(entry.key_place,
                  absl::IsInvalidArgument(full.status())
                      ? fmt::format("methods: {}", std::string(full.status().message()))
                      : fmt::format("'{}' is no setting of a method{}", entry.key,
                                    nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
  }
  const settings::SettingRule* rule = full.ok() ? settings::FindSettingRule(*full) : nullptr;
  // 'all' may be a value ("targets: all"); for choices it stands for each of them.
  const bool is_every_choice = rule != nullptr && !rule->choices.empty() && entry.value.text == "all";
  if (entry.value.kind != Kind::kScalar || is_every_choice) return ReadFactor(entry, part);
  file_.places[fmt::format("{}.settings[\"{}\"]", part.field, entry.key)] = entry.value.place;
  method.settings[entry.key] = entry.value.text;
}

void SweepFileReader::ReadPatterns(const YamlEntry& entry, const std::string& list,
                                   std::vector<CellPattern>& patterns) {
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
        Refuse(level.value.place, fmt::format("{}: expected one level of {}, found {}; repeat the entry for each level",
                                              entry.key, level.key, level.value.Describe()));
        continue;
      }
      file_.places[fmt::format("{}.levels[\"{}\"]", field, level.key)] = level.value.place;
      pattern[level.key] = level.value.text;
    }
  }
}

}  // namespace loupe::coordinator::plan
