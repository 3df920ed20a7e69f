#include "worker/agent/backoff.h"

#include <algorithm>
#include <cstdint>

namespace loupe::worker::agent {

absl::Duration Backoff::Next() {
  const absl::Duration bound =
      std::min(options_.longest, options_.first * static_cast<double>(1ULL << std::min(failures_, 30)));
  ++failures_;
  const Token128 token = random_.NextToken();
  const double fraction = (token[0] * 256 + token[1]) / 65535.0;
  return bound * (0.5 + 0.5 * fraction);
}

}  // namespace loupe::worker::agent
