// Embeddings of a set of pictures or texts: one row per item, float32 as networks give them.
//
// Law: values.size() == rows·cols, row-major. Plain data; safe to read from many threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"

namespace loupe::analysis::metrics {

struct FeatureMatrix {
  int64_t rows = 0;
  int64_t cols = 0;
  std::vector<float> values;

  std::span<const float> Row(int64_t row) const {
    return {values.data() + static_cast<size_t>(row * cols), static_cast<size_t>(cols)};
  }
};

// InvalidArgument, naming `what` ("generated", "reference"): the sizes do not agree, there are fewer than `least_rows`
// rows, or a value is NaN or infinite (the sentence names its row).
absl::Status CheckFeatures(const FeatureMatrix& features, const char* what, int64_t least_rows);

// The above for both sets, and that they have the same number of columns.
absl::Status CheckFeaturePair(const FeatureMatrix& generated, const FeatureMatrix& reference, int64_t least_rows);

}  // namespace loupe::analysis::metrics
