#include "cli/run_program.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "fmt/format.h"

extern char** environ;

namespace loupe::cli {
namespace {

// A file in memory that a program writes to: unlike a pipe it never makes the program wait.
class Sink {
 public:
  explicit Sink(const char* name) : fd_(::memfd_create(name, MFD_CLOEXEC)) {}
  ~Sink() {
    if (fd_ >= 0) ::close(fd_);
  }
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  int fd() const { return fd_; }
  std::string Text() const {
    std::string text;
    char buffer[4096];
    off_t at = 0;
    ssize_t count = 0;
    while ((count = ::pread(fd_, buffer, sizeof buffer, at)) > 0) {
      text.append(buffer, static_cast<size_t>(count));
      at += count;
    }
    return text;
  }

 private:
  const int fd_;
};

}  // namespace

absl::StatusOr<ProgramEnd> RunProgram(const std::vector<std::string>& words) {
  const Sink output("output");
  const Sink errors("errors");
  if (output.fd() < 0 || errors.fd() < 0)
    return absl::InternalError(fmt::format("cannot make a file in memory: {}", std::strerror(errno)));
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  std::vector<char*> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!std::string_view(*entry).starts_with("LOUPE_")) environment.push_back(*entry);
  }
  environment.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output.fd(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, errors.fd(), STDERR_FILENO);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT) return absl::NotFoundError(fmt::format("there is no program '{}' on PATH", words[0]));
  if (error != 0) return absl::InternalError(fmt::format("cannot run '{}': {}", words[0], std::strerror(error)));
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return ProgramEnd{WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), output.Text(), errors.Text()};
}

}  // namespace loupe::cli
