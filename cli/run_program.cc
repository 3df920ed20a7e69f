#include "cli/run_program.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>

#include "common/program_start.h"
#include "fmt/format.h"

namespace loupe::cli {

absl::StatusOr<ProgramEnd> RunProgram(const std::vector<std::string>& words) {
  const MemoryFile output("output"), errors("errors");
  if (!output.good() || !errors.good())
    return absl::InternalError(fmt::format("cannot make a file in memory: {}", std::strerror(errno)));
  const std::vector<char*> arguments = ArgumentsOf(words), environment = EnvironmentForOthers();

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
