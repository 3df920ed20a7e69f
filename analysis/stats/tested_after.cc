#include "analysis/stats/tested_after.h"

namespace loupe::analysis::stats {

std::vector<size_t> TestedAfter(const std::vector<ModelTerm>& terms, size_t t, SumOfSquares type) {
  std::vector<size_t> after;
  for (size_t u = 0; u < terms.size(); ++u) {
    if (u == t) continue;
    const bool in = type == SumOfSquares::kType1   ? u < t
                    : type == SumOfSquares::kType2 ? !IsContained(terms[t], terms[u])
                                                   : true;
    if (in) after.push_back(u);
  }
  return after;
}

}  // namespace loupe::analysis::stats
