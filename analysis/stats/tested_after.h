// Which terms are in the model when a term is tested: the whole difference between the types of sums of squares.
#pragma once

#include <vector>

#include "analysis/stats/anova.h"
#include "analysis/stats/model_formula.h"

namespace loupe::analysis::stats {

// Indices of the terms that term `t` is adjusted for (see anova.h).
std::vector<size_t> TestedAfter(const std::vector<ModelTerm>& terms, size_t t, SumOfSquares type);

}  // namespace loupe::analysis::stats
