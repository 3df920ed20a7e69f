#include "analysis/stats/estimability_reasons.h"

#include <algorithm>

#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::stats {
namespace {

std::vector<size_t> TermPositions(const CellTable& cells, const ModelTerm& term) {
  std::vector<size_t> positions;
  for (const size_t factor : term) {
    positions.push_back(
        static_cast<size_t>(std::find(cells.factors.begin(), cells.factors.end(), factor) - cells.factors.begin()));
  }
  return positions;
}

}  // namespace

const std::string& LevelName(const LinearModel& model, size_t position, int32_t level) {
  const CellTable& cells = model.cells();
  const auto code = cells.used_levels[position][static_cast<size_t>(level)];
  return model.data().factors[cells.factors[position]].levels[static_cast<size_t>(code)];
}

const std::string& EstimabilityReasons::FactorName(size_t position) const {
  return model_.data().factors[model_.cells().factors[position]].name;
}

bool EstimabilityReasons::HasMainEffect(size_t position) const {
  const std::vector<ModelTerm>& terms = model_.matrix().terms();
  ModelTerm term = {model_.cells().factors[position]};
  if (const CellNesting nesting = model_.cells().NestingOf(position); nesting.nested) {
    term.push_back(model_.cells().factors[nesting.outer]);
    std::sort(term.begin(), term.end());
  }
  return std::find(terms.begin(), terms.end(), term) != terms.end();
}

bool EstimabilityReasons::IsNestedIn(size_t inner, size_t outer) const {
  const CellNesting nesting = model_.cells().NestingOf(inner);
  return nesting.nested && nesting.outer == outer;
}

bool EstimabilityReasons::CanExist(const std::vector<size_t>& positions, const std::vector<int32_t>& key) const {
  for (size_t i = 0; i < positions.size(); ++i) {
    const CellNesting nesting = model_.cells().NestingOf(positions[i]);
    for (size_t j = 0; j < positions.size() && nesting.nested; ++j) {
      if (positions[j] == nesting.outer && (key[j] == nesting.outer_level) == (key[i] == nesting.absent)) return false;
    }
  }
  return true;
}

const ConnectedLevels& EstimabilityReasons::Connected(size_t first, size_t second) {
  const auto [entry, is_new] = connected_.try_emplace({first, second});
  if (is_new) entry->second = ConnectLevels(model_.cells(), first, second);
  return entry->second;
}

std::string EstimabilityReasons::MissingCombination(const Point& point, const std::vector<bool>& varying) {
  const CellTable& cells = model_.cells();
  const std::vector<ModelTerm>& terms = model_.matrix().terms();
  for (size_t t = 0; t < terms.size(); ++t) {
    const std::vector<size_t> positions = TermPositions(cells, terms[t]);
    if (positions.size() < 2) continue;
    if (std::none_of(positions.begin(), positions.end(), [&](size_t p) { return varying[p]; })) continue;
    const auto [entry, is_new] = occurring_.try_emplace(t);
    std::set<std::vector<int32_t>>& occurring = entry->second;
    std::vector<int32_t> key(positions.size());
    for (size_t cell = 0; is_new && cell < cells.cells(); ++cell) {
      for (size_t i = 0; i < positions.size(); ++i) key[i] = cells.codes[positions[i]][cell];
      occurring.insert(key);
    }
    // Every combination that the point takes in, until one is missing: at most one more than there are.
    for (size_t i = 0; i < positions.size(); ++i) key[i] = std::max(point[positions[i]], 0);
    for (size_t at = 1; at > 0;) {
      if (!occurring.contains(key) && CanExist(positions, key)) {
        std::vector<std::string> parts;
        for (size_t i = 0; i < positions.size(); ++i) {
          parts.push_back(fmt::format("{} = {}", FactorName(positions[i]), LevelName(model_, positions[i], key[i])));
        }
        return fmt::format("no trial has {}, and the model has {}", fmt::join(parts, " with "),
                           TermName(terms[t], model_.data()));
      }
      for (at = positions.size(); at > 0; --at) {
        const size_t position = positions[at - 1];
        if (point[position] != ModelMatrix::kAveraged) continue;
        if (++key[at - 1] < static_cast<int32_t>(cells.levels(position))) break;
        key[at - 1] = 0;
      }
    }
  }
  return "";
}

