#include "analysis/stats/nesting.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

// Per level of `outer`: rows, and rows in which `factor` has a level.
struct Presence {
  std::vector<int64_t> rows, present;

  bool Exists(size_t level) const { return present[level] > 0; }
  bool IsAbsent(size_t level) const { return rows[level] > 0 && present[level] == 0; }
};

Presence PresenceOf(const Factor& factor, const Factor& outer) {
  Presence presence{std::vector<int64_t>(outer.levels.size()), std::vector<int64_t>(outer.levels.size())};
  for (size_t row = 0; row < outer.codes.size(); ++row) {
    if (outer.codes[row] == kMissingLevel) continue;
    const auto level = static_cast<size_t>(outer.codes[row]);
    ++presence.rows[level];
    presence.present[level] += factor.codes[row] != kMissingLevel;
  }
  return presence;
}

// What `factor` is at one level of `outer`.
Factor At(const Factor& factor, const Factor& outer, size_t level, std::string name) {
  Factor nested{.name = std::move(name),
                .levels = {},
                .codes = std::vector<int32_t>(factor.codes.size(), kMissingLevel),
                .nested_in = outer.name,
                .nested_level = outer.levels[level]};
  std::vector<int32_t> new_code(factor.levels.size(), kMissingLevel);
  const auto is_here = [&](size_t row) { return outer.codes[row] == static_cast<int32_t>(level); };
  for (size_t row = 0; row < factor.codes.size(); ++row) {
    if (is_here(row) && factor.codes[row] != kMissingLevel) new_code[static_cast<size_t>(factor.codes[row])] = 0;
  }
  for (size_t code = 0; code < new_code.size(); ++code) {
    if (new_code[code] == kMissingLevel) continue;
    new_code[code] = static_cast<int32_t>(nested.levels.size());
    nested.levels.push_back(factor.levels[code]);
  }
  const auto absent = static_cast<int32_t>(nested.levels.size());
  nested.levels.emplace_back(kAbsentLevel);
  for (size_t row = 0; row < factor.codes.size(); ++row) {
    if (outer.codes[row] == kMissingLevel) continue;
    if (!is_here(row)) {
      nested.codes[row] = absent;
    } else if (factor.codes[row] != kMissingLevel) {
      nested.codes[row] = new_code[static_cast<size_t>(factor.codes[row])];
    }
  }
  return nested;
}

Factor Nowhere(const Factor& factor, const Factor& outer) {
  Factor nested{.name = factor.name,
                .levels = {std::string(kAbsentLevel)},
                .codes = std::vector<int32_t>(factor.codes.size(), 0),
                .nested_in = outer.name,
                .nested_level = ""};
  for (size_t row = 0; row < outer.codes.size(); ++row) {
    if (outer.codes[row] == kMissingLevel) nested.codes[row] = kMissingLevel;
  }
  return nested;
}

}  // namespace

absl::StatusOr<DataTable> NestFactors(const DataTable& data, std::string_view outer, std::string_view apart) {
  LOUPE_ASSIGN_OR_RETURN(const size_t outer_index, data.FactorIndex(outer));
  const Factor& outer_factor = data.factors[outer_index];
  DataTable nested = data;
  nested.factors.clear();
  for (const Factor& factor : data.factors) {
    const Presence presence = PresenceOf(factor, outer_factor);
    std::vector<size_t> owners;
    bool is_absent_somewhere = false;
    for (size_t level = 0; level < outer_factor.levels.size(); ++level) {
      if (presence.Exists(level)) owners.push_back(level);
      is_absent_somewhere = is_absent_somewhere || presence.IsAbsent(level);
    }
    if (&factor == &outer_factor || factor.name == apart || !is_absent_somewhere) {
      nested.factors.push_back(factor);
      continue;
    }
    if (owners.empty()) {  // of a level that no row has yet
      nested.factors.push_back(Nowhere(factor, outer_factor));
      continue;
    }
    for (const size_t owner : owners) {
      nested.factors.push_back(
          At(factor, outer_factor, owner,
             owners.size() == 1 ? factor.name : fmt::format("{} in {}", factor.name, outer_factor.levels[owner])));
    }
  }
  return nested;
}

DataTable WithoutAbsentLevels(const DataTable& data) {
  DataTable observed = data;
  for (Factor& factor : observed.factors) {
    if (factor.nested_in.empty()) continue;
    factor.levels.pop_back();
    const auto absent = static_cast<int32_t>(factor.levels.size());
    std::replace(factor.codes.begin(), factor.codes.end(), absent, kMissingLevel);
    factor.nested_in.clear();
    factor.nested_level.clear();
  }
  return observed;
}

std::string NestedTermName(const std::string& term, const std::string& within) {
  if (within.empty()) return term;
  const std::string suffix = " in " + within, prefix = within + ".";
  for (const absl::string_view factor : absl::StrSplit(term, ':')) {
    if (absl::EndsWith(factor, suffix) || absl::StartsWith(factor, prefix)) return term;
  }
  return term + suffix;
}

bool HasNestedFactors(const DataTable& data) {
  return std::any_of(data.factors.begin(), data.factors.end(),
                     [](const Factor& factor) { return !factor.nested_in.empty(); });
}

}  // namespace loupe::analysis::stats
