// Ctrl-C as an ordinary event.
#pragma once

#include <signal.h>

#include <atomic>
#include <functional>
#include <thread>

namespace loupe::cli {

// While it lives, SIGINT and SIGTERM end nothing by themselves: they call `on_signal(signal)` on a thread of its own,
// for the first and every later one. Only one at a time; the destructor restores what the signals did before.
class InterruptWatch {
 public:
  explicit InterruptWatch(std::function<void(int signal)> on_signal);
  ~InterruptWatch();
  InterruptWatch(const InterruptWatch&) = delete;
  InterruptWatch& operator=(const InterruptWatch&) = delete;

  bool interrupted() const { return interrupted_; }

 private:
  std::function<void(int)> on_signal_;
  std::atomic<bool> interrupted_ = false;
  struct sigaction before_int_ {};
  struct sigaction before_term_ {};
  int pipe_[2] = {-1, -1};
  std::thread thread_;
};

}  // namespace loupe::cli
