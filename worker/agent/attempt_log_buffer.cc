#include "worker/agent/attempt_log_buffer.h"

#include <algorithm>
#include <utility>

#include "common/text.h"

namespace loupe::worker::agent {
namespace {

v1::LogLine::Level ToProto(executor::LogLevel level) {
  switch (level) {
    case executor::LogLevel::kInfo:
      return v1::LogLine::INFO;
    case executor::LogLevel::kWarning:
      return v1::LogLine::WARNING;
    case executor::LogLevel::kError:
      break;
  }
  return v1::LogLine::ERROR;
}

}  // namespace

void AttemptLogBuffer::Add(absl::Time time, executor::LogLevel level, std::string_view text) {
  v1::LogLine line;
  line.set_sequence(++last_);
  const int64_t micros = absl::ToUnixMicros(time);
  line.mutable_time()->set_seconds(micros / 1'000'000);
  line.mutable_time()->set_nanos(static_cast<int32_t>(micros % 1'000'000 * 1000));
  line.set_level(ToProto(level));
  line.set_text(Shortened(text, kMostLineBytes));
  lines_.push_back(std::move(line));
  if (lines_.size() > kMostWaiting) lines_.pop_front();
}

void AttemptLogBuffer::Fill(size_t most_bytes, bool last, v1::AttemptReport& report) const {
  size_t fit = 0;
  for (size_t bytes = 0; fit < std::min(lines_.size(), kMostLines); ++fit) {
    bytes += lines_[last ? lines_.size() - 1 - fit : fit].ByteSizeLong();
    if (bytes > most_bytes) break;
  }
  const size_t from = last ? lines_.size() - fit : 0;
  for (size_t i = from; i < from + fit; ++i) *report.add_log() = lines_[i];
}

void AttemptLogBuffer::Acknowledge(int64_t sequence) {
  while (!lines_.empty() && lines_.front().sequence() <= sequence) lines_.pop_front();
}

}  // namespace loupe::worker::agent
