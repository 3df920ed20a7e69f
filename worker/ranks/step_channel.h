// A connection between two tasks of one job step that have shown each other that they read the step's file
// (job_step.h): messages of any bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace loupe::worker::ranks {

// Who a task is, and what its connection is for.
struct StepHello {
  enum class Kind { kHost, kStore };
  Kind kind = Kind::kHost;
  int rank = 0;
  int64_t job_number = 0;  // kStore
};

// What the step's file says.
struct StepFile {
  std::vector<std::string> addresses;  // numeric, of task 0; tried in this order
  int port = 0;
  std::string secret;

  std::string Encode() const;
  // Throws std::runtime_error when the file is not there (yet), is not private, or is none.
  static StepFile Read(const std::string& path);
};

// Everything throws std::runtime_error when the connection has ended. One thread may send while another receives.
class StepChannel {
 public:
  // To task 0, which must answer within ten seconds.
  static std::unique_ptr<StepChannel> Connect(const StepFile& file, const StepHello& hello);
  // From an accepted connection, which it owns: null where the other side does not know the secret.
  static std::unique_ptr<StepChannel> Accept(int fd, const std::string& secret, StepHello& hello);
  ~StepChannel();
  StepChannel(const StepChannel&) = delete;
  StepChannel& operator=(const StepChannel&) = delete;

  void Send(std::string_view message);
  std::string Receive();
  // Whether there is something to receive (or the connection has ended), within so long.
  bool Readable(int milliseconds) const;
  // Ends it for both sides, from any thread.
  void Shutdown();
  // Numeric; by which this side is reached from the other.
  std::string local_address() const;

 private:
  explicit StepChannel(int fd) : fd_(fd) {}
  void Limit(int seconds);
  const int fd_;
};

}  // namespace loupe::worker::ranks
