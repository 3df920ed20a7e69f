#include "coordinator/service/access.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <sstream>
#include <utility>

#include "common/atomic_file.h"
#include "common/random_source.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"

namespace loupe::coordinator {
namespace {

std::string AdminPath(const std::string& folder) { return folder + "/token"; }
std::string TokensPath(const std::string& folder) { return folder + "/tokens"; }

std::string NewToken() {
  return fmt::format("{}{}", ToHex(SystemRandom().NextToken()), ToHex(SystemRandom().NextToken()));
}

// Private from its first byte: created with 0600 before anything is written.
absl::Status WritePrivateFile(const std::string& path, std::string_view text) {
  const std::string temporary = path + ".new";
  ::unlink(temporary.c_str());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot create '{}'", temporary));
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(fd) == 0;
  const int error = errno;
  ::close(fd);
  if (written && ::rename(temporary.c_str(), path.c_str()) == 0) return absl::OkStatus();
  ::unlink(temporary.c_str());
  return absl::ErrnoToStatus(written ? errno : error, fmt::format("cannot write '{}'", path));
}

// Takes as long for a wrong digest as for the right one.
bool SameDigest(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned>(static_cast<unsigned char>(a[i] ^ b[i]));
  return difference == 0;
}

// Changes whenever the file is written anew; -1 when it is not there.
int64_t VersionOf(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return -1;
  return static_cast<int64_t>(info.st_mtim.tv_sec) * 1'000'000'000 + info.st_mtim.tv_nsec + static_cast<int64_t>(info.st_ino);
}

}  // namespace

absl::StatusOr<Role> ParseRole(std::string_view text) {
  for (const Role role : {Role::kViewer, Role::kSubmitter, Role::kWorker, Role::kAdmin}) {
    if (text == NameOf(role)) return role;
  }
  return absl::InvalidArgumentError(fmt::format("'{}' is not a role: expected viewer, submitter, worker or admin", text));
}

const char* NameOf(Role role) {
  switch (role) {
    case Role::kViewer: return "viewer";
    case Role::kSubmitter: return "submitter";
    case Role::kWorker: return "worker";
    case Role::kAdmin: return "admin";
  }
  return "unknown";
}

absl::StatusOr<std::unique_ptr<AccessControl>> AccessControl::Open(const std::string& folder, const Clock& clock) {
  std::unique_ptr<AccessControl> access(new AccessControl(folder, clock));
  absl::StatusOr<std::string> token = ReadFile(AdminPath(folder));
  if (absl::IsNotFound(token.status())) {
    token = NewToken();
    LOUPE_RETURN_IF_ERROR(WritePrivateFile(AdminPath(folder), *token + "\n"));
  }
  LOUPE_RETURN_IF_ERROR(token.status());
  struct stat info {};
  if (::stat(AdminPath(folder).c_str(), &info) == 0 && (info.st_mode & 077) != 0) {
    return absl::FailedPreconditionError(
        fmt::format("others may read '{}', the administrator's token: run chmod 600 on it, or delete it to get a new one",
                    AdminPath(folder)));
  }
  const std::string first_line = token->substr(0, token->find_first_of("\r\n"));
  if (first_line.size() < 16) {
    return absl::InvalidArgumentError(
        fmt::format("'{}' holds no token of at least 16 characters: delete it to get a new one", AdminPath(folder)));
  }
  access->admin_sha256_ = Sha256Hex(first_line);
  LOUPE_RETURN_IF_ERROR(ReadEntries(folder).status());
  return access;
}

absl::StatusOr<std::vector<AccessControl::Entry>> AccessControl::ReadEntries(const std::string& folder) {
  std::vector<Entry> entries;
  absl::StatusOr<std::string> text = ReadFile(TokensPath(folder));
  if (absl::IsNotFound(text.status())) return entries;
  LOUPE_RETURN_IF_ERROR(text.status());
  std::istringstream lines(*text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.empty() || line.front() == '#') continue;
    Entry entry;
    std::string role;
    std::istringstream fields(line);
    if (!(fields >> entry.name >> role >> entry.sha256 >> entry.expiry) || entry.sha256.size() != 64) {
      return absl::InvalidArgumentError(
          fmt::format("{}:{}: expected \"name role sha256 expiry\"", TokensPath(folder), number));
    }
    LOUPE_ASSIGN_OR_RETURN(entry.role, ParseRole(role));
    entries.push_back(std::move(entry));
  }
  return entries;
}

