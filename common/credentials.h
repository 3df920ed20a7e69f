// A credentials file: what a client needs to reach one coordinator, in one private file that can be handed over as it
// is.
//
//   # Loupe credentials of 'farm' (enrol). …
//   Address: coordinator.example.org:7117
//   Token: enrol-0123…
//   -----BEGIN CERTIFICATE-----        the client's (TLS only)
//   -----BEGIN PRIVATE KEY-----        its key
//   -----BEGIN CERTIFICATE-----        the authority that signs the coordinator's certificate
//
// PEM allows text before its blocks, so the file also serves where a program wants a certificate, a key or an
// authority: gRPC reads it again by itself when it is replaced, and a renewal needs no restart.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe {

// Tokens that may only be exchanged for a worker's own credentials begin so.
inline constexpr std::string_view kEnrolmentPrefix = "enrol-";

struct Credentials {
  // A comment: whose it is. One line.
  std::string comment;
  // "host:port"
  std::string address;
  std::string token;
  // PEM; all three are empty where the coordinator does without TLS.
  std::string certificate;
  std::string key;
  std::string authority;

  bool is_enrolment() const { return token.starts_with(kEnrolmentPrefix); }
};

std::string ToText(const Credentials& credentials);

// INVALID_ARGUMENT says what is missing; `path` stands in the message. The token's characters are not looked at.
absl::StatusOr<Credentials> ParseCredentials(std::string_view text, const std::string& path);

// Errors of ReadPrivateFile and ParseCredentials.
absl::StatusOr<Credentials> ReadCredentials(const std::string& path);

}  // namespace loupe
