// Unpredictable bytes for tokens and ids, injected so that the simulator can replay a run.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace loupe {

using Token128 = std::array<uint8_t, 16>;

// Thread-safe.
class RandomSource {
 public:
  virtual ~RandomSource() = default;
  virtual Token128 NextToken() = 0;
};

// The kernel's random bytes (getrandom); lives for the whole process. Aborts if the kernel cannot give any.
RandomSource& SystemRandom();

// 32 lower-case hexadecimal digits.
std::string ToHex(const Token128& token);

// Nothing unless `hex` is what ToHex gives.
std::optional<Token128> TokenFromHex(std::string_view hex);

// A version-4 UUID (RFC 9562 §5.4) made from `token`'s bits.
std::string ToUuid4(const Token128& token);

}  // namespace loupe
