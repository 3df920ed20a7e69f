// Tests of several groups of values where the ordinary one-way F is in doubt, and tests of its equal-variance
// assumption.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/data_table.h"

namespace loupe::analysis::stats {

using Groups = std::vector<std::vector<double>>;

struct GroupTest {
  double statistic = 0;  // F, or H for Kruskal–Wallis
  double df1 = 0;
  double df2 = 0;  // NaN where the test has one
  double p = 0;
};

// Values of each level of `factor` that has any, about the table's origin (differences are exact; add response_origin
// for values). NotFound: no such factor.
absl::StatusOr<Groups> GroupValues(const DataTable& data, std::string_view factor, bool include_stopped_early = false);

// All return InvalidArgument for fewer than two groups, or groups too small or too equal for the test (the sentence
// says).

// Welch (1951) Biometrika 38:330: means under unequal variances. Needs n ≥ 2 and some spread in every group.
absl::StatusOr<GroupTest> WelchAnova(const Groups& groups);
// Kruskal & Wallis (1952) JASA 47:583, with the correction for ties; χ² approximation.
absl::StatusOr<GroupTest> KruskalWallis(const Groups& groups);
// The same of every factor of a table: its response is ranked once, and anew only for a factor that leaves rows out.
class RankTests {
 public:
  RankTests(const DataTable& data, bool include_stopped_early);  // `data` must outlive this
  // `groups` are the factor's GroupValues.
  absl::StatusOr<GroupTest> KruskalWallis(std::string_view factor, const Groups& groups) const;

 private:
  const DataTable& data_;
  bool include_stopped_early_;
  int64_t used_ = 0;
  std::vector<double> rank_of_row_;  // 0 for rows that are not used
  double tie_sum_ = 0;
};
// Levene (1960): one-way F on |y − group mean|.
absl::StatusOr<GroupTest> Levene(const Groups& groups);
// Brown & Forsythe (1974) JASA 69:364: the same about group medians; robust to skew, the one to prefer.
absl::StatusOr<GroupTest> BrownForsythe(const Groups& groups);

}  // namespace loupe::analysis::stats
