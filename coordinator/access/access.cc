#include "coordinator/access/access.h"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <ctime>
#include <utility>

#include "common/credentials.h"
#include "common/logging.h"
#include "common/private_file.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::coordinator::access {
namespace {

constexpr size_t kMaxTokenName = 80;
// Beyond it the claims that have lapsed are dropped.
constexpr size_t kManyClaims = 10000;

std::string AdminPath(const std::string& folder) { return folder + "/token"; }

bool IsTokenName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxTokenName && name != "admin" &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
                  std::string_view("._@-").find(c) != std::string_view::npos;
         });
}

bool HasExpired(const TokenEntry& entry, absl::Time now) {
  return entry.expiry != 0 && now >= absl::FromUnixSeconds(entry.expiry);
}

int64_t Nanoseconds(const timespec& time) { return static_cast<int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec; }

absl::Status NotAWorkersOwn(const Caller& caller) {
  return absl::InvalidArgumentError(fmt::format(
      "the token '{}' is no worker's own: only a token that an enrolment gave can be renewed", caller.name));
}

}  // namespace

AccessControl::Version AccessControl::VersionOf(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return {};
  Version version{Nanoseconds(info.st_mtim), Nanoseconds(info.st_ctim), info.st_size, info.st_ino};
  // The kernel's file times move in steps: a second change within one step would look like none. As long as the last
  // change is so young, no version equals it, and the file is read again.
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  constexpr int64_t kStep = 20'000'000;
  if (Nanoseconds(now) - version.changed < kStep) version.changed = Nanoseconds(now);
  return version;
}

absl::StatusOr<std::string> AccessControl::ReadAdminDigest(const std::string& folder) {
  LOUPE_ASSIGN_OR_RETURN(const std::string text, ReadPrivateFile(AdminPath(folder), "the administrator's token"));
  const std::string first_line = text.substr(0, text.find_first_of("\r\n"));
  if (first_line.size() < 16) {
    return absl::InvalidArgumentError(
        fmt::format("'{}' holds no token of at least 16 characters: delete it, and the next start makes a new one",
                    AdminPath(folder)));
  }
  return Sha256Hex(first_line);
}

absl::StatusOr<std::unique_ptr<AccessControl>> AccessControl::Open(const std::string& folder, const Clock& clock) {
  std::unique_ptr<AccessControl> access(new AccessControl(folder, clock));
  access->admin_version_ = VersionOf(AdminPath(folder));
  absl::StatusOr<std::string> admin = ReadAdminDigest(folder);
  if (absl::IsNotFound(admin.status())) {
    LOUPE_RETURN_IF_ERROR(WritePrivateFile(AdminPath(folder), NewToken() + "\n"));
    access->admin_version_ = VersionOf(AdminPath(folder));
    admin = ReadAdminDigest(folder);
  }
  LOUPE_RETURN_IF_ERROR(admin.status());
  access->admin_sha256_ = *std::move(admin);
  access->entries_version_ = VersionOf(TokensPath(folder));
  LOUPE_ASSIGN_OR_RETURN(std::vector<TokenEntry> entries, ReadTokens(folder));
  access->Take(std::move(entries));
  return access;
}

void AccessControl::Take(std::vector<TokenEntry> entries) {
  entries_.clear();
  enrolled_.clear();
  for (TokenEntry& entry : entries) {
    if (!entry.worker().empty()) enrolled_.emplace(entry.worker(), entry.sha256);
    entries_.emplace(entry.sha256, std::move(entry));
  }
}

void AccessControl::ReloadIfChanged() {
  // The version before the content: a change in between is met by the next call.
  if (const Version version = VersionOf(TokensPath(folder_)); version != entries_version_) {
    entries_version_ = version;
    absl::StatusOr<std::vector<TokenEntry>> entries = ReadTokens(folder_);
    if (entries.ok()) {
      Take(*std::move(entries));
    } else {
      LogError("{}; the tokens are what they were before", std::string(entries.status().message()));
    }
  }
  if (const Version version = VersionOf(AdminPath(folder_)); version != admin_version_) {
    admin_version_ = version;
    absl::StatusOr<std::string> admin = ReadAdminDigest(folder_);
    if (admin.ok()) {
      admin_sha256_ = *std::move(admin);
    } else {
      LogError("{}; the administrator's token is what it was before", std::string(admin.status().message()));
    }
  }
}

// Digests are looked up and not compared byte by byte in constant time: who does not know a token cannot choose its
// digest.
absl::StatusOr<Caller> AccessControl::Find(const std::string& sha256) const {
  if (sha256 == admin_sha256_) return Caller{"admin", Role::kAdmin, sha256, ""};
  const auto found = entries_.find(sha256);
  if (found == entries_.end()) return absl::UnauthenticatedError("the coordinator does not know this token");
  const TokenEntry& entry = found->second;
  if (HasExpired(entry, clock_.WallNow())) {
    return absl::UnauthenticatedError(fmt::format("the token '{}' has expired", entry.name));
  }
  return Caller{entry.name, entry.role, sha256, std::string(entry.worker())};
}

