// absl::Status to gRPC's own.
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace loupe::coordinator::rpc {

// Code, message and details as in api/rpc_status.h.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace loupe::coordinator::rpc
