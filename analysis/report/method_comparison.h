// A sweep over methods, method by method: adjusted means over each one's own settings, whether they differ, each
// against a baseline, what its best setting does, and what it costs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/report/equal_parameters.h"
#include "analysis/stats/comparisons.h"
#include "analysis/stats/contrasts.h"
#include "analysis/stats/linear_model.h"
#include "analysis/stats/marginal_means.h"

namespace loupe::analysis::report {

// The cost that budgets are of.
inline constexpr const char* kParametersCost = "parameters";

// Beside the methods on the Pareto front, where people read.
inline constexpr const char* kParetoMark = "●";

enum class CostUnit { kNumber, kCount, kBytes };

// What a trial cost: one number per row of the table, NaN where it is not known.
struct CostColumn {
  std::string name;   // "parameters"
  std::string title;  // as a table's head
  CostUnit unit = CostUnit::kNumber;
  std::vector<double> values = {};
};

// As people read it: "24.0 MB", "1.20 M", "–" for NaN.
std::string FormatCost(double value, CostUnit unit);

struct MethodQuestion {
  std::string factor;    // whose levels are the methods; empty: no comparison is asked for
  std::string baseline;  // the method that the others are compared with; empty: the first one that has results
  std::vector<CostColumn> costs;
  ParameterBudget budget;  // compares methods at their settings of this size too
};

// Over the trials of a method that the analysis uses.
struct MethodCost {
  int64_t n = 0;                       // trials whose cost is known
  double mean = 0, low = 0, high = 0;  // smallest and largest; NaN when n is 0
};

struct MethodSummary {
  std::string method;
  int64_t trials = 0;                    // used
  int64_t settings = 0;                  // combinations of its own factors that occur; 1 when it has none
  std::vector<std::string> own_factors;  // in the model
  stats::MarginalMean mean;              // over its settings, each with the same weight
  std::vector<std::string> best_levels;  // of own_factors, where the model's mean is best; empty when it has none
  stats::MarginalMean best;              // NaN when there is none
  std::vector<MethodCost> costs;         // in the order of MethodQuestion::costs
  // Whether no other method is at least as good in every number of MethodComparison::pareto_of and better in one
  // (pareto_front.h). Nothing where one of its numbers is missing, and where pareto_of is empty.
  std::optional<bool> on_pareto_front = {};
};

struct MethodComparison {
  std::string factor, baseline;
  double df = 0, confidence = 0;
  std::vector<MethodSummary> methods;            // in level order; only methods with results
  stats::JointTest equal;                        // of all means being equal, as far as they can be compared
  std::vector<stats::Comparison> with_baseline;  // every other method less the baseline: Dunnett, Holm
  std::vector<std::string> cost_names, cost_titles;
  std::vector<CostUnit> cost_units;
  std::vector<std::string> pareto_of;  // "mean" and the costs that any method has; empty when there are no costs
  std::vector<std::string> sentences;  // what cannot be compared, and how to read the rest
  std::optional<EqualParameters> at_equal_parameters;  // only where asked for
};

// InvalidArgument: question.factor is not in the model, the baseline is none of its levels, or the budget is no
// positive number with a tolerance of at most 1.
absl::StatusOr<MethodComparison> CompareMethods(const stats::LinearModel& model, const MethodQuestion& question,
                                                bool smaller_is_better, double confidence);

}  // namespace loupe::analysis::report
