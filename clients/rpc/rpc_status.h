// grpc::Status to absl::Status, with the details that common/error_details.h knows.
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "google/rpc/status.pb.h"

namespace loupe::clients::rpc {

// Code and message stay; google.rpc.ErrorInfo becomes ReasonOf(), google.rpc.BadRequest becomes FieldViolationsOf().
// Details that cannot be parsed are left out.
absl::Status FromGrpcStatus(const grpc::Status& status);

// The same for a status that travels inside a message (AttemptVerdict.status).
absl::Status FromRpcStatus(const google::rpc::Status& status);

}  // namespace loupe::clients::rpc
