// Who may do what: bearer tokens with roles, checked on every call.
//
// DATA/token (mode 0600, made at the first start) is the administrator's token, for programs of the same user. Further tokens
// live in DATA/tokens, one per line: "name role sha256-of-token expiry-unix-seconds" (0: never); only the digest is kept.
// A line that is removed is a token revoked, at once: the file is read again whenever it has changed.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"

namespace loupe::coordinator {

// Submitters and workers may also look; an administrator may do everything.
enum class Role { kViewer, kSubmitter, kWorker, kAdmin };

// INVALID_ARGUMENT lists the roles.
absl::StatusOr<Role> ParseRole(std::string_view text);
const char* NameOf(Role role);

struct Caller {
  std::string name;
  Role role = Role::kViewer;
};

// Thread-safe.
class AccessControl {
 public:
  // Reads or makes the token files in `folder`. `clock` must outlive it.
  static absl::StatusOr<std::unique_ptr<AccessControl>> Open(const std::string& folder, const Clock& clock);

  // Who holds the token in an "authorization" header ("Bearer …"). UNAUTHENTICATED for none, an unknown or an expired one.
  absl::StatusOr<Caller> Authenticate(std::string_view authorization);

  // PERMISSION_DENIED unless the caller's role covers `needed`.
  static absl::Status Authorize(const Caller& caller, Role needed);

  // Adds a line and returns the new token, which is kept nowhere. ALREADY_EXISTS when the name is taken. `lifetime` infinite:
  // never expires.
  static absl::StatusOr<std::string> AddToken(const std::string& folder, std::string_view name, Role role,
                                              absl::Duration lifetime, const Clock& clock);
  // NOT_FOUND when there is no such name.
  static absl::Status RemoveToken(const std::string& folder, std::string_view name);

 private:
  struct Entry {
    std::string name;
    Role role = Role::kViewer;
    std::string sha256;
    int64_t expiry = 0;
  };
  AccessControl(std::string folder, const Clock& clock) : folder_(std::move(folder)), clock_(clock) {}
  static absl::StatusOr<std::vector<Entry>> ReadEntries(const std::string& folder);
  static absl::Status WriteEntries(const std::string& folder, const std::vector<Entry>& entries);
  void ReloadIfChanged();

  const std::string folder_;
  const Clock& clock_;
  std::mutex mutex_;
  std::string admin_sha256_;
  std::vector<Entry> entries_;
  int64_t entries_version_ = -1;
};

}  // namespace loupe::coordinator
