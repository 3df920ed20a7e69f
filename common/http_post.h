// One POST to somebody else's server.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace loupe {

// "https://host:port/path?query" in its parts; what is not said of the port follows from the scheme.
struct HttpUrl {
  bool tls = false;
  // Of an IPv6 address without its brackets.
  std::string host;
  int port = 0;
  // "/path?query"
  std::string target;
};

// INVALID_ARGUMENT for anything else, with a user's name or password in it, too: those would be shown wherever it is.
absl::StatusOr<HttpUrl> ParseHttpUrl(std::string_view url);

struct HttpPost : HttpUrl {
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  // Also addresses of this machine, of private networks and the like. Otherwise only what anybody can reach: who may
  // name a webhook must not have a way into the network around the coordinator.
  bool allow_private = false;
};

// The answer's status. No redirects are followed, no proxy is used; TLS is verified against the system's authorities.
// PERMISSION_DENIED for an address that is not allowed; UNAVAILABLE, saying why, when no answer came within `timeout`.
absl::StatusOr<int> Post(const HttpPost& post, absl::Duration timeout);

// "10.0.0.1" is not, "93.184.216.34" is. False for what is no address.
bool IsPublicAddress(const std::string& address);

}  // namespace loupe
