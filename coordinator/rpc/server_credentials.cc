#include "coordinator/rpc/server_credentials.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <string>

namespace loupe::coordinator::rpc {
namespace {

constexpr unsigned kWatchSeconds = 1;

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerCredentialsFor(const access::ServerTls& tls) {
  if (!tls.on()) return grpc::InsecureServerCredentials();
  const std::string identity = tls.identity_file();
  const std::string roots = tls.client_roots_file();
  grpc::experimental::TlsServerCredentialsOptions options(
      std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(identity, identity, roots, kWatchSeconds));
  options.watch_identity_key_cert_pairs();
  if (!roots.empty()) options.watch_root_certs();
  options.set_cert_request_type(roots.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                              : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::experimental::TlsServerCredentials(options);
  if (credentials == nullptr) return absl::InternalError("gRPC takes no TLS credentials");
  return credentials;
}

}  // namespace loupe::coordinator::rpc
