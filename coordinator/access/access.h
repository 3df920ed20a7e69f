// Who may do what: bearer tokens with roles, checked on every call.
//
// DATA/token (mode 0600, made at the first start) is the administrator's token, for programs of the same user. Further
// tokens live in DATA/tokens (token_file.h). Both files are read again whenever they have changed: a token that is
// added, revoked or replaced counts from the next call on. A file that cannot be read or understood changes nothing:
// what it said last still holds, and the log says so.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "coordinator/access/token_file.h"

namespace loupe::coordinator::access {

struct Caller {
  std::string name;
  Role role = Role::kViewer;
  // The token's digest.
  std::string sha256;
  // Whose own token it is: it works under that worker's name alone. Empty for all other tokens.
  std::string worker;
};

// How long an enrolled worker may be away before its token ends and its name is free again. While it works it renews
// both.
inline constexpr absl::Duration kWorkerTokenLifetime = absl::Hours(24 * 30);
// How long a name that was used with a token of several workers stays that token's.
inline constexpr absl::Duration kClaimLifetime = absl::Minutes(10);

struct NewTokenOptions {
  // Infinite: never expires.
  absl::Duration lifetime = absl::InfiniteDuration();
  // Of an enrolment: how many workers it may enrol.
  int64_t uses = 1;
};

// Thread-safe.
class AccessControl {
 public:
  // Reads or makes the token files in `folder`. `clock` must outlive it. FAILED_PRECONDITION for an administrator's
  // token that others may read, INVALID_ARGUMENT for files that cannot be understood.
  static absl::StatusOr<std::unique_ptr<AccessControl>> Open(const std::string& folder, const Clock& clock);

  // Who holds the token in an "authorization" header ("Bearer …"). UNAUTHENTICATED for none, an unknown or an expired
  // one.
  absl::StatusOr<Caller> Authenticate(std::string_view authorization);

  // Whether the token by which a call got in still is good: UNAUTHENTICATED when it was revoked or has expired since.
  absl::Status CheckStill(const Caller& caller);

  // PERMISSION_DENIED unless the caller's role covers `needed`.
  static absl::Status Authorize(const Caller& caller, Role needed);

  // PERMISSION_DENIED when `worker` (its id) is another token's: an enrolled worker's name belongs to its own token,
  // any other to the token that used it within the last kClaimLifetime.
  absl::Status ClaimWorker(const Caller& caller, const std::string& worker);

  // Exchanges an enrolment for a worker's own token, of which the caller gives the digest. The same once more is OK and
  // costs no use. PERMISSION_DENIED when all uses are gone, ALREADY_EXISTS when the name is another token's. Returns
  // when the token ends.
  absl::StatusOr<absl::Time> Enrol(const Caller& caller, const std::string& worker, const std::string& token_sha256);
  // The caller's own worker token lasts for kWorkerTokenLifetime from now. INVALID_ARGUMENT for any other kind of
  // token.
  absl::StatusOr<absl::Time> Renew(const Caller& caller);

  // Adds a line and returns the new token, which is kept nowhere. ALREADY_EXISTS when the name is taken.
  static absl::StatusOr<std::string> AddToken(const std::string& folder, std::string_view name, Role role,
                                              const NewTokenOptions& options, const Clock& clock);
  static absl::StatusOr<std::string> AddToken(const std::string& folder, std::string_view name, Role role,
                                              absl::Duration lifetime, const Clock& clock);
  // A token of its own for a worker of this machine, in place of the one that it had. It never expires.
  static absl::StatusOr<std::string> ReplaceWorkerToken(const std::string& folder, std::string_view worker);
  // NOT_FOUND when there is no such name.
  static absl::Status RemoveToken(const std::string& folder, std::string_view name);

 private:
  // Of a file: changes whenever it is written.
  struct Version {
    int64_t modified = -1;
    int64_t changed = -1;
    int64_t size = -1;
    uint64_t inode = 0;
    bool operator==(const Version&) const = default;
  };
  struct Claim {
    std::string sha256;
    std::string token_name;
    absl::Duration last_used;
  };
  AccessControl(std::string folder, const Clock& clock) : folder_(std::move(folder)), clock_(clock) {}
  static Version VersionOf(const std::string& path);
  static absl::StatusOr<std::string> ReadAdminDigest(const std::string& folder);
  // With the lock held.
  void ReloadIfChanged();
  absl::StatusOr<Caller> Find(const std::string& sha256) const;
  void Take(std::vector<TokenEntry> entries);

  const std::string folder_;
  const Clock& clock_;
  std::mutex mutex_;
  std::string admin_sha256_;
  Version admin_version_;
  // By digest.
  std::unordered_map<std::string, TokenEntry> entries_;
  Version entries_version_;
  // Enrolled workers' names and their tokens' digests.
  std::map<std::string, std::string, std::less<>> enrolled_;
  std::map<std::string, Claim> claims_;
};

}  // namespace loupe::coordinator::access
