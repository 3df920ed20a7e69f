#include "worker/agent/leave.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/logging.h"
#include "fmt/format.h"

namespace loupe::worker::agent {
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

constexpr int kLeaveSignals[] = {SIGTERM, SIGUSR2, SIGHUP, SIGINT};
// What the pipe says when nobody waits for signals any more.
constexpr int kNoSignal = 0;

// From whichever thread a signal is delivered to, to the one that waits for it.
int signal_pipe[2] = {-1, -1};

extern "C" void OnLeaveSignal(int signal) {
  const int saved = errno;
  const char byte = static_cast<char>(signal);
  [[maybe_unused]] const ssize_t written = ::write(signal_pipe[1], &byte, 1);
  errno = saved;
}

// Nothing when the time is over.
std::optional<int> NextSignal(absl::Duration within) {
  const absl::Time end = absl::Now() + within;
  for (;;) {
    const absl::Duration left = std::min(std::max(end - absl::Now(), absl::ZeroDuration()), absl::Hours(1));
    pollfd waited{signal_pipe[0], POLLIN, 0};
    const int ready = ::poll(&waited, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
    char byte = 0;
    if (ready > 0 && ::read(signal_pipe[0], &byte, 1) == 1) return byte;
    if (absl::Now() >= end) return std::nullopt;
  }
}

sigset_t LeaveSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : kLeaveSignals) sigaddset(&signals, signal);
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

void CatchLeaveSignals() {
  if (::pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) != 0) return;
  struct sigaction action {};
  action.sa_handler = OnLeaveSignal;
  action.sa_flags = SA_RESTART;
  action.sa_mask = LeaveSignals();
  for (const int signal : kLeaveSignals) ::sigaction(signal, &action, nullptr);
  // For LeaveOnSignal's thread and, as ever, for those that know nothing of it; child processes inherit it.
  const sigset_t signals = LeaveSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

LeaveOnSignal::~LeaveOnSignal() {
  OnLeaveSignal(kNoSignal);
  thread_.join();
}

void LeaveOnSignal::Wait(Agent& agent, absl::Duration grace) {
  const sigset_t signals = LeaveSignals();
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  int signal = NextSignal(absl::InfiniteDuration()).value_or(kNoSignal);
  if (signal == kNoSignal) return;
  if (signal != SIGINT && grace > absl::ZeroDuration()) {
    const absl::Duration finish = FinishWithin(grace);
    LogInfo("{}: finishing what runs (for at most {}); a second signal hands it back", NameOfSignal(signal),
            absl::FormatDuration(finish));
    agent.RequestDrain();
    if (NextSignal(finish) == kNoSignal) return;
  }
  LogInfo("stopping: what runs is handed back");
  agent.RequestStop();
  do {
    signal = NextSignal(absl::InfiniteDuration()).value_or(kNoSignal);
    if (signal == kNoSignal) return;
  } while (signal != SIGINT);
  LogWarning("ended by a further SIGINT");
  std::_Exit(128 + signal);
}

}  // namespace loupe::worker::agent
