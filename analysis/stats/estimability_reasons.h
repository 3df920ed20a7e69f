// Why a mean or a difference of means is not estimable, in a sentence that a reader can act on.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "analysis/stats/estimability.h"
#include "analysis/stats/linear_model.h"

namespace loupe::analysis::stats {

// Name of a level of the factor at `position` of model.cells().factors.
const std::string& LevelName(const LinearModel& model, size_t position, int32_t level);

// Keeps what it finds out about pairs of factors and about interactions, so that asking for thousands of differences
// costs one look at the cells each. Not for several threads at once; `model` must outlive it.
class EstimabilityReasons {
 public:
  explicit EstimabilityReasons(const LinearModel& model) : model_(model) {}

  // Points of the reference grid: per factor of model.cells().factors its level position, or ModelMatrix::kAveraged.
  using Point = std::vector<int32_t>;

  std::string OfMean(const Point& point);
  std::string OfDifference(const Point& first, const Point& second);
  // Of any other sum of means: what is known of its points.
  std::string OfSum(const std::vector<Point>& points);

 private:
  const ConnectedLevels& Connected(size_t first, size_t second);
  // "no trial has a = 2 with b = x, and the model has a:b", for an interaction with one of the factors `varying`; or
  // "".
  std::string MissingCombination(const Point& point, const std::vector<bool>& varying);
  // For levels of factors that fall into groups; "" when they do not.
  std::string GroupsApart(const Point& first, const Point& second, const std::vector<bool>& varying);
  std::string AnyGroups(const Point& point);
  std::string NotTold() const;
  bool HasMainEffect(size_t position) const;
  bool IsNestedIn(size_t inner, size_t outer) const;
  // False for a level of a nested factor where it does not exist.
  bool CanExist(const std::vector<size_t>& positions, const std::vector<int32_t>& key) const;
  const std::string& FactorName(size_t position) const;

  const LinearModel& model_;
  std::map<std::pair<size_t, size_t>, ConnectedLevels> connected_;
  std::map<size_t, std::set<std::vector<int32_t>>> occurring_;  // by term: combinations of its levels
};

}  // namespace loupe::analysis::stats