absl::StatusOr<Caller> AccessControl::Authenticate(std::string_view authorization) {
  constexpr std::string_view kBearer = "Bearer ";
  if (!authorization.starts_with(kBearer)) {
    return absl::UnauthenticatedError("the call carries no bearer token");
  }
  const std::string sha256 = Sha256Hex(authorization.substr(kBearer.size()));
  const std::lock_guard<std::mutex> lock(mutex_);
  ReloadIfChanged();
  return Find(sha256);
}

absl::Status AccessControl::CheckStill(const Caller& caller) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ReloadIfChanged();
  const absl::Status status = Find(caller.sha256).status();
  if (status.ok() || (caller.role != Role::kAdmin && entries_.contains(caller.sha256))) return status;
  return absl::UnauthenticatedError(fmt::format("the token '{}' was revoked", caller.name));
}

absl::Status AccessControl::Authorize(const Caller& caller, Role needed) {
  const bool may_look = needed == Role::kViewer && caller.role != Role::kEnrol;
  if (caller.role == Role::kAdmin || caller.role == needed || may_look) return absl::OkStatus();
  return absl::PermissionDeniedError(fmt::format(
      "the token '{}' has the role {}, but this needs {}{}", caller.name, NameOf(caller.role), NameOf(needed),
      caller.role == Role::kEnrol ? " (an enrolment only gives a worker its own token: hand it to 'loupe-worker run')"
                                  : ""));
}

absl::Status AccessControl::ClaimWorker(const Caller& caller, const std::string& worker) {
  if (!caller.worker.empty()) {
    if (caller.worker == worker) return absl::OkStatus();
    return absl::PermissionDeniedError(
        fmt::format("the token '{}' is that worker's own and does not work under the name '{}'", caller.name, worker));
  }
  const absl::Duration now = clock_.MonotonicNow();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (enrolled_.contains(worker)) {
    return absl::PermissionDeniedError(fmt::format(
        "the name '{}' belongs to an enrolled worker: only its own token may use it; give this worker another --id, or revoke "
        "'{}{}'",
        worker, kWorkerPrefix, worker));
  }
  const auto lapsed = [&](const Claim& claim) {
    return now - claim.last_used > kClaimLifetime ||
           (claim.sha256 != admin_sha256_ && !entries_.contains(claim.sha256));
  };
  const auto [found, is_new] = claims_.try_emplace(worker, Claim{caller.sha256, caller.name, now});
  Claim& claim = found->second;
  if (!is_new && claim.sha256 != caller.sha256 && !lapsed(claim)) {
    return absl::PermissionDeniedError(fmt::format(
        "a worker with the token '{}' works under the name '{}': give this one another --id, or wait {:.0f} minutes "
        "after the other has ended",
        claim.token_name, worker, absl::ToDoubleMinutes(kClaimLifetime)));
  }
  claim = {caller.sha256, caller.name, now};
  if (is_new && claims_.size() > kManyClaims)
    std::erase_if(claims_, [&](const auto& entry) { return lapsed(entry.second); });
  return absl::OkStatus();
}

absl::StatusOr<absl::Time> AccessControl::Enrol(const Caller& caller, const std::string& worker,
                                                const std::string& token_sha256) {
  const absl::Time now = clock_.WallNow();
  const absl::Time end = absl::FromUnixSeconds(absl::ToUnixSeconds(now + kWorkerTokenLifetime));
  const std::string name = fmt::format("{}{}", kWorkerPrefix, worker);
  LOUPE_RETURN_IF_ERROR(EditTokens(folder_, [&](std::vector<TokenEntry>& entries) -> absl::Status {
    // Workers that have been away for too long are forgotten.
    std::erase_if(entries, [&](const TokenEntry& entry) { return !entry.worker().empty() && HasExpired(entry, now); });
    const auto find = [&](const auto& matches) { return std::find_if(entries.begin(), entries.end(), matches); };
    const auto same = find([&](const TokenEntry& entry) { return entry.sha256 == token_sha256; });
    if (same != entries.end() && same->name == name && same->by == caller.name) {
      same->expiry = absl::ToUnixSeconds(end);
      return absl::OkStatus();
    }
    if (same != entries.end() || find([&](const TokenEntry& entry) { return entry.name == name; }) != entries.end()) {
      return absl::AlreadyExistsError(fmt::format(
          "a worker '{0}' is enrolled already: give this one another --id, or run 'loupe-coordinator token revoke "
          "--name {1}' first (if its disk was lost, say)",
          worker, name));
    }
    // An administrator could make itself an enrolment just as well.
    if (caller.role == Role::kAdmin) {
      entries.push_back({.name = name,
                         .role = Role::kWorker,
                         .sha256 = token_sha256,
                         .expiry = absl::ToUnixSeconds(end),
                         .by = caller.name});
      return absl::OkStatus();
    }
    const auto enrolment = find([&](const TokenEntry& entry) { return entry.sha256 == caller.sha256; });
    if (enrolment == entries.end())
      return absl::UnauthenticatedError(fmt::format("the token '{}' was revoked", caller.name));
    if (enrolment->uses == 0) {
      return absl::PermissionDeniedError(fmt::format(
          "the enrolment '{}' has enrolled as many workers as it may: make another with 'loupe-coordinator token add --role enrol'",
          caller.name));
    }
    if (enrolment->uses != TokenEntry::kAnyNumber) --enrolment->uses;
    entries.push_back({.name = name,
                       .role = Role::kWorker,
                       .sha256 = token_sha256,
                       .expiry = absl::ToUnixSeconds(end),
                       .by = caller.name});
    return absl::OkStatus();
  }));
  return end;
}

