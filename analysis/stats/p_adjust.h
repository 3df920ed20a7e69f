// Adjusting p-values for how many were looked at.
#pragma once

#include <vector>

namespace loupe::analysis::stats {

// Holm (1979) Scand. J. Statist. 6:65: step-down, controls the family-wise error under any dependence.
std::vector<double> AdjustHolm(const std::vector<double>& p);
// Benjamini & Hochberg (1995) JRSS B 57:289: step-up, controls the false discovery rate (independence, positive
// dependence).
std::vector<double> AdjustBenjaminiHochberg(const std::vector<double>& p);
// NaN entries stay NaN and are not counted among the tests, in both.

}  // namespace loupe::analysis::stats
