// The coordinator's side of TLS: whose certificate it shows, whom it lets in, and how both change while it runs.
//
// Law: what can be reached from other machines demands a client's certificate, so that nobody without one gets as far
// as HTTP/2 (gRPC 1.51 cannot shed a client that opens and resets streams without end). Only the operator's own word
// lifts that.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/access/authority.h"

namespace loupe::coordinator::access {

struct TlsOptions {
  // PEM files of the coordinator's certificate and key. Without them it has its own authority (authority.h) issue one.
  std::string certificate_file;
  std::string key_file;
  // PEM file of the authority that signs clients' certificates; otherwise the coordinator's own.
  std::string client_ca_file;
  // Further names by which clients call the coordinator, for the certificate that it issues itself.
  std::vector<std::string> names;
  // Off loopback: TLS, but no client certificates.
  bool clients_without_certificate = false;
};

// Not thread-safe: Refresh from one thread.
class ServerTls {
 public:
  // Without TLS on loopback, unless files are given. INVALID_ARGUMENT for half a configuration and for files that do
  // not belong together, FAILED_PRECONDITION for a key that everybody may read.
  static absl::StatusOr<std::unique_ptr<ServerTls>> Open(const TlsOptions& options, const std::string& listen,
                                                         const std::string& data_folder);

  // PEM files that listeners watch: certificate and key in one file, for they change together; the authorities of
  // clients' certificates, empty where none is demanded.
  std::string identity_file() const { return on_ ? folder_ + "/live.pem" : ""; }
  std::string client_roots_file() const { return demands_certificate_ ? folder_ + "/clients.pem" : ""; }
  // Set where the coordinator issues certificates to its clients.
  const std::optional<Authority>& authority() const { return authority_; }
  bool on() const { return on_; }
  bool issues_own_certificate() const { return on() && options_.certificate_file.empty(); }

  // Takes over files that have changed, and renews the coordinator's own certificate in time. Connections that are open
  // stay; new ones meet the new certificate within two seconds. What is wrong with a file is logged, and the last good
  // one stays.
  void Refresh();

 private:
  ServerTls(TlsOptions options, std::string folder) : options_(std::move(options)), folder_(std::move(folder)) {}
  absl::StatusOr<std::string> Identity() const;
  absl::StatusOr<std::string> ClientRoots() const;
  absl::Status WriteLive();
  std::string Fingerprint() const;

  const TlsOptions options_;
  // DATA/tls.
  const std::string folder_;
  bool on_ = false;
  bool demands_certificate_ = false;
  std::vector<std::string> names_;
  std::optional<Authority> authority_;
  std::string fingerprint_;
};

// Whether only programs of this machine can call "host:port".
bool IsLoopback(const std::string& listen);

}  // namespace loupe::coordinator::access
