#include "clients/rpc/proxy.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "common/text.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::clients::rpc {
namespace {

// IPv4 as its IPv6 form ::ffff:a.b.c.d, so that both are compared in one way.
using IpAddress = std::array<unsigned char, 16>;
constexpr int kIpv4Bits = 96;

std::string_view WithoutBrackets(std::string_view host) {
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return host;
}

std::optional<IpAddress> ParseIp(std::string_view host) {
  const std::string text(WithoutBrackets(host));
  IpAddress ip{};
  if (inet_pton(AF_INET6, text.c_str(), ip.data()) == 1) return ip;
  ip[10] = ip[11] = 0xFF;
  if (inet_pton(AF_INET, text.c_str(), ip.data() + 12) == 1) return ip;
  return std::nullopt;
}

bool SharePrefix(const IpAddress& a, const IpAddress& b, int bits) {
  for (int i = 0; i < bits; ++i) {
    const auto byte = static_cast<size_t>(i / 8);
    if (((a[byte] ^ b[byte]) >> (7 - i % 8) & 1) != 0) return false;
  }
  return true;
}

bool IsLoopbackIp(const IpAddress& ip) {
  const IpAddress any{}, v4_any = *ParseIp("0.0.0.0");  // connecting there reaches this machine too
  return SharePrefix(ip, *ParseIp("127.0.0.0"), kIpv4Bits + 8) || ip == *ParseIp("::1") || ip == any || ip == v4_any;
}

// The addresses of a name; empty if it has none.
std::vector<std::string> Lookup(const std::string& name) {
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(name.c_str(), nullptr, &wanted, &found) != 0) return {};
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  std::vector<std::string> addresses;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    std::array<char, NI_MAXHOST> text{};
    if (getnameinfo(one->ai_addr, one->ai_addrlen, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) == 0)
      addresses.emplace_back(text.data());
  }
  return addresses;
}

struct HostPort {
  std::string host;  // lower case, without brackets
  std::string port;  // may be empty
};

HostPort Split(std::string_view address) {
  HostPort parts;
  const size_t colon = address.rfind(':');
  const bool bare_ipv6 = !address.starts_with('[') && address.find(':') != colon;
  if (colon == std::string_view::npos || bare_ipv6 || address.ends_with(']')) {
    parts.host = std::string(WithoutBrackets(address));
  } else {
    parts.host = std::string(WithoutBrackets(address.substr(0, colon)));
    parts.port = std::string(address.substr(colon + 1));
  }
  parts.host = absl::AsciiStrToLower(parts.host);
  return parts;
}

// One entry of no_proxy.
bool Covers(std::string_view entry, const HostPort& target) {
  if (entry == "*") return true;
  const std::optional<IpAddress> ip = ParseIp(target.host);
  if (const size_t slash = entry.find('/'); slash != std::string_view::npos) {
    const std::string network_text(entry.substr(0, slash));
    const std::optional<IpAddress> network = ParseIp(network_text);
    int bits = 0;
    if (!ip || !network || !absl::SimpleAtoi(std::string(entry.substr(slash + 1)), &bits)) return false;
    if (network_text.find(':') == std::string::npos) bits += kIpv4Bits;
    return bits >= 0 && bits <= 128 && SharePrefix(*ip, *network, bits);
  }
  HostPort named = Split(entry);
  if (!named.port.empty() && named.port != target.port) return false;
  if (const std::optional<IpAddress> other = ParseIp(named.host)) return ip && *ip == *other;
  std::string_view name = named.host;
  if (name.starts_with("*.")) name.remove_prefix(1);
  if (name.starts_with('.')) name.remove_prefix(1);
  if (name.empty() || ip) return false;
  std::string_view host = target.host;
  if (host.ends_with('.')) host.remove_suffix(1);
  return host == name || (host.ends_with(name) && host[host.size() - name.size() - 1] == '.');
}

bool IsExcepted(const HostPort& target, const Environment& environment) {
  std::string list;
  for (const char* variable : {"no_grpc_proxy", "no_proxy", "NO_PROXY"}) {
    if (list = environment(variable); !list.empty()) break;
  }
  size_t at = 0;
  while (at < list.size()) {
    const size_t end = std::min(list.find_first_of(", \t", at), list.size());
    if (end > at && Covers(std::string_view(list).substr(at, end - at), target)) return true;
    at = end + 1;
  }
  return false;
}

}  // namespace

std::string FromEnvironment(const char* variable) {
  const char* value = std::getenv(variable);
  return value == nullptr ? "" : value;
}

absl::StatusOr<std::optional<Proxy>> ProxyFor(std::string_view address, const Environment& environment) {
  Proxy proxy;
  for (const char* variable : {"grpc_proxy", "https_proxy", "http_proxy"}) {
    proxy.variable = variable;
    if (proxy.url = environment(variable); !proxy.url.empty()) break;
  }
  if (proxy.url.empty()) return std::nullopt;
  const HostPort target = Split(address);
  if (IsExcepted(target, environment) || IsLoopback(target.host)) return std::nullopt;

  constexpr std::string_view kHttp = "http://";
  std::string_view rest = proxy.url;
  if (const size_t scheme = rest.find("://"); scheme != std::string_view::npos) {
    if (absl::AsciiStrToLower(std::string(rest.substr(0, scheme + 3))) != kHttp) {
      return absl::InvalidArgumentError(
          fmt::format("{} names a proxy over '{}': expected http://host:port; or list the coordinator in no_proxy",
                      proxy.variable, Printable(rest.substr(0, scheme + 3))));
    }
    rest.remove_prefix(scheme + 3);
  }
  rest = rest.substr(0, rest.find('/'));
  const size_t at_sign = rest.rfind('@');
  const std::string_view host = at_sign == std::string_view::npos ? rest : rest.substr(at_sign + 1);
  if (host.empty())
    return absl::InvalidArgumentError(fmt::format("{} names no proxy: expected http://host:port", proxy.variable));
  const std::string port = Split(host).port.empty() ? ":80" : "";
  proxy.shown = fmt::format("{}{}{}", kHttp, Printable(host), port);
  proxy.url = fmt::format("{}{}{}", kHttp, rest, port);
  return proxy;
}

bool IsLoopback(std::string_view host) {
  std::string name = absl::AsciiStrToLower(std::string(WithoutBrackets(host)));
  if (name.ends_with('.')) name.pop_back();
  if (name == "localhost" || name.ends_with(".localhost")) return true;
  if (const std::optional<IpAddress> ip = ParseIp(name)) return IsLoopbackIp(*ip);
  const std::vector<std::string> addresses = Lookup(name);
  return !addresses.empty() && std::all_of(addresses.begin(), addresses.end(), [](const std::string& text) {
    const std::optional<IpAddress> ip = ParseIp(text);
    return ip && IsLoopbackIp(*ip);
  });
}

std::string AddressesOf(std::string_view address) {
  std::vector<std::string> tried;
  for (const std::string& one : Lookup(Split(address).host)) {
    tried.push_back(fmt::format("{} ({})", one, one.find(':') == std::string::npos ? "IPv4" : "IPv6"));
  }
  return fmt::format("{}", fmt::join(tried, ", "));
}

}  // namespace loupe::clients::rpc
