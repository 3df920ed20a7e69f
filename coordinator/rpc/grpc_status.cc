#include "coordinator/rpc/grpc_status.h"

#include "common/guarded.h"
#include "coordinator/api/rpc_status.h"

namespace loupe::coordinator::rpc {

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  grpc::Status converted(static_cast<grpc::StatusCode>(status.code()), "");
  // Where memory is too short for words, the code alone is the answer.
  Guarded([&] {
    const google::rpc::Status details = api::ToRpcStatus(status);
    converted = grpc::Status(converted.error_code(), details.message(), details.SerializeAsString());
  }).IgnoreError();
  return converted;
}

}  // namespace loupe::coordinator::rpc
