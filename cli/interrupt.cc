#include "cli/interrupt.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace loupe::cli {
namespace {

// The pipe's writing end, for the handler: a handler can reach nothing but globals.
std::atomic<int> signal_pipe = -1;

// Only write(2) happens here: everything else is the thread's, where locks and memory are safe to touch.
void OnSignal(int signal) {
  const int saved = errno;
  const auto byte = static_cast<unsigned char>(signal);
  [[maybe_unused]] const ssize_t written = write(signal_pipe.load(), &byte, 1);
  errno = saved;
}

}  // namespace

InterruptWatch::InterruptWatch(std::function<void(int signal)> on_signal) : on_signal_(std::move(on_signal)) {
  if (pipe2(pipe_, O_CLOEXEC) != 0) std::abort();
  signal_pipe = pipe_[1];
  struct sigaction action {};
  action.sa_handler = &OnSignal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &before_int_);
  sigaction(SIGTERM, &action, &before_term_);
  thread_ = std::thread([this] {
    unsigned char signal = 0;
    while (true) {
      const ssize_t count = read(pipe_[0], &signal, 1);
      if (count < 0 && errno == EINTR) continue;
      // 0 is the destructor's own knock; no signal has that number.
      if (count != 1 || signal == 0) return;
      interrupted_ = true;
      on_signal_(signal);
    }
  });
}

InterruptWatch::~InterruptWatch() {
  sigaction(SIGINT, &before_int_, nullptr);
  sigaction(SIGTERM, &before_term_, nullptr);
  const unsigned char knock = 0;
  [[maybe_unused]] const ssize_t written = write(pipe_[1], &knock, 1);
  thread_.join();
  signal_pipe = -1;
  close(pipe_[0]);
  close(pipe_[1]);
}

}  // namespace loupe::cli
