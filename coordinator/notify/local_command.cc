#include "coordinator/notify/local_command.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/program_start.h"
#include "common/text.h"
#include "fmt/format.h"

namespace loupe::coordinator::notify {
namespace {

constexpr absl::Duration kLook = absl::Milliseconds(20);
constexpr size_t kMostErrorBytes = 300;

absl::StatusOr<pid_t> Spawn(const std::vector<std::string>& words, const MemoryFile& input, const MemoryFile& errors) {
  const std::vector<char*> arguments = ArgumentsOf(words), environment = EnvironmentForOthers();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input.fd(), STDIN_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, errors.fd(), STDERR_FILENO);
  // Sockets of clients and the database's files are nobody else's.
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  // The coordinator's threads block SIGTERM, and it ignores SIGPIPE: both would be inherited.
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, arguments[0], &actions, &attributes, arguments.data(), environment.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return absl::UnavailableError(fmt::format("cannot run '{}': {}", words[0], std::strerror(error)));
  return pid;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> CommandWords(std::string_view text) {
  const std::vector<std::string> words =
      absl::StrSplit(absl::string_view(text.data(), text.size()), absl::ByAnyChar(" \t"), absl::SkipEmpty());
  if (words.empty() || words[0].front() != '/') {
    return absl::InvalidArgumentError(
        fmt::format("the command for notifications, '{}', does not begin with the absolute path of a program", text));
  }
  struct stat info {};
  if (::stat(words[0].c_str(), &info) != 0 || !S_ISREG(info.st_mode) || ::access(words[0].c_str(), X_OK) != 0) {
    return absl::InvalidArgumentError(
        fmt::format("the command for notifications: '{}' is no program that can be run here", words[0]));
  }
  return words;
}

absl::Status RunLocalCommand(const std::vector<std::string>& words, std::string_view input, absl::Duration timeout) {
  const MemoryFile message("notification", input), errors("errors");
  if (!message.good() || !errors.good()) return absl::UnavailableError("no memory for the message");
  const absl::StatusOr<pid_t> pid = Spawn(words, message, errors);
  if (!pid.ok()) return pid.status();
  const absl::Time deadline = absl::Now() + timeout;
  int status = 0;
  pid_t ended = 0;
  while ((ended = ::waitpid(*pid, &status, WNOHANG)) == 0 || (ended < 0 && errno == EINTR)) {
    if (absl::Now() > deadline) {
      ::kill(-*pid, SIGKILL);
      ::waitpid(*pid, &status, 0);
      return absl::DeadlineExceededError(
          fmt::format("'{}' has not ended in {}", words[0], absl::FormatDuration(timeout)));
    }
    absl::SleepFor(kLook);
  }
  if (ended == *pid && WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  const std::string said = Printable(std::string(absl::StripAsciiWhitespace(errors.Text(kMostErrorBytes))));
  return absl::UnavailableError(fmt::format("'{}' ended with {}{}{}", words[0],
                                            WIFSIGNALED(status) ? fmt::format("signal {}", WTERMSIG(status))
                                                                : fmt::format("exit code {}", WEXITSTATUS(status)),
                                            said.empty() ? "" : ": ", said));
}

}  // namespace loupe::coordinator::notify
