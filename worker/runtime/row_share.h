// A part of a batch's rows, where several processes share them out.
#pragma once

#include <cstdint>

namespace loupe::worker::runtime {

// Rows [first, first + count) of `total`. What is drawn for rows is drawn for all `total` of them, so that no row's
// numbers depend on who computes it. By default: all.
struct RowShare {
  int64_t first = 0;
  int64_t count = 1;
  int64_t total = 1;
  bool whole() const { return count == total; }
};

// Rank r's of `total` rows: shares differ by one row at most, and all shares in order are all rows in order. No share
// but the first ones has a row where there are fewer rows than ranks.
inline RowShare ShareOf(int64_t total, int64_t rank, int64_t ranks) {
  const auto bound = [&](int64_t r) { return (total * r + ranks - 1) / ranks; };
  return {bound(rank), bound(rank + 1) - bound(rank), total};
}

}  // namespace loupe::worker::runtime
