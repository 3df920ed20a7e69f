// One child process whose output goes to a log file.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace loupe::cli {

struct ChildCommand {
  std::string program;                 // a path
  std::vector<std::string> arguments;  // without the program itself
  std::string log_path;                // stdout and stderr are appended to it
};

// How a process ended.
struct ChildEnd {
  int exit_code = 0;  // of a process that ended by itself
  int signal = 0;     // that killed it; 0 when it ended by itself
  // "exit code 3", "killed by signal 9".
  std::string Text() const;
};

// Owns the process: it must have ended (Poll) before this goes. Move-only in spirit, copied nowhere. Not thread-safe;
// start children from a thread that lives as long as they do, since the kernel ends them with that thread.
class ChildProcess {
 public:
  // The child gets a process group of its own (Ctrl-C in the terminal reaches the parent alone, which stops its
  // children in order), standard input from /dev/null, and SIGTERM when the parent dies, however it dies. NOT_FOUND or
  // PERMISSION_DENIED names the program or the log file.
  static absl::StatusOr<ChildProcess> Start(const ChildCommand& command);

  pid_t pid() const { return pid_; }
  // How it ended, or nullopt while it runs. Does not wait.
  std::optional<ChildEnd> Poll();
  // Sends `signal`; nothing when it has ended.
  void Signal(int signal);

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}
  pid_t pid_;
  std::optional<ChildEnd> end_;
};

// Programs are looked for beside this one: a build tree and an installation look the same. NOT_FOUND where it is not.
absl::StatusOr<std::string> ProgramBeside(const std::string& name);

}  // namespace loupe::cli
