#include "clients/rpc/rpc_status.h"

#include <vector>

#include "common/error_details.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace loupe::clients::rpc {

absl::Status FromRpcStatus(const google::rpc::Status& status) {
  absl::Status converted(static_cast<absl::StatusCode>(status.code()), status.message());
  if (converted.ok()) return converted;
  for (const auto& any : status.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad_request;
    google::rpc::RetryInfo retry;
    if (any.UnpackTo(&info)) {
      converted = WithReason(converted, info.reason());
    } else if (any.UnpackTo(&bad_request)) {
      std::vector<FieldViolation> violations;
      for (const auto& violation : bad_request.field_violations()) {
        violations.push_back({violation.field(), violation.description()});
      }
      converted = WithFieldViolations(converted, violations);
    } else if (any.UnpackTo(&retry)) {
      converted = WithRetryAfter(
          converted, absl::Seconds(retry.retry_delay().seconds()) + absl::Nanoseconds(retry.retry_delay().nanos()));
    }
  }
  return converted;
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  google::rpc::Status details;
  if (!details.ParseFromString(status.error_details())) details.Clear();
  // What the call itself says wins over what its details repeat.
  details.set_code(static_cast<int>(status.error_code()));
  details.set_message(status.error_message());
  return FromRpcStatus(details);
}

}  // namespace loupe::clients::rpc
