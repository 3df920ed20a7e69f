#include "common/error_details.h"

#include <utility>

#include "absl/strings/cord.h"

namespace loupe {
namespace {

constexpr char kReasonUrl[] = "loupe.v1/reason";
constexpr char kViolationsUrl[] = "loupe.v1/field-violations";
constexpr char kRetryAfterUrl[] = "loupe.v1/retry-after";
// Violations travel as "field NUL description NUL …": no text field contains NUL.
constexpr char kEnd = '\0';

std::string PayloadOf(const absl::Status& status, const char* url) {
  const auto payload = status.GetPayload(url);
  return payload.has_value() ? std::string(*payload) : std::string();
}

}  // namespace

absl::Status WithReason(absl::Status status, std::string_view reason) {
  if (!status.ok()) status.SetPayload(kReasonUrl, absl::Cord(std::string(reason)));
  return status;
}

std::string ReasonOf(const absl::Status& status) { return PayloadOf(status, kReasonUrl); }

absl::Status WithFieldViolations(absl::Status status, const std::vector<FieldViolation>& violations) {
  if (status.ok() || violations.empty()) return status;
  std::string packed;
  for (const FieldViolation& violation : violations) {
    packed += violation.field;
    packed += kEnd;
    packed += violation.description;
    packed += kEnd;
  }
  status.SetPayload(kViolationsUrl, absl::Cord(std::move(packed)));
  return status;
}

std::vector<FieldViolation> FieldViolationsOf(const absl::Status& status) {
  const std::string packed = PayloadOf(status, kViolationsUrl);
  std::vector<FieldViolation> violations;
  size_t at = 0;
  while (at < packed.size()) {
    const size_t field_end = packed.find(kEnd, at);
    const size_t description_end = packed.find(kEnd, field_end + 1);
    violations.push_back({packed.substr(at, field_end - at), packed.substr(field_end + 1, description_end - field_end - 1)});
    at = description_end + 1;
  }
  return violations;
}

absl::Status WithRetryAfter(absl::Status status, absl::Duration wait) {
  if (!status.ok()) status.SetPayload(kRetryAfterUrl, absl::Cord(absl::FormatDuration(wait)));
  return status;
}

absl::Duration RetryAfterOf(const absl::Status& status) {
  absl::Duration wait;
  return absl::ParseDuration(PayloadOf(status, kRetryAfterUrl), &wait) ? wait : absl::ZeroDuration();
}

}  // namespace loupe