std::string EstimabilityReasons::GroupsApart(const Point& first, const Point& second,
                                             const std::vector<bool>& varying) {
  for (size_t a = 0; a < varying.size(); ++a) {
    if (!varying[a] || first[a] == ModelMatrix::kAveraged || second[a] == ModelMatrix::kAveraged) continue;
    for (size_t b = 0; b < varying.size(); ++b) {
      if (a == b || !HasMainEffect(b) || IsNestedIn(a, b) || IsNestedIn(b, a)) continue;
      const ConnectedLevels& connected = Connected(a, b);
      if (connected.first[static_cast<size_t>(first[a])] == connected.first[static_cast<size_t>(second[a])]) continue;
      return fmt::format(
          "{0} and {1} never share a level of {3}, not even by way of other levels of {2}, so the difference "
          "may come from either factor",
          LevelName(model_, a, first[a]), LevelName(model_, a, second[a]), FactorName(a), FactorName(b));
    }
  }
  return "";
}

std::string EstimabilityReasons::AnyGroups(const Point& point) {
  for (size_t a = 0; a < point.size(); ++a) {
    for (size_t b = a + 1; b < point.size(); ++b) {
      if (IsNestedIn(a, b) || IsNestedIn(b, a)) continue;
      // Within one level of the outer factor means are over the settings that occur.
      if (model_.cells().NestingOf(a).nested && model_.cells().NestingOf(b).nested) continue;
      if (!HasMainEffect(a) || !HasMainEffect(b) || Connected(a, b).groups < 2) continue;
      const ConnectedLevels& connected = Connected(a, b);
      if (point[a] == ModelMatrix::kAveraged || point[b] == ModelMatrix::kAveraged) {
        return fmt::format(
            "it averages over levels of {} and {} that fall into {} groups which never meet; differences within "
            "a group can be told",
            FactorName(a), FactorName(b), connected.groups);
      }
      if (connected.first[static_cast<size_t>(point[a])] == connected.second[static_cast<size_t>(point[b])]) continue;
      return fmt::format("{} = {} and {} = {} belong to groups of levels that never meet", FactorName(a),
                         LevelName(model_, a, point[a]), FactorName(b), LevelName(model_, b, point[b]));
    }
  }
  return "";
}

std::string EstimabilityReasons::NotTold() const {
  return fmt::format("the trials cannot tell it from other terms of {}", model_.formula());
}

std::string EstimabilityReasons::OfMean(const Point& point) {
  std::vector<bool> own;
  for (const int32_t level : point) own.push_back(level != ModelMatrix::kAveraged);
  std::string reason = MissingCombination(point, own);
  if (reason.empty()) reason = MissingCombination(point, std::vector<bool>(point.size(), true));
  if (reason.empty()) reason = AnyGroups(point);
  return reason.empty() ? NotTold() : reason;
}

std::string EstimabilityReasons::OfDifference(const Point& first, const Point& second) {
  std::vector<bool> varying;
  for (size_t i = 0; i < first.size(); ++i) varying.push_back(first[i] != second[i]);
  std::string reason = MissingCombination(first, varying);
  if (reason.empty()) reason = MissingCombination(second, varying);
  if (reason.empty()) reason = GroupsApart(first, second, varying);
  return reason.empty() ? NotTold() : reason;
}

std::string EstimabilityReasons::OfSum(const std::vector<Point>& points) {
  if (points.size() == 2) return OfDifference(points[0], points[1]);
  if (points.size() == 1) return OfMean(points[0]);
  std::vector<bool> varying(model_.cells().factors.size(), false);
  for (const Point& point : points) {
    for (size_t i = 0; i < varying.size(); ++i) varying[i] = varying[i] || point[i] != points.front()[i];
  }
  for (const Point& point : points) {
    if (std::string reason = MissingCombination(point, varying); !reason.empty()) return reason;
  }
  for (size_t i = 0; i < points.size(); ++i) {
    for (size_t j = i + 1; j < points.size(); ++j) {
      if (std::string reason = GroupsApart(points[i], points[j], varying); !reason.empty()) return reason;
    }
  }
  return NotTold();
}

}  // namespace loupe::analysis::stats
