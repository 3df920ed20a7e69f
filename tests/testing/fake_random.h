// Tokens that a seed determines.
#pragma once

#include <mutex>
#include <random>

#include "common/random_source.h"

namespace loupe::testing {

// Thread-safe.
class FakeRandom final : public RandomSource {
 public:
  explicit FakeRandom(uint64_t seed = 1) : engine_(seed) {}

  Token128 NextToken() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    Token128 token{};
    for (size_t i = 0; i < token.size(); i += 8) {
      uint64_t bits = engine_();
      for (size_t j = 0; j < 8; ++j, bits >>= 8) token[i + j] = static_cast<uint8_t>(bits);
    }
    return token;
  }

 private:
  std::mutex mutex_;
  std::mt19937_64 engine_;
};

}  // namespace loupe::testing
