// Inputs of the kernels' tests.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace loupe::worker::kernels {

// Normal, the same for the same seed.
inline std::vector<float> NormalNumbers(int64_t count, uint64_t seed, double mean = 0, double spread = 1) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal(mean, spread);
  std::vector<float> numbers(static_cast<size_t>(count));
  for (float& number : numbers) number = static_cast<float>(normal(engine));
  return numbers;
}

}  // namespace loupe::worker::kernels
