#include "common/error_details.h"

#include <charconv>
#include <utility>

#include "absl/strings/cord.h"
#include "fmt/format.h"

namespace loupe {
namespace {

constexpr char kReasonUrl[] = "loupe.v1/reason";
constexpr char kViolationsUrl[] = "loupe.v1/field-violations";
constexpr char kRetryAfterUrl[] = "loupe.v1/retry-after";
std::string PayloadOf(const absl::Status& status, const char* url) {
  const auto payload = status.GetPayload(url);
  return payload.has_value() ? std::string(*payload) : std::string();
}

// Violations travel as texts one after another, "5:field11:description…": a text that quotes what somebody sent has any
// byte in it.
void AppendText(std::string& packed, std::string_view text) { packed += fmt::format("{}:{}", text.size(), text); }

std::string TakeText(std::string_view& packed) {
  size_t size = 0;
  const char* end = std::from_chars(packed.data(), packed.data() + packed.size(), size).ptr;
  packed.remove_prefix(static_cast<size_t>(end - packed.data()) + 1);
  const std::string text(packed.substr(0, size));
  packed.remove_prefix(size);
  return text;
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
    AppendText(packed, violation.field);
    AppendText(packed, violation.description);
  }
  status.SetPayload(kViolationsUrl, absl::Cord(std::move(packed)));
  return status;
}

std::vector<FieldViolation> FieldViolationsOf(const absl::Status& status) {
  const std::string payload = PayloadOf(status, kViolationsUrl);
  std::vector<FieldViolation> violations;
  for (std::string_view packed = payload; !packed.empty();) {
    std::string field = TakeText(packed);
    violations.push_back({std::move(field), TakeText(packed)});
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
