// DATA/tokens: who has which rights. One line per token,
//
//   name role sha256-of-token expiry-unix-seconds [uses=N] [by=NAME]
//
// with expiry 0 for "never"; only the digest is kept. A line that is removed is a token revoked. "workers/{id}" are the
// tokens of enrolled workers: such a token works under that worker's name alone, and no other token does. `uses` is
// what is left of an enrolment, `by` the enrolment that a worker's token came from.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe::coordinator::access {

// An enrolment may be exchanged for a worker's own token and for nothing else. Submitters and workers may also look; an
// administrator may do everything.
enum class Role { kViewer, kSubmitter, kWorker, kAdmin, kEnrol };

// INVALID_ARGUMENT lists the roles.
absl::StatusOr<Role> ParseRole(std::string_view text);
const char* NameOf(Role role);

struct TokenEntry {
  static constexpr int64_t kAnyNumber = -1;

  std::string name;
  Role role = Role::kViewer;
  // 64 hexadecimal digits.
  std::string sha256;
  // Unix seconds; 0: never.
  int64_t expiry = 0;
  int64_t uses = kAnyNumber;
  std::string by;

  // The worker whose own token it is, or empty.
  std::string_view worker() const;
};

inline constexpr std::string_view kWorkerPrefix = "workers/";

std::string TokensPath(const std::string& folder);

// None where there is no file. INVALID_ARGUMENT names the line.
absl::StatusOr<std::vector<TokenEntry>> ReadTokens(const std::string& folder);

// Reads, has `edit` change and writes the entries, as one step under the lock DATA/tokens.lock: of several programs at
// once each sees what the others have done. Nothing is written where `edit` fails.
absl::Status EditTokens(const std::string& folder, const std::function<absl::Status(std::vector<TokenEntry>&)>& edit);

// 256 random bits.
std::string NewToken();

}  // namespace loupe::coordinator::access
