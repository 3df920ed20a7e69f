#include "cli/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/status/status.h"
#include "fmt/format.h"

namespace loupe::cli {
namespace {

// Runs in the child, between fork and exec: system calls only, since other threads of the parent may have held locks.
[[noreturn]] void BecomeProgram(const char* program, char* const* arguments, int log, int null, int error_pipe,
                                pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  // The parent may have died before the line above.
  if (getppid() != parent) _exit(127);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  signal(SIGPIPE, SIG_DFL);
  dup2(null, STDIN_FILENO);
  dup2(log, STDOUT_FILENO);
  dup2(log, STDERR_FILENO);
  execv(program, arguments);
  const int error = errno;
  [[maybe_unused]] const ssize_t written = write(error_pipe, &error, sizeof error);
  _exit(127);
}

absl::Status FromErrno(int error, std::string_view what) {
  return absl::ErrnoToStatus(error, fmt::format("{}: {}", what, std::strerror(error)));
}

// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { Close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

}  // namespace

std::string ChildEnd::Text() const {
  return signal != 0 ? fmt::format("killed by signal {}", signal) : fmt::format("exit code {}", exit_code);
}

absl::StatusOr<ChildProcess> ChildProcess::Start(const ChildCommand& command) {
  const Descriptor log(open(command.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (log.get() < 0) return FromErrno(errno, fmt::format("cannot write the log '{}'", command.log_path));
  const Descriptor null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (null.get() < 0) return FromErrno(errno, "cannot open /dev/null");
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return FromErrno(errno, "cannot make a pipe");
  const Descriptor reading(ends[0]);
  Descriptor writing(ends[1]);
  std::vector<char*> arguments = {const_cast<char*>(command.program.c_str())};
  for (const std::string& argument : command.arguments) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return FromErrno(errno, "cannot start a process");
  if (pid == 0) BecomeProgram(command.program.c_str(), arguments.data(), log.get(), null.get(), writing.get(), parent);
  writing.Close();
  // The pipe closes without a word when exec succeeds.
  int error = 0;
  ssize_t count = 0;
  do {
    count = read(reading.get(), &error, sizeof error);
  } while (count < 0 && errno == EINTR);
  if (count == static_cast<ssize_t>(sizeof error)) {
    waitpid(pid, nullptr, 0);
    return FromErrno(error, fmt::format("cannot run '{}'", command.program));
  }
  return ChildProcess(pid);
}

std::optional<ChildEnd> ChildProcess::Poll() {
  if (end_.has_value()) return end_;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  end_ = WIFSIGNALED(status) ? ChildEnd{.signal = WTERMSIG(status)} : ChildEnd{.exit_code = WEXITSTATUS(status)};
  return end_;
}

void ChildProcess::Signal(int signal) {
  if (!end_.has_value()) kill(pid_, signal);
}

absl::StatusOr<std::string> ProgramBeside(const std::string& name) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return absl::InternalError(fmt::format("cannot tell where this program is: {}", error.message()));
  const std::string path = self.parent_path() / name;
  if (access(path.c_str(), X_OK) == 0) return path;
  return absl::NotFoundError(
      fmt::format("'{}' is not there; build or install {} beside {}", path, name, self.filename().string()));
}

}  // namespace loupe::cli
