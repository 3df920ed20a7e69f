// absl::Status to the wire, with the details of AIP-193.
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "google/rpc/status.pb.h"

namespace loupe::coordinator {

// Code and message stay. ErrorInfo is always there (domain "loupe.v1"; reason: the attached one, or the code's name);
// BadRequest where field violations are attached.
google::rpc::Status ToRpcStatus(const absl::Status& status);
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace loupe::coordinator