absl::Status AccessControl::WriteEntries(const std::string& folder, const std::vector<Entry>& entries) {
  std::string text = "# name role sha256-of-token expiry-unix-seconds\n";
  for (const Entry& entry : entries) {
    text += fmt::format("{} {} {} {}\n", entry.name, NameOf(entry.role), entry.sha256, entry.expiry);
  }
  return WritePrivateFile(TokensPath(folder), text);
}

void AccessControl::ReloadIfChanged() {
  const int64_t version = VersionOf(TokensPath(folder_));
  if (version == entries_version_) return;
  absl::StatusOr<std::vector<Entry>> entries = ReadEntries(folder_);
  if (!entries.ok()) {
    // Fail closed: a file that cannot be read admits nobody but the administrator.
    spdlog::error("{}", std::string(entries.status().message()));
    entries_.clear();
  } else {
    entries_ = *std::move(entries);
  }
  entries_version_ = version;
}

absl::StatusOr<Caller> AccessControl::Authenticate(std::string_view authorization) {
  constexpr std::string_view kBearer = "Bearer ";
  if (!authorization.starts_with(kBearer)) {
    return absl::UnauthenticatedError("the call carries no bearer token");
  }
  const std::string sha256 = Sha256Hex(authorization.substr(kBearer.size()));
  if (SameDigest(sha256, admin_sha256_)) return Caller{"admin", Role::kAdmin};
  const std::lock_guard<std::mutex> lock(mutex_);
  ReloadIfChanged();
  for (const Entry& entry : entries_) {
    if (!SameDigest(sha256, entry.sha256)) continue;
    if (entry.expiry != 0 && clock_.WallNow() >= absl::FromUnixSeconds(entry.expiry)) {
      return absl::UnauthenticatedError(fmt::format("the token '{}' has expired", entry.name));
    }
    return Caller{entry.name, entry.role};
  }
  return absl::UnauthenticatedError("the coordinator does not know this token");
}

absl::Status AccessControl::Authorize(const Caller& caller, Role needed) {
  if (caller.role == Role::kAdmin || caller.role == needed || needed == Role::kViewer) return absl::OkStatus();
  return absl::PermissionDeniedError(
      fmt::format("the token '{}' has the role {}, but this needs {}", caller.name, NameOf(caller.role), NameOf(needed)));
}

absl::StatusOr<std::string> AccessControl::AddToken(const std::string& folder, std::string_view name, Role role,
                                                    absl::Duration lifetime, const Clock& clock) {
  if (name.empty() || name == "admin" || name.find_first_of(" \t\r\n#") != std::string_view::npos) {
    return absl::InvalidArgumentError(fmt::format("'{}' cannot be a token's name: expected one word other than admin", name));
  }
  LOUPE_ASSIGN_OR_RETURN(std::vector<Entry> entries, ReadEntries(folder));
  const auto same_name = [&](const Entry& entry) { return entry.name == name; };
  if (std::any_of(entries.begin(), entries.end(), same_name)) {
    return absl::AlreadyExistsError(fmt::format("there is a token '{}' already: revoke it first", name));
  }
  std::string token = NewToken();
  const int64_t expiry = lifetime == absl::InfiniteDuration() ? 0 : absl::ToUnixSeconds(clock.WallNow() + lifetime);
  entries.push_back({std::string(name), role, Sha256Hex(token), expiry});
  LOUPE_RETURN_IF_ERROR(WriteEntries(folder, entries));
  return token;
}

absl::Status AccessControl::RemoveToken(const std::string& folder, std::string_view name) {
  LOUPE_ASSIGN_OR_RETURN(std::vector<Entry> entries, ReadEntries(folder));
  const auto removed = std::erase_if(entries, [&](const Entry& entry) { return entry.name == name; });
  if (removed == 0) return absl::NotFoundError(fmt::format("there is no token '{}'", name));
  return WriteEntries(folder, entries);
}

}  // namespace loupe::coordinator
