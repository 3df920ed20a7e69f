#include "coordinator/api/backend.h"

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "common/error_details.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::coordinator::api {

namespace {

absl::Status HoldBack(const Backend& backend, const std::string& client, const access::RateLimit& limit) {
  if (backend.limiter == nullptr) return absl::OkStatus();
  const absl::Duration wait = backend.limiter->Take(client, limit, backend.clock->MonotonicNow());
  if (wait <= absl::ZeroDuration()) return absl::OkStatus();
  return WithRetryAfter(WithReason(absl::ResourceExhaustedError(fmt::format(
                                       "{} calls too often: {:g} calls per second are allowed; try again in {:.3f} s",
                                       client, limit.per_second, absl::ToDoubleSeconds(wait))),
                                   kReasonRateLimited),
                        wait);
}

}  // namespace

std::string ClientName(const access::Caller& caller, const std::string& machine) {
  return fmt::format("'{}' from {}", caller.name, machine);
}

absl::StatusOr<access::Caller> Identify(const Backend& backend, const CallOrigin& origin) {
  // Tests in one process have no tokens.
  absl::StatusOr<access::Caller> caller = backend.access == nullptr
                                              ? access::Caller{"test", access::Role::kAdmin}
                                              : backend.access->Authenticate(origin.authorization);
  if (!caller.ok()) {
    LOUPE_RETURN_IF_ERROR(
        HoldBack(backend, fmt::format("a stranger from {}", origin.machine), backend.limits.strangers));
    return caller.status();
  }
  LOUPE_RETURN_IF_ERROR(HoldBack(backend, ClientName(*caller, origin.machine), backend.limits.of(caller->role)));
  return caller;
}

absl::StatusOr<access::Caller> Admit(const Backend& backend, const CallOrigin& origin, access::Role role) {
  LOUPE_ASSIGN_OR_RETURN(access::Caller caller, Identify(backend, origin));
  LOUPE_RETURN_IF_ERROR(access::AccessControl::Authorize(caller, role));
  return caller;
}

absl::StatusOr<int64_t> PageSize(int32_t asked, int64_t fallback, int64_t most) {
  if (asked < 0) return absl::InvalidArgumentError(fmt::format("page_size is {}: expected 0 or more", asked));
  return asked == 0 ? fallback : std::min<int64_t>(asked, most);
}

std::string MakePageToken(const std::string& position, const std::string& request_key) {
  const std::string plain = fmt::format("{}|{}", Sha256Hex(request_key).substr(0, 16), position);
  return absl::WebSafeBase64Escape(absl::string_view(plain.data(), plain.size()));
}

absl::StatusOr<std::string> ReadPageToken(const std::string& token, const std::string& request_key) {
  if (token.empty()) return std::string();
  std::string plain;
  const std::string expected = Sha256Hex(request_key).substr(0, 16) + "|";
  if (!absl::WebSafeBase64Unescape(absl::string_view(token.data(), token.size()), &plain) ||
      plain.compare(0, expected.size(), expected) != 0) {
    return absl::InvalidArgumentError("page_token does not belong to this request: send the token of its last answer");
  }
  return plain.substr(expected.size());
}

}  // namespace loupe::coordinator::api
