// The coordinator's TLS as gRPC wants it.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "absl/status/statusor.h"
#include "coordinator/access/server_tls.h"

namespace loupe::coordinator::rpc {

// Without TLS where `tls` is off. What `tls` refreshes is taken over within two seconds.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerCredentialsFor(const access::ServerTls& tls);

}  // namespace loupe::coordinator::rpc
