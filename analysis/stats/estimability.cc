#include "analysis/stats/estimability.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::stats {
namespace {

using Eigen::Index;

size_t PositionOf(const CellTable& cells, size_t factor) {
  return static_cast<size_t>(std::find(cells.factors.begin(), cells.factors.end(), factor) - cells.factors.begin());
}

// Those with columns of their own: all but what another is nested in.
std::vector<size_t> CodedFactors(const CellTable& cells, const ModelTerm& term) {
  std::vector<size_t> coded = term;
  std::erase_if(coded, [&](size_t factor) { return cells.IsImplied(factor, term); });
  return coded;
}

std::vector<size_t> MarginsInModel(const ModelMatrix& model, const ModelTerm& term) {
  std::vector<size_t> margins;
  for (size_t u = 0; u < model.terms().size(); ++u) {
    if (model.terms()[u] != term && IsContained(model.terms()[u], term)) margins.push_back(u);
  }
  return margins;
}

// Degrees of freedom of `term` after the intercept and the terms `before`.
Index RankAfter(const ModelReduction& reduction, size_t term, const std::vector<size_t>& before) {
  return reduction.Test(term, before).rank;
}

// The fewest terms that already take something from `term`: first those that do it alone, then one after another.
std::vector<size_t> FindPartners(const ModelMatrix& model, const ModelReduction& reduction, size_t term,
                                 const std::vector<size_t>& tested_after, Index own_df) {
  const ModelTerm& own = model.terms()[term];
  const std::vector<size_t> margins = MarginsInModel(model, own);
  std::vector<size_t> partners;
  std::vector<size_t> others;
  for (const size_t u : tested_after) {
    if (!IsContained(model.terms()[u], own)) others.push_back(u);
  }
  std::stable_sort(others.begin(), others.end(),
                   [&](size_t a, size_t b) { return model.terms()[a].size() < model.terms()[b].size(); });
  const auto contains_partner = [&](size_t u) {
    return std::any_of(partners.begin(), partners.end(),
                       [&](size_t p) { return IsContained(model.terms()[p], model.terms()[u]); });
  };
  for (const size_t u : others) {
    if (contains_partner(u)) continue;
    std::vector<size_t> before = margins;
    for (const size_t margin : MarginsInModel(model, model.terms()[u])) before.push_back(margin);
    before.push_back(u);
    if (RankAfter(reduction, term, before) < own_df) partners.push_back(u);
  }
  if (!partners.empty()) return partners;
  std::vector<size_t> before = margins;
  Index left = own_df;
  for (const size_t u : others) {
    before.push_back(u);
    const Index now = RankAfter(reduction, term, before);
    if (now < left) partners.push_back(u);
    left = now;
  }
  return partners;
}

size_t OccurringCombinations(const CellTable& cells, const ModelTerm& term) {
  std::set<std::vector<int32_t>> seen;
  for (size_t cell = 0; cell < cells.cells(); ++cell) {
    std::vector<int32_t> key;
    bool exists = true;
    for (const size_t factor : term) {
      const size_t position = PositionOf(cells, factor);
      key.push_back(cells.codes[position][cell]);
      const CellNesting nesting = cells.NestingOf(position);
      exists = exists && !(nesting.nested && key.back() == nesting.absent);
    }
    if (exists) seen.insert(std::move(key));
  }
  return seen.size();
}

std::string Braced(const std::vector<std::string>& names) { return fmt::format("{{{}}}", fmt::join(names, ", ")); }

std::string GroupSentence(const DataTable& data, const CellTable& cells, size_t own, size_t other) {
  const std::vector<LevelGroup> groups = ConnectedLevelGroups(data, cells, own, other);
  if (groups.size() < 2) return "";
  std::vector<std::string> texts;
  for (const LevelGroup& group : groups) {
    const bool absent = !data.factors[own].nested_in.empty() && group.first_levels.size() == 1 &&
                        group.first_levels.front() == kAbsentLevel;
    if (!absent) texts.push_back(Braced(group.first_levels));
  }
  if (texts.size() < 2) return "";
  return fmt::format(
      " The levels of {0} fall into groups that never share a level of {1}: {2}; a difference between "
      "these groups may come from either factor.",
      data.factors[own].name, data.factors[other].name, fmt::join(texts, ", "));
}

}  // namespace

