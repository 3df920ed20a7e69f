#include "common/random_source.h"

#include <sys/random.h>

#include <cerrno>
#include <cstdlib>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "fmt/format.h"

namespace loupe {
namespace {

class KernelRandom final : public RandomSource {
 public:
  Token128 NextToken() override {
    Token128 token{};
    size_t filled = 0;
    while (filled < token.size()) {
      const ssize_t got = getrandom(token.data() + filled, token.size() - filled, 0);
      if (got < 0 && errno != EINTR) std::abort();
      if (got > 0) filled += static_cast<size_t>(got);
    }
    return token;
  }
};

}  // namespace

RandomSource& SystemRandom() {
  static KernelRandom source;
  return source;
}

std::string ToHex(const Token128& token) {
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(token.data()), token.size()));
}

std::optional<Token128> TokenFromHex(std::string_view hex) {
  Token128 token{};
  if (hex.size() != 2 * token.size()) return std::nullopt;
  for (size_t i = 0; i < hex.size(); ++i) {
    const char c = hex[i];
    if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f')) return std::nullopt;
    const int digit = c <= '9' ? c - '0' : c - 'a' + 10;
    token[i / 2] = static_cast<uint8_t>(token[i / 2] << 4 | digit);
  }
  return token;
}

std::string ToUuid4(const Token128& token) {
  Token128 bits = token;
  bits[6] = static_cast<uint8_t>((bits[6] & 0x0f) | 0x40);
  bits[8] = static_cast<uint8_t>((bits[8] & 0x3f) | 0x80);
  const std::string hex = ToHex(bits);
  return fmt::format("{}-{}-{}-{}-{}", hex.substr(0, 8), hex.substr(8, 4), hex.substr(12, 4), hex.substr(16, 4),
                     hex.substr(20));
}

}  // namespace loupe
