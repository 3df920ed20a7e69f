// What an attempt has logged and the coordinator has not got yet.
//
// Law: bounded, whatever is logged and however long nobody takes it: the oldest lines give way, and the numbers of
// those that stay say so. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string_view>

#include "absl/time/time.h"
#include "loupe/v1/worker.pb.h"
#include "worker/executor/attempt.h"

namespace loupe::worker::agent {

class AttemptLogBuffer {
 public:
  // A line of any bytes; what a message cannot carry is escaped, and a long one cut.
  void Add(absl::Time time, executor::LogLevel level, std::string_view text);
  // Lines, as many as fit `most_bytes` and kMostLines: the oldest; in a last report, which no other follows, the
  // newest.
  void Fill(size_t most_bytes, bool last, v1::AttemptReport& report) const;
  // The coordinator has heard the lines up to `sequence`.
  void Acknowledge(int64_t sequence);

  static constexpr size_t kMostLineBytes = 2048;
  // Of one message, and of what waits for one.
  static constexpr size_t kMostLines = 200;
  static constexpr size_t kMostWaiting = 1000;
  // That a message spends on all attempts, and on one.
  static constexpr size_t kMostMessageBytes = 1 << 20;
  static constexpr size_t kMostBytes = 64 << 10;

 private:
  std::deque<v1::LogLine> lines_;
  int64_t last_ = 0;
};

}  // namespace loupe::worker::agent