ConnectedLevels ConnectLevels(const CellTable& cells, size_t first, size_t second) {
  const size_t first_count = cells.levels(first);
  std::vector<size_t> parent(first_count + cells.levels(second));
  std::iota(parent.begin(), parent.end(), size_t{0});
  const auto root = [&](size_t node) {
    while (parent[node] != node) node = parent[node] = parent[parent[node]];
    return node;
  };
  for (size_t cell = 0; cell < cells.cells(); ++cell) {
    const size_t x = root(static_cast<size_t>(cells.codes[first][cell]));
    const size_t y = root(first_count + static_cast<size_t>(cells.codes[second][cell]));
    parent[std::max(x, y)] = std::min(x, y);
  }
  ConnectedLevels result;
  std::map<size_t, size_t> number;
  for (size_t node = 0; node < parent.size(); ++node) {
    const size_t group = number.try_emplace(root(node), number.size()).first->second;
    (node < first_count ? result.first : result.second).push_back(group);
  }
  result.groups = number.size();
  return result;
}

std::vector<LevelGroup> ConnectedLevelGroups(const DataTable& data, const CellTable& cells, size_t first,
                                             size_t second) {
  const size_t a = PositionOf(cells, first), b = PositionOf(cells, second);
  const ConnectedLevels connected = ConnectLevels(cells, a, b);
  std::vector<LevelGroup> groups(connected.groups);
  const auto name = [&](size_t factor, size_t position, size_t level) {
    return data.factors[factor].levels[static_cast<size_t>(cells.used_levels[position][level])];
  };
  for (size_t i = 0; i < connected.first.size(); ++i)
    groups[connected.first[i]].first_levels.push_back(name(first, a, i));
  for (size_t i = 0; i < connected.second.size(); ++i)
    groups[connected.second[i]].second_levels.push_back(name(second, b, i));
  return groups;
}

Estimability ExplainLostDegrees(const DataTable& data, const CellTable& cells, const ModelMatrix& model,
                                const ModelReduction& reduction, size_t term, const std::vector<size_t>& tested_after,
                                Index df) {
  Estimability result;
  const ModelTerm& own = model.terms()[term];
  const Index nominal = model.columns()[term].nominal_df;
  if (df >= nominal) return result;
  const Index own_df = RankAfter(reduction, term, MarginsInModel(model, own));
  result.lost_to_empty_cells = nominal - own_df;
  result.lost_to_aliasing = own_df - df;
  const std::string name = TermName(own, data);
  if (result.lost_to_empty_cells > 0) {
    double possible = 1;
    for (const size_t factor : CodedFactors(cells, own))
      possible *= static_cast<double>(cells.own_levels(PositionOf(cells, factor)));
    result.note +=
        fmt::format("{} of {} degrees of freedom are lost to empty cells: {} of {} combinations of {} occur.",
                    result.lost_to_empty_cells, nominal, OccurringCombinations(cells, own), possible, name);
  }
  if (result.lost_to_aliasing > 0) {
    result.partners = FindPartners(model, reduction, term, tested_after, own_df);
    std::vector<std::string> names;
    for (const size_t u : result.partners) names.push_back(TermName(model.terms()[u], data));
    if (!result.note.empty()) result.note += ' ';
    result.note += fmt::format("{} of {} degrees of freedom are aliased with {}: the data cannot tell them apart.",
                               result.lost_to_aliasing, own_df, fmt::join(names, " and "));
    for (const size_t u : result.partners) {
      const std::vector<size_t> coded = CodedFactors(cells, own), others = CodedFactors(cells, model.terms()[u]);
      if (coded.size() == 1 && others.size() == 1) result.note += GroupSentence(data, cells, coded[0], others[0]);
    }
  }
  result.note += df == 0 ? fmt::format(
                               " Not estimable: leave {} or its partners out, or run combinations that separate "
                               "them.",
                               name)
                         : fmt::format(" The test is of the {} that are left.", df);
  return result;
}

}  // namespace loupe::analysis::stats
