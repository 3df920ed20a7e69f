// The Pareto front of rows of numbers: the rows that no other row beats.
#pragma once

#include <optional>
#include <vector>

namespace loupe::analysis::report {

// Per row of numbers, of which less is always better (negate the others): whether it is on the front, that is, no other
// row is at least as good in every number and better in one. Equal rows are on it together, or none of them is.
// Numbers within 1e-9 of the larger one are equal: means of the same values added up in another order are.
// Nothing for a row with a number that is not finite: it is not judged, and beats no other. All rows are equally long.
std::vector<std::optional<bool>> ParetoFront(const std::vector<std::vector<double>>& rows);

}  // namespace loupe::analysis::report
