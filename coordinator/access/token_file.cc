#include "coordinator/access/token_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "common/atomic_file.h"
#include "common/private_file.h"
#include "common/random_source.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::coordinator::access {
namespace {

constexpr Role kRoles[] = {Role::kViewer, Role::kSubmitter, Role::kWorker, Role::kAdmin, Role::kEnrol};
constexpr std::string_view kUses = "uses=";
constexpr std::string_view kBy = "by=";

// Held from Take to destruction; waits for its turn.
class TokensLock {
 public:
  static absl::StatusOr<TokensLock> Take(const std::string& path) {
    for (;;) {
      TokensLock lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
      if (lock.fd_ < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot open '{}'", path));
      while (::flock(lock.fd_, LOCK_EX) != 0) {
        if (errno != EINTR) return absl::ErrnoToStatus(errno, fmt::format("cannot lock '{}'", path));
      }
      // Somebody may have removed the file in between: others would lock its successor.
      struct stat held {};
      struct stat named {};
      if (::fstat(lock.fd_, &held) == 0 && ::stat(path.c_str(), &named) == 0 && held.st_ino == named.st_ino)
        return lock;
    }
  }
  TokensLock(TokensLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  TokensLock& operator=(TokensLock&&) = delete;
  ~TokensLock() {
    if (fd_ >= 0) ::close(fd_);
  }

 private:
  explicit TokensLock(int fd) : fd_(fd) {}
  int fd_;
};

bool ParseEntry(const std::string& line, TokenEntry& entry) {
  std::istringstream fields(line);
  std::string role;
  if (!(fields >> entry.name >> role >> entry.sha256 >> entry.expiry) || entry.sha256.size() != 64) return false;
  const absl::StatusOr<Role> parsed = ParseRole(role);
  if (!parsed.ok()) return false;
  entry.role = *parsed;
  std::string field;
  while (fields >> field) {
    if (field.starts_with(kUses)) {
      if (!absl::SimpleAtoi(field.substr(kUses.size()), &entry.uses) || entry.uses < 0) return false;
    } else if (field.starts_with(kBy)) {
      entry.by = field.substr(kBy.size());
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

absl::StatusOr<Role> ParseRole(std::string_view text) {
  for (const Role role : kRoles) {
    if (text == NameOf(role)) return role;
  }
  return absl::InvalidArgumentError(
      fmt::format("'{}' is not a role: expected viewer, submitter, worker, admin or enrol", text));
}

const char* NameOf(Role role) {
  switch (role) {
    case Role::kViewer:
      return "viewer";
    case Role::kSubmitter:
      return "submitter";
    case Role::kWorker:
      return "worker";
    case Role::kAdmin:
      return "admin";
    case Role::kEnrol:
      return "enrol";
  }
  return "unknown";
}

std::string_view TokenEntry::worker() const {
  if (role != Role::kWorker || !name.starts_with(kWorkerPrefix)) return {};
  return std::string_view(name).substr(kWorkerPrefix.size());
}

std::string TokensPath(const std::string& folder) { return folder + "/tokens"; }

absl::StatusOr<std::vector<TokenEntry>> ReadTokens(const std::string& folder) {
  std::vector<TokenEntry> entries;
  absl::StatusOr<std::string> text = ReadFile(TokensPath(folder));
  if (absl::IsNotFound(text.status())) return entries;
  LOUPE_RETURN_IF_ERROR(text.status());
  // What is written here begins with a comment: no bytes at all are a disk that was full, or a program that is still
  // writing.
  if (text->empty()) {
    return absl::InvalidArgumentError(
        fmt::format("'{}' is empty: remove it if no tokens are wanted", TokensPath(folder)));
  }
  std::istringstream lines(*text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (line.empty() || line.front() == '#') continue;
    TokenEntry entry;
    // A last line without its end may be half of one: "…1764300000" of "…17643000000".
    if (!ParseEntry(line, entry) || lines.eof()) {
      return absl::InvalidArgumentError(
          fmt::format("{}:{}: expected \"name role sha256 expiry [uses=N] [by=NAME]\", and a line end",
                      TokensPath(folder), number));
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

absl::Status EditTokens(const std::string& folder, const std::function<absl::Status(std::vector<TokenEntry>&)>& edit) {
  LOUPE_ASSIGN_OR_RETURN(const TokensLock lock, TokensLock::Take(folder + "/tokens.lock"));
  LOUPE_ASSIGN_OR_RETURN(std::vector<TokenEntry> entries, ReadTokens(folder));
  LOUPE_RETURN_IF_ERROR(edit(entries));
  std::string text = "# name role sha256-of-token expiry-unix-seconds [uses=N] [by=NAME]\n";
  for (const TokenEntry& entry : entries) {
    text += fmt::format("{} {} {} {}", entry.name, NameOf(entry.role), entry.sha256, entry.expiry);
    if (entry.uses != TokenEntry::kAnyNumber) text += fmt::format(" {}{}", kUses, entry.uses);
    if (!entry.by.empty()) text += fmt::format(" {}{}", kBy, entry.by);
    text += '\n';
  }
  return WritePrivateFile(TokensPath(folder), text);
}

std::string NewToken() {
  return fmt::format("{}{}", ToHex(SystemRandom().NextToken()), ToHex(SystemRandom().NextToken()));
}

}  // namespace loupe::coordinator::access
