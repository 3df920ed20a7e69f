// A small seeded generator with a fixed sequence on every platform (the standard's distributions are not fixed), for
// permutations, random starts and run orders. Not for secrets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace loupe::analysis::stats {

// SplitMix64 (Steele, Lea & Flood 2014, OOPSLA).
class RandomStream {
 public:
  explicit RandomStream(uint64_t seed) : state_(seed) {}
  uint64_t Next();
  // Uniform in [0, bound), without bias (rejection). Precondition: bound > 0.
  uint64_t Below(uint64_t bound);
  // Uniform in [0, 1).
  double Uniform();
  // Standard normal (Box–Muller, one value per call).
  double Normal();

  // Fisher–Yates: every order equally likely.
  template <typename T>
  void Shuffle(std::vector<T>& values) {
    for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[Below(i)]);
  }

 private:
  uint64_t state_;
};

}  // namespace loupe::analysis::stats