absl::StatusOr<absl::Time> AccessControl::Renew(const Caller& caller) {
  if (caller.worker.empty()) return NotAWorkersOwn(caller);
  const absl::Time end = absl::FromUnixSeconds(absl::ToUnixSeconds(clock_.WallNow() + kWorkerTokenLifetime));
  LOUPE_RETURN_IF_ERROR(EditTokens(folder_, [&](std::vector<TokenEntry>& entries) -> absl::Status {
    for (TokenEntry& entry : entries) {
      if (entry.sha256 != caller.sha256) continue;
      if (entry.expiry != 0) entry.expiry = absl::ToUnixSeconds(end);
      return absl::OkStatus();
    }
    return absl::UnauthenticatedError(fmt::format("the token '{}' was revoked", caller.name));
  }));
  return end;
}

absl::StatusOr<std::string> AccessControl::AddToken(const std::string& folder, std::string_view name, Role role,
                                                    const NewTokenOptions& options, const Clock& clock) {
  if (!IsTokenName(name)) {
    return absl::InvalidArgumentError(
        fmt::format("'{}' cannot be a token's name: expected at most {} letters, digits and ._@-, and not admin", name,
                    kMaxTokenName));
  }
  if (role == Role::kEnrol && options.uses < 1)
    return absl::InvalidArgumentError("an enrolment needs at least one use");
  std::string token = role == Role::kEnrol ? fmt::format("{}{}", kEnrolmentPrefix, NewToken()) : NewToken();
  LOUPE_RETURN_IF_ERROR(EditTokens(folder, [&](std::vector<TokenEntry>& entries) -> absl::Status {
    if (std::any_of(entries.begin(), entries.end(), [&](const TokenEntry& entry) { return entry.name == name; })) {
      return absl::AlreadyExistsError(fmt::format("there is a token '{}' already: revoke it first", name));
    }
    entries.push_back({.name = std::string(name),
                       .role = role,
                       .sha256 = Sha256Hex(token),
                       .expiry = options.lifetime == absl::InfiniteDuration()
                                     ? 0
                                     : absl::ToUnixSeconds(clock.WallNow() + options.lifetime),
                       .uses = role == Role::kEnrol ? options.uses : TokenEntry::kAnyNumber,
                       .by = ""});
    return absl::OkStatus();
  }));
  return token;
}

absl::StatusOr<std::string> AccessControl::AddToken(const std::string& folder, std::string_view name, Role role,
                                                    absl::Duration lifetime, const Clock& clock) {
  return AddToken(folder, name, role, NewTokenOptions{.lifetime = lifetime}, clock);
}

absl::StatusOr<std::string> AccessControl::ReplaceWorkerToken(const std::string& folder, std::string_view worker) {
  const std::string name = fmt::format("{}{}", kWorkerPrefix, worker);
  std::string token = NewToken();
  LOUPE_RETURN_IF_ERROR(EditTokens(folder, [&](std::vector<TokenEntry>& entries) -> absl::Status {
    std::erase_if(entries, [&](const TokenEntry& entry) { return entry.name == name; });
    entries.push_back({.name = name, .role = Role::kWorker, .sha256 = Sha256Hex(token), .by = ""});
    return absl::OkStatus();
  }));
  return token;
}

absl::Status AccessControl::RemoveToken(const std::string& folder, std::string_view name) {
  return EditTokens(folder, [&](std::vector<TokenEntry>& entries) -> absl::Status {
    const auto removed = std::erase_if(entries, [&](const TokenEntry& entry) { return entry.name == name; });
    if (removed == 0) return absl::NotFoundError(fmt::format("there is no token '{}'", name));
    return absl::OkStatus();
  });
}

}  // namespace loupe::coordinator::access
