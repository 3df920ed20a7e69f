#include "worker/agent/leave.h"

#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"

namespace loupe::worker {
namespace {

// More of the grace than this is not kept for a checkpoint.
constexpr absl::Duration kMostForHandingBack = absl::Seconds(30);
constexpr absl::Duration kLeastFarewell = absl::Seconds(5);
// Unix times have ten digits from 2001 to 2286; a shorter number could be seconds or minutes.
constexpr size_t kUnixDigits = 10;

bool IsNumber(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// "[days-][hours:]minutes:seconds"; nothing where it is something else.
std::optional<absl::Duration> SlurmLength(std::string_view text) {
  absl::Duration length;
  const size_t dash = text.find('-');
  if (dash != std::string_view::npos) {
    int64_t days = 0;
    if (!absl::SimpleAtoi(std::string(text.substr(0, dash)), &days) || days < 0 || days > 100000) return std::nullopt;
    length = absl::Hours(24) * days;
    text.remove_prefix(dash + 1);
  }
  const std::vector<std::string> parts = absl::StrSplit(std::string(text), ':');
  if (parts.size() < 2 || parts.size() > 3) return std::nullopt;
  int64_t seconds = 0;
  for (const std::string& part : parts) {
    int64_t number = 0;
    if (!IsNumber(part) || part.size() > 6 || !absl::SimpleAtoi(part, &number)) return std::nullopt;
    seconds = seconds * 60 + number;
  }
  return length + absl::Seconds(seconds);
}

sigset_t LeaveSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGUSR2, SIGHUP, SIGINT}) sigaddset(&signals, signal);
  return signals;
}

const char* NameOfSignal(int signal) {
  switch (signal) {
    case SIGTERM:
      return "SIGTERM";
    case SIGUSR2:
      return "SIGUSR2";
    case SIGHUP:
      return "SIGHUP";
    default:
      return "SIGINT";
  }
}

}  // namespace

absl::StatusOr<absl::Duration> TimeLeft(std::string_view until, absl::Time now) {
  const std::string text(absl::StripAsciiWhitespace(absl::string_view(until.data(), until.size())));
  const std::string word = absl::AsciiStrToUpper(text);
  for (const char* endless : {"", "UNLIMITED", "NOT_SET", "N/A", "NONE", "UNKNOWN"}) {
    if (word == endless) return absl::InfiniteDuration();
  }
  if (word == "INVALID") return absl::ZeroDuration();
  absl::Duration length;
  if (!IsNumber(text) && absl::ParseDuration(text, &length) && length >= absl::ZeroDuration()) return length;
  if (const std::optional<absl::Duration> slurm = SlurmLength(text)) return *slurm;
  absl::Time end;
  int64_t unix_seconds = 0;
  std::string ignored;
  if (IsNumber(text) && text.size() == kUnixDigits && absl::SimpleAtoi(text, &unix_seconds)) {
    end = absl::FromUnixSeconds(unix_seconds);
  } else if (!absl::ParseTime(absl::RFC3339_full, text, &end, &ignored) &&
             !absl::ParseTime("%Y-%m-%dT%H:%M:%S", text, absl::LocalTimeZone(), &end, &ignored)) {
    return absl::InvalidArgumentError(
        fmt::format("'{}' is no end: expected a length (90m, 4:00:00, 1-12:00:00), a time (2026-11-28T18:00:00, in "
                    "local time unless it names a zone; or ten digits of Unix time), or UNLIMITED",
                    text));
  }
  return std::max(end - now, absl::ZeroDuration());
}

absl::Duration FinishWithin(absl::Duration grace) { return std::max(grace / 2, grace - kMostForHandingBack); }

void LeaveBy(absl::Duration left, absl::Duration grace, absl::Duration now, AgentOptions& options) {
  const absl::Duration hand_back = grace - FinishWithin(grace);
  options.until = now + left;
  options.hand_back = hand_back;
  options.farewell = std::max(kLeastFarewell, hand_back);
}

void BlockLeaveSignals() {
  const sigset_t signals = LeaveSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

LeaveOnSignal::~LeaveOnSignal() {
  ended_ = true;
  // Wakes sigwait; nobody else waits for it any more.
  pthread_kill(thread_.native_handle(), SIGTERM);
  thread_.join();
}

void LeaveOnSignal::Wait(Agent& agent, absl::Duration grace) {
  const sigset_t signals = LeaveSignals();
  int signal = 0;
  sigwait(&signals, &signal);
  if (ended_) return;
  if (signal != SIGINT && grace > absl::ZeroDuration()) {
    const absl::Duration finish = FinishWithin(grace);
    spdlog::info("{}: finishing what runs (for at most {}); a second signal hands it back", NameOfSignal(signal),
                 absl::FormatDuration(finish));
    agent.RequestDrain();
    const timespec time = absl::ToTimespec(finish);
    sigtimedwait(&signals, nullptr, &time);
    if (ended_) return;
  }
  spdlog::info("stopping: what runs is handed back");
  agent.RequestStop();
  do {
    sigwait(&signals, &signal);
    if (ended_) return;
  } while (signal != SIGINT);
  spdlog::warn("ended by a further SIGINT");
  std::_Exit(128 + signal);
}

}  // namespace loupe::worker
