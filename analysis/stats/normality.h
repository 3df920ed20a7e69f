// Do the values look like a normal sample?
#pragma once

#include <vector>

namespace loupe::analysis::stats {

struct NormalityTest {
  double statistic = 0;
  double p = 0;  // both NaN where the test is not defined (see below)
};

// Shapiro & Wilk (1965) with Royston's weights and p-value (AS R94, Applied Statistics 44:547, 1995).
// Defined for 3 ≤ n ≤ 5000 values that are not all equal.
NormalityTest ShapiroWilk(std::vector<double> values);

// Anderson–Darling with estimated mean and variance: A*² = A²(1 + 0.75/n + 2.25/n²), p by D'Agostino & Stephens (1986)
// table 4.9. Defined for n ≥ 8 values that are not all equal; any size. `statistic` is A² itself.
NormalityTest AndersonDarling(std::vector<double> values);

}  // namespace loupe::analysis::stats
