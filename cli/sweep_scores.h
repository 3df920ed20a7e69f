// What a sweep's trials scored, cell by cell: sums over all of them, so that a mean is never that of a part.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "loupe/v1/view.pb.h"

namespace loupe::cli {

struct ScoreSum {
  int64_t count = 0;
  double sum = 0;
  double sum_of_squares = 0;

  void Add(double value);
  void Add(const ScoreSum& other);
  // Both NaN without a score; the standard deviation (over n − 1) also with one.
  double Mean() const;
  double Deviation() const;
};

// Means of all trials at each pair of levels, row by row.
struct ScoreGrid {
  std::string row_factor, column_factor;
  std::vector<std::string> rows, columns;
  std::vector<ScoreSum> sums;

  const ScoreSum& at(size_t row, size_t column) const { return sums[row * columns.size() + column]; }
};

struct ScoredCell {
  // "input=SA_in output=FFN_in"
  std::string text;
  ScoreSum sum;
};

// Not thread-safe.
class SweepScores {
 public:
  // The next page of ViewService.GetTrialTable; only its primary score counts. INTERNAL for a column that does not have
  // an entry for each of the page's rows: it is another program's.
  absl::Status Add(const v1::GetTrialTableResponse& page);

  // Empty until a trial has the score.
  const std::string& title() const { return title_; }
  bool smaller_is_better() const { return smaller_is_better_; }
  // Results that have the score.
  int64_t results() const { return results_; }

  // By input and output where the sweep has both as factors, else by its first two; a single one has one column, "".
  // No rows where it has no factors.
  ScoreGrid Grid() const;
  // The best first, by their means; of equal ones the one that is first in the plan.
  std::vector<ScoredCell> Best(size_t most) const;

 private:
  struct Factor {
    std::string name;
    std::vector<std::string> levels;
  };
  struct Cell {
    std::vector<uint32_t> levels;
    ScoreSum sum;
  };
  std::vector<Factor> factors_;
  std::string title_;
  bool smaller_is_better_ = false;
  int64_t results_ = 0;
  std::map<uint32_t, Cell> cells_;
};

}  // namespace loupe::cli
