// Sets of features for the metrics' tests.
#pragma once

#include <cstdint>
#include <fstream>
#include <random>
#include <string>

#include "analysis/metrics/feature_matrix.h"
#include "nlohmann/json.hpp"

namespace loupe::analysis::metrics {

inline nlohmann::json References(const std::string& name = "metrics.json") {
  std::ifstream file("tests/analysis/metrics/reference/" + name);
  return nlohmann::json::parse(file);
}

inline FeatureMatrix Matrix(const nlohmann::json& values, int64_t rows, int64_t cols) {
  FeatureMatrix matrix{rows, cols, {}};
  for (const auto& value : values) matrix.values.push_back(value.get<float>());
  return matrix;
}

inline FeatureMatrix Gaussian(int64_t rows, int64_t cols, double mean, double sd, uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal(mean, sd);
  FeatureMatrix matrix{rows, cols, {}};
  for (int64_t i = 0; i < rows * cols; ++i) matrix.values.push_back(static_cast<float>(normal(generator)));
  return matrix;
}

inline FeatureMatrix Rows(const FeatureMatrix& from, int64_t begin, int64_t end) {
  return {end - begin, from.cols, {from.values.begin() + begin * from.cols, from.values.begin() + end * from.cols}};
}

}  // namespace loupe::analysis::metrics
