// A coordinator as a user starts it: a process of its own, to be killed, stopped and started again on the same data.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "clients/rpc/connection.h"

namespace loupe::testing {

// A child process; killed when the object goes. Not thread-safe.
class ChildProcess {
 public:
  // `command[0]` is the program's path.
  explicit ChildProcess(const std::vector<std::string>& command);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // Sends it (waking a stopped process first) and waits for the end; the wait status.
  int Kill(int signal);
  void Send(int signal) const;
  // The wait status.
  int Wait();
  // Whether it has not ended yet.
  bool Runs();
  pid_t pid() const { return pid_; }

  // From /proc, while it runs.
  double CpuSeconds() const;
  // Largest resident memory so far.
  double PeakMegabytes() const;

 private:
  pid_t pid_ = -1;
};

class CoordinatorProcess {
 public:
  // Runs `command` (the program, perhaps behind one that starts it) on `data_folder`, and waits until it listens. Ends
  // the process when it does not.
  CoordinatorProcess(std::vector<std::string> command, std::string data_folder, std::vector<std::string> arguments = {},
                     const std::string& listen = "127.0.0.1:0");

  int Kill(int signal) { return process_->Kill(signal); }
  // On the same data and port, after Kill.
  void StartAgain();

  const std::string& address() const { return address_; }
  const std::string& data_folder() const { return data_folder_; }
  std::string token_file() const { return data_folder_ + "/token"; }
  // With the administrator's token; finds the coordinator again after a restart.
  const std::shared_ptr<clients::rpc::Connection>& connection() const { return connection_; }
  // Another connection of its own.
  std::shared_ptr<clients::rpc::Connection> Connect() const;
  ChildProcess& process() { return *process_; }

 private:
  void Start(const std::string& listen);

  const std::vector<std::string> command_;
  const std::string data_folder_;
  const std::vector<std::string> arguments_;
  std::string address_;
  std::unique_ptr<ChildProcess> process_;
  std::shared_ptr<clients::rpc::Connection> connection_;
};

}  // namespace loupe::testing
