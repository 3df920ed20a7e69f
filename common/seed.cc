#include "common/seed.h"

#include <string>

#include "absl/strings/numbers.h"
#include "common/sha256.h"
#include "fmt/format.h"

namespace loupe {

uint64_t DeriveSeed(uint64_t sweep_seed, int64_t replicate, std::string_view stream) {
  const std::string hex = Sha256Hex(fmt::format("loupe-seed-v1\n{}\n{}\n{}", sweep_seed, replicate, stream));
  uint64_t seed = 0;
  (void)absl::SimpleHexAtoi(hex.substr(0, 16), &seed);
  return seed & ~(uint64_t{1} << 63);
}

}  // namespace loupe
