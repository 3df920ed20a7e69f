#include "coordinator/service/grpc_status.h"

#include <string>

#include "common/error_details.h"
#include "coordinator/service/convert.h"
#include "google/rpc/error_details.pb.h"

namespace loupe::coordinator {

google::rpc::Status ToRpcStatus(const absl::Status& status) {
  google::rpc::Status converted;
  converted.set_code(static_cast<int>(status.code()));
  if (status.ok()) return converted;
  converted.set_message(std::string(status.message()));
  google::rpc::ErrorInfo info;
  const std::string reason = ReasonOf(status);
  info.set_reason(reason.empty() ? absl::StatusCodeToString(status.code()) : reason);
  info.set_domain("loupe.v1");
  converted.add_details()->PackFrom(info);
  google::rpc::BadRequest bad_request;
  for (const FieldViolation& violation : FieldViolationsOf(status)) {
    auto* added = bad_request.add_field_violations();
    added->set_field(violation.field);
    added->set_description(violation.description);
  }
  if (bad_request.field_violations_size() > 0) converted.add_details()->PackFrom(bad_request);
  if (const absl::Duration wait = RetryAfterOf(status); wait > absl::ZeroDuration()) {
    google::rpc::RetryInfo retry;
    SetDuration(wait, retry.mutable_retry_delay());
    converted.add_details()->PackFrom(retry);
  }
  return converted;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()),
                      ToRpcStatus(status).SerializeAsString());
}

}  // namespace loupe::coordinator
