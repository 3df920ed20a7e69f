// Machine-readable details of an absl::Status, without protobuf: the service layer turns them into google.rpc.ErrorInfo
// and google.rpc.BadRequest, the client layer back again.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace loupe {

// Reasons that programs act on. UPPER_SNAKE, stable: part of the public contract.
inline constexpr std::string_view kReasonLeaseLost = "LEASE_LOST";
inline constexpr std::string_view kReasonSessionSuperseded = "SESSION_SUPERSEDED";
inline constexpr std::string_view kReasonEtagMismatch = "ETAG_MISMATCH";
inline constexpr std::string_view kReasonStoreUnavailable = "STORE_UNAVAILABLE";
// A result that was computed from other files (base, scorer, pictures) than the sweep's accepted ones.
inline constexpr std::string_view kReasonInputsDiffer = "INPUTS_DIFFER";
inline constexpr std::string_view kReasonRateLimited = "RATE_LIMITED";

// One field of a request and what is wrong with it ("spec.factors[1].levels[0]", "…").
struct FieldViolation {
  std::string field;
  std::string description;
  bool operator==(const FieldViolation&) const = default;
};

// Attaches `reason` to a status that is not OK; an earlier reason is replaced. OK stays OK.
absl::Status WithReason(absl::Status status, std::string_view reason);

// The attached reason, or empty.
std::string ReasonOf(const absl::Status& status);

// Attaches the violations to a status that is not OK. OK stays OK.
absl::Status WithFieldViolations(absl::Status status, const std::vector<FieldViolation>& violations);

// The attached violations, or none.
std::vector<FieldViolation> FieldViolationsOf(const absl::Status& status);

// Attaches how long to wait before trying again (google.rpc.RetryInfo). OK stays OK.
absl::Status WithRetryAfter(absl::Status status, absl::Duration wait);

// The attached wait, or zero.
absl::Duration RetryAfterOf(const absl::Status& status);

}  // namespace loupe
