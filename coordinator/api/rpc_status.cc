#include "coordinator/api/rpc_status.h"

#include <string>

#include "common/error_details.h"
#include "common/text.h"
#include "coordinator/api/convert.h"
#include "google/rpc/error_details.pb.h"

namespace loupe::coordinator::api {
namespace {

constexpr size_t kMaxMessageTextBytes = 1500;
constexpr size_t kMaxDetailBytes = 1500;

// The message travels twice, as itself (percent-encoded) and in the details (base64).
std::string CutMessage(const absl::Status& status) {
  return Shortened({status.message().data(), status.message().size()}, kMaxMessageTextBytes);
}

}  // namespace

google::rpc::Status ToRpcStatus(const absl::Status& status) {
  google::rpc::Status converted;
  converted.set_code(static_cast<int>(status.code()));
  if (status.ok()) return converted;
  converted.set_message(CutMessage(status));
  google::rpc::ErrorInfo info;
  const std::string reason = ReasonOf(status);
  info.set_reason(reason.empty() ? absl::StatusCodeToString(status.code()) : reason);
  info.set_domain("loupe.v1");
  converted.add_details()->PackFrom(info);
  google::rpc::BadRequest bad_request;
  // A status travels in headers, of which clients take 8 KiB: the first violations are worth more than none.
  for (const FieldViolation& violation : FieldViolationsOf(status)) {
    if (bad_request.ByteSizeLong() + violation.field.size() + violation.description.size() > kMaxDetailBytes) break;
    auto* added = bad_request.add_field_violations();
    added->set_field(ToUtf8(violation.field));
    added->set_description(ToUtf8(violation.description));
  }
  if (bad_request.field_violations_size() > 0) converted.add_details()->PackFrom(bad_request);
  if (const absl::Duration wait = RetryAfterOf(status); wait > absl::ZeroDuration()) {
    google::rpc::RetryInfo retry;
    SetDuration(wait, retry.mutable_retry_delay());
    converted.add_details()->PackFrom(retry);
  }
  return converted;
}

}  // namespace loupe::coordinator::api
