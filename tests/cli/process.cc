#include "tests/cli/process.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace loupe::cli {
namespace {

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// In the child.
[[noreturn]] void Become(const std::string& program, const std::vector<std::string>& arguments,
                         const std::map<std::string, std::string>& environment) {
  for (const char* name : {"LOUPE_ADDRESS", "LOUPE_TOKEN", "LOUPE_TOKEN_FILE", "LOUPE_CA_FILE"}) unsetenv(name);
  for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> list = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) list.push_back(const_cast<char*>(argument.c_str()));
  list.push_back(nullptr);
  execv(program.c_str(), list.data());
  _exit(126);
}

int ExitCodeOf(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "loupe-cli-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) std::abort();
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

std::string TemporaryFolder::Write(const std::string& name, const std::string& text) const {
  const std::string path = path_ + "/" + name;
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

ProcessResult RunProcess(const std::string& program, const std::vector<std::string>& arguments,
                         const std::string& directory, const std::map<std::string, std::string>& environment,
                         const std::string& input) {
  // Files, not pipes: nothing can block, whatever the program writes first.
  const TemporaryFolder folder;
  const std::string in = folder.Write("in", input);
  const std::string out = folder.path() + "/out";
  const std::string err = folder.path() + "/err";
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(open(in.c_str(), O_RDONLY), STDIN_FILENO);
    dup2(open(out.c_str(), O_WRONLY | O_CREAT, 0600), STDOUT_FILENO);
    dup2(open(err.c_str(), O_WRONLY | O_CREAT, 0600), STDERR_FILENO);
    if (!directory.empty() && chdir(directory.c_str()) != 0) _exit(126);
    Become(program, arguments, environment);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return {.exit_code = ExitCodeOf(status), .out = ReadAll(out), .err = ReadAll(err)};
}

TerminalProcess::TerminalProcess(const std::string& program, const std::vector<std::string>& arguments,
                                 const std::map<std::string, std::string>& environment) {
  const winsize size{.ws_row = 24, .ws_col = 80, .ws_xpixel = 0, .ws_ypixel = 0};
  process_ = forkpty(&terminal_, nullptr, nullptr, &size);
  if (process_ == 0) {
    std::map<std::string, std::string> with_term = environment;
    with_term.emplace("TERM", "xterm-256color");
    unsetenv("NO_COLOR");
    Become(program, arguments, with_term);
  }
}

TerminalProcess::~TerminalProcess() {
  if (process_ > 0) {
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
  }
  close(terminal_);
}

bool TerminalProcess::ReadMore() {
  pollfd source{.fd = terminal_, .events = POLLIN, .revents = 0};
  constexpr int kPatienceMs = 60000;
  if (poll(&source, 1, kPatienceMs) != 1) return false;
  char buffer[4096];
  // EIO once nobody has the terminal open any more.
  const ssize_t count = read(terminal_, buffer, sizeof buffer);
  if (count <= 0) return false;
  output_.append(buffer, static_cast<size_t>(count));
  return true;
}

bool TerminalProcess::Await(const std::string& text) {
  // A program that goes on writing without the text must not be waited for for ever either.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  size_t at = 0;
  while ((at = output_.find(text, found_)) == std::string::npos) {
    if (std::chrono::steady_clock::now() > deadline || !ReadMore()) return false;
  }
  found_ = at + text.size();
  return true;
}

void TerminalProcess::Type(const std::string& keys) {
  [[maybe_unused]] const ssize_t written = write(terminal_, keys.data(), keys.size());
}

void TerminalProcess::Resize(int columns, int lines) {
  const winsize size{.ws_row = static_cast<unsigned short>(lines),
                     .ws_col = static_cast<unsigned short>(columns),
                     .ws_xpixel = 0,
                     .ws_ypixel = 0};
  ioctl(terminal_, TIOCSWINSZ, &size);
}

void TerminalProcess::Continue() {
  int status = 0;
  waitpid(process_, &status, WUNTRACED);
  kill(process_, SIGCONT);
}

bool TerminalProcess::Echoes() const {
  termios settings{};
  return tcgetattr(terminal_, &settings) == 0 && (settings.c_lflag & ECHO) != 0;
}

int TerminalProcess::Wait() {
  while (ReadMore()) {
  }
  int status = 0;
  waitpid(process_, &status, 0);
  process_ = -1;
  return ExitCodeOf(status);
}

}  // namespace loupe::cli
