#include "tests/testing/coordinator_process.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>
#include <utility>

#include "common/atomic_file.h"
#include "fmt/format.h"

namespace loupe::testing {

ChildProcess::ChildProcess(const std::vector<std::string>& command) {
  // Before the fork: between fork and exec a child of a threaded program may not allocate.
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ != 0) return;
  ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

ChildProcess::~ChildProcess() {
  if (pid_ > 0) Kill(SIGKILL);
}

int ChildProcess::Kill(int signal) {
  ::kill(pid_, signal);
  ::kill(pid_, SIGCONT);
  return Wait();
}

void ChildProcess::Send(int signal) const { ::kill(pid_, signal); }

int ChildProcess::Wait() {
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  return status;
}

bool ChildProcess::Runs() {
  siginfo_t info{};
  return pid_ > 0 && ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == 0;
}

double ChildProcess::CpuSeconds() const {
  std::ifstream file(fmt::format("/proc/{}/stat", pid_));
  std::string line;
  std::getline(file, line);
  // Fields 14 and 15, counted after the command's closing parenthesis, which ends field 2.
  std::istringstream fields(line.substr(line.rfind(')') + 1));
  std::string skipped;
  for (int i = 3; i < 14; ++i) fields >> skipped;
  double user = 0;
  double system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

double ChildProcess::PeakMegabytes() const {
  std::ifstream status(fmt::format("/proc/{}/status", pid_));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtod(line.c_str() + 6, nullptr) / 1024;
  }
  return 0;
}

CoordinatorProcess::CoordinatorProcess(std::vector<std::string> command, std::string data_folder,
                                       std::vector<std::string> arguments, const std::string& listen)
    : command_(std::move(command)), data_folder_(std::move(data_folder)), arguments_(std::move(arguments)) {
  Start(listen);
  connection_ = Connect();
}

void CoordinatorProcess::StartAgain() { Start(address_); }

std::shared_ptr<clients::rpc::Connection> CoordinatorProcess::Connect() const {
  return *clients::rpc::Connection::Open(
      *clients::rpc::ResolveConnectOptions({.address = address_, .token_file = token_file()}));
}

void CoordinatorProcess::Start(const std::string& listen) {
  const std::string address_file = data_folder_ + "/address";
  std::filesystem::remove(address_file);
  std::vector<std::string> command = command_;
  command.insert(command.end(), {"--data", data_folder_, "--listen", listen});
  command.insert(command.end(), arguments_.begin(), arguments_.end());
  process_ = std::make_unique<ChildProcess>(command);
  while (!std::filesystem::exists(address_file)) {
    if (!process_->Runs()) {
      fmt::print(stderr, "{} ended instead of listening on {}\n", command.front(), listen);
      std::abort();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  address_ = *ReadFile(address_file);
  address_.resize(address_.find('\n'));
}

}  // namespace loupe::testing
