#include "analysis/stats/p_adjust.h"

#include <algorithm>
#include <cmath>

namespace loupe::analysis::stats {
namespace {

std::vector<size_t> AscendingOrder(const std::vector<double>& p) {
  std::vector<size_t> order;
  for (size_t i = 0; i < p.size(); ++i) {
    if (!std::isnan(p[i])) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  return order;
}

}  // namespace

std::vector<double> AdjustHolm(const std::vector<double>& p) {
  std::vector<double> adjusted = p;
  const std::vector<size_t> order = AscendingOrder(p);
  double largest = 0;
  for (size_t rank = 0; rank < order.size(); ++rank) {
    largest = std::max(largest, p[order[rank]] * static_cast<double>(order.size() - rank));
    adjusted[order[rank]] = std::min(1.0, largest);
  }
  return adjusted;
}

std::vector<double> AdjustBenjaminiHochberg(const std::vector<double>& p) {
  std::vector<double> adjusted = p;
  const std::vector<size_t> order = AscendingOrder(p);
  double smallest = 1;
  for (size_t rank = order.size(); rank-- > 0;) {
    smallest = std::min(smallest, p[order[rank]] * static_cast<double>(order.size()) / static_cast<double>(rank + 1));
    adjusted[order[rank]] = smallest;
  }
  return adjusted;
}

}  // namespace loupe::analysis::stats
