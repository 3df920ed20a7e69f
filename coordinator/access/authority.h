// The coordinator's own certificate authority: made at the first start that can be reached from other machines, so that
// mutual TLS costs no set-up.
//
// DATA/tls/authority.pem (mode 600) holds its certificate and its key (P-256, for ten years), DATA/tls/ca.pem the
// certificate alone, for programs that want a CA file. Times are the machine's: OpenSSL compares certificates with that
// clock. Each certificate begins a day before it is issued: clocks differ.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace loupe::coordinator::access {

// PEM.
struct Certificate {
  std::string certificate;
  std::string key;
};

// A coordinator's certificate is renewed when a third of its time is left; clients learn of it with their next
// connection.
inline constexpr absl::Duration kServerCertificateLifetime = absl::Hours(24 * 90);
// Of credentials whose token never expires.
inline constexpr absl::Duration kLongestClientCertificate = absl::Hours(24 * 365);

class Authority {
 public:
  // Reads it, or makes it where there is none. FAILED_PRECONDITION for a key file that others may read.
  static absl::StatusOr<Authority> OpenOrMake(const std::string& folder);
  // NOT_FOUND where the coordinator has made none.
  static absl::StatusOr<Authority> Open(const std::string& folder);

  const std::string& certificate() const { return own_.certificate; }

  // For a coordinator: `names` are the host names and addresses by which clients may call it.
  absl::StatusOr<Certificate> IssueServer(const std::vector<std::string>& names) const;
  // For a client; `name` is its token's. At most kLongestClientCertificate.
  absl::StatusOr<Certificate> IssueClient(std::string_view name, absl::Duration lifetime) const;

 private:
  explicit Authority(Certificate own) : own_(std::move(own)) {}
  Certificate own_;
};

// When the first certificate of a PEM text ends. INVALID_ARGUMENT when there is none.
absl::StatusOr<absl::Time> EndOfCertificate(const std::string& pem);
// INVALID_ARGUMENT unless both can be read and belong together.
absl::Status CheckPair(const std::string& certificate_pem, const std::string& key_pem);
// The names and addresses of this machine: host name, those of its network interfaces, localhost.
std::vector<std::string> NamesOfThisMachine();

}  // namespace loupe::coordinator::access
