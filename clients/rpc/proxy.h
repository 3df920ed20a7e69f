// Which HTTP proxy, if any, a connection goes through.
//
// The variables are those of gRPC: grpc_proxy, https_proxy, http_proxy, the first that is set; without them there is
// none. Never through it go this machine's own addresses and what no_grpc_proxy, or else no_proxy or NO_PROXY, lists,
// separated by commas or blanks: names (with all below them), addresses, networks such as 10.0.0.0/8 or fd00::/8, each
// also with :port, and * for all.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace loupe::clients::rpc {

struct Proxy {
  std::string url;       // as gRPC wants it: http://[user:password@]host:port
  std::string shown;     // for messages: without user and password
  std::string variable;  // that named it
};

// The value of an environment variable, or "".
using Environment = std::function<std::string(const char*)>;
std::string FromEnvironment(const char* variable);

// For "host:port". Nothing if the connection is direct. INVALID_ARGUMENT: the proxy is not one over http://, which is
// all that gRPC knows (it would go without, silently).
absl::StatusOr<std::optional<Proxy>> ProxyFor(std::string_view address,
                                              const Environment& environment = FromEnvironment);

// Whether `host` (a name or an address, brackets allowed) is this machine by its loopback interface. Names other than
// localhost are looked up.
bool IsLoopback(std::string_view host);

// "127.0.0.1 (IPv4), ::1 (IPv6)": where a connection to "host:port" is tried. Empty if the name is not known. Looks the
// name up.
std::string AddressesOf(std::string_view address);

}  // namespace loupe::clients::rpc
