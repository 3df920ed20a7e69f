// `loupe logs`: what a trial's worker logged, and what it logs.
#include "cli/logs_command.h"

#include <atomic>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "cli/connect.h"
#include "cli/exit_code.h"
#include "cli/failure.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/sweep_follower.h"
#include "cli/sweep_name.h"
#include "cli/views.h"
#include "common/clock.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "fmt/format.h"
#include "loupe/v1/trial.grpc.pb.h"

namespace loupe::cli {
namespace {

// One call is held so long: an interrupt ends it, a restart of the coordinator may not be seen before.
constexpr int64_t kHoldSeconds = 5;
// Between two questions where nothing is to be held: until a trial has its next attempt.
constexpr absl::Duration kBetweenAttempts = absl::Seconds(1);

struct LogsFlags {
  ConnectFlags connect;
  std::string sweep;
  std::string trial;
  bool follow = false;
  int64_t attempt = 0;
  int64_t after = 0;
  int32_t tail = 0;
  double patience_seconds = 120;
  std::string format;
};

// "quickstart" "3", "quickstart/3" or "sweeps/quickstart/trials/3".
absl::StatusOr<std::string> NameOfTrial(const LogsFlags& flags) {
  std::string sweep = flags.sweep;
  std::string trial = flags.trial;
  if (trial.empty()) {
    const size_t slash = sweep.rfind('/');
    if (slash != std::string::npos) {
      trial = sweep.substr(slash + 1);
      sweep.resize(slash);
      if (sweep.ends_with("/trials")) sweep.resize(sweep.size() - std::string_view("/trials").size());
    }
  }
  int64_t index = 0;
  if (!absl::SimpleAtoi(trial, &index) || index < 0) {
    return absl::InvalidArgumentError(fmt::format(
        "'{}{}{}' names no trial: expected a sweep and a trial's number, as in 'quickstart 3' or 'quickstart/3'",
        flags.sweep, flags.trial.empty() ? "" : " ", flags.trial));
  }
  return TrialName(sweep, index);
}

bool HasEnded(v1::Trial::State state) { return state != v1::Trial::QUEUED && state != v1::Trial::RUNNING; }

// Prints an attempt's lines, and what is to be said of them on stderr.
class LinePrinter {
 public:
  LinePrinter(bool json, std::string trial) : json_(json), trial_(std::move(trial)) {}

  void Show(const v1::ListTrialLogsResponse& page) {
    if (page.epoch() != shown_epoch_) {
      shown_epoch_ = page.epoch();
      shown_dropped_ = 0;
      if (!json_ && page.epoch() > 0 && page.latest_epoch() > 1)
        fmt::print(stderr, "loupe: attempt {} of {}\n", page.epoch(), page.latest_epoch());
    }
    if (page.dropped() > shown_dropped_) {
      fmt::print(stderr, "loupe: {} lines of attempt {} are no longer kept\n", page.dropped(), page.epoch());
      shown_dropped_ = page.dropped();
    }
    shown_lines_ += page.lines_size();
    for (const v1::LogLine& line : page.lines()) {
      json_ ? PrintJson(line) : PrintText(line);
    }
    std::fflush(stdout);
  }

  int64_t shown_lines() const { return shown_lines_; }

 private:
  static absl::Time TimeOf(const v1::LogLine& line) {
    return absl::FromUnixSeconds(line.time().seconds()) + absl::Nanoseconds(line.time().nanos());
  }
  void PrintText(const v1::LogLine& line) {
    const char* level = line.level() == v1::LogLine::ERROR     ? "error: "
                        : line.level() == v1::LogLine::WARNING ? "warning: "
                                                               : "";
    fmt::print("{}  {}{}\n", absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", TimeOf(line), absl::UTCTimeZone()), level,
               Printable(line.text()));
  }
  void PrintJson(const v1::LogLine& line) {
    nlohmann::ordered_json json;
    json["trial"] = trial_;
    json["attempt"] = shown_epoch_;
    json["sequence"] = line.sequence();
    json["time"] = absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", TimeOf(line), absl::UTCTimeZone());
    json["level"] = line.level() == v1::LogLine::ERROR     ? "error"
                    : line.level() == v1::LogLine::WARNING ? "warning"
                                                           : "info";
    json["text"] = line.text();
    fmt::print("{}", JsonText(json, -1));
  }

  const bool json_;
  const std::string trial_;
  int64_t shown_epoch_ = 0;
  int64_t shown_dropped_ = 0;
  int64_t shown_lines_ = 0;
};

// Reads to the end that there is now, or follows to the trial's.
class LogReader {
 public:
  LogReader(const LogsFlags& flags, const clients::rpc::Connection& connection, const std::string& trial)
      : flags_(flags),
        connection_(connection),
        stub_(v1::TrialService::NewStub(connection.channel())),
        printer_(flags.format == "json", trial) {
    request_.set_parent(trial);
    request_.set_epoch(flags.attempt);
    request_.set_after(flags.after);
    request_.set_tail(flags.tail);
    request_.set_page_size(2000);
    if (flags.follow) request_.mutable_max_wait()->set_seconds(kHoldSeconds);
  }

  // From any thread.
  void Interrupt() {
    interrupted_ = true;
    call_.Cancel();
  }

  int64_t shown_lines() const { return printer_.shown_lines(); }

  // Of the last page. CANCELLED after Interrupt.
  absl::StatusOr<v1::ListTrialLogsResponse> Run() {
    while (true) {
      LOUPE_ASSIGN_OR_RETURN(const v1::ListTrialLogsResponse page, Ask());
      printer_.Show(page);
      Advance(page);
      if (page.more()) continue;
      if (!flags_.follow) return page;
      if (!page.ended()) continue;
      if (flags_.attempt > 0 || (HasEnded(page.trial_state()) && page.epoch() == page.latest_epoch())) return page;
      if (page.epoch() < page.latest_epoch()) {
        request_.set_epoch(page.epoch() + 1);
        request_.set_after(0);
      } else {
        Pause(kBetweenAttempts);
      }
    }
  }

 private:
  void Advance(const v1::ListTrialLogsResponse& page) {
    if (page.epoch() > 0) request_.set_epoch(page.epoch());
    if (!page.lines().empty()) {
      request_.set_after(page.lines().rbegin()->sequence());
      request_.clear_tail();
    }
  }

  // One page; a coordinator that answered before and is away is waited for.
  absl::StatusOr<v1::ListTrialLogsResponse> Ask() {
    absl::Duration away_since = absl::InfiniteDuration();
    while (true) {
      v1::ListTrialLogsResponse page;
      grpc::ClientContext& context = call_.Renew();
      connection_.Prepare(context);
      const absl::Status status = connection_.Check(stub_->ListTrialLogs(&context, request_, &page));
      if (interrupted_) return absl::CancelledError("interrupted");
      if (status.ok()) {
        heard_ = true;
        return page;
      }
      if (!heard_ || !flags_.follow || status.code() != absl::StatusCode::kUnavailable) return status;
      const absl::Duration now = SystemClock().MonotonicNow();
      if (away_since == absl::InfiniteDuration()) {
        fmt::print(stderr, "loupe: lost the coordinator; waiting for it to come back\n");
        away_since = now;
      }
      if (now - away_since > absl::Seconds(flags_.patience_seconds)) return status;
      (void)connection_.WaitUntilConnected(absl::Seconds(1));
    }
  }

  // In short pieces, for an interrupt.
  void Pause(absl::Duration time) const {
    const absl::Duration end = SystemClock().MonotonicNow() + time;
    while (!interrupted_ && SystemClock().MonotonicNow() < end)
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }

  const LogsFlags& flags_;
  const clients::rpc::Connection& connection_;
  const std::unique_ptr<v1::TrialService::Stub> stub_;
  LinePrinter printer_;
  v1::ListTrialLogsRequest request_;
  CancelableContext call_;
  std::atomic<bool> interrupted_ = false;
  bool heard_ = false;
};

int ShowLogs(const LogsFlags& flags) {
  const absl::StatusOr<std::string> trial = NameOfTrial(flags);
  if (!trial.ok()) return Fail(trial.status());
  const absl::StatusOr<std::shared_ptr<clients::rpc::Connection>> connection = Connect(flags.connect);
  if (!connection.ok()) return Fail(connection.status());
  LogReader reader(flags, **connection, *trial);
  const InterruptWatch interrupt([&](int) { reader.Interrupt(); });
  const absl::StatusOr<v1::ListTrialLogsResponse> last = reader.Run();
  if (interrupt.interrupted()) return kInterrupted;
  if (!last.ok()) {
    return Fail(
        last.status().code() != absl::StatusCode::kUnimplemented
            ? last.status()
            : absl::UnimplementedError("the coordinator is older than this command: it keeps no logs of trials"));
  }
  if (reader.shown_lines() == 0 && flags.after == 0) {
    fmt::print(stderr, "loupe: {}\n",
               last->epoch() == 0 ? fmt::format("{} has had no attempt", *trial)
               : last->ended()    ? fmt::format("no log is kept of attempt {}: it has been dropped for newer ones, or "
                                                   "its worker is too old to send one",
                                                last->epoch())
                                  : fmt::format("attempt {} has logged nothing yet", last->epoch()));
  }
  const bool has_ended = flags.follow && HasEnded(last->trial_state());
  return has_ended && last->trial_state() != v1::Trial::SUCCEEDED ? kSweepIncomplete : kOk;
}

}  // namespace

void AddLogsCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("logs", "What a trial's worker logged");
  const auto flags = std::make_shared<LogsFlags>();
  command->add_option("sweep", flags->sweep, "The sweep's name; or SWEEP/TRIAL")->required();
  command->add_option("trial", flags->trial, "The trial's number in the sweep, from 0");
  command->add_flag("--follow,-f", flags->follow, "Go on until the trial has ended, through all of its attempts");
  command->add_option("--attempt", flags->attempt, "Which attempt, from 1; default: the latest")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  command->add_option("--after", flags->after, "Only lines behind the one with this number")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--tail", flags->tail, "Only the last so many lines")->check(CLI::Range(1, 1'000'000'000));
  command->add_option("--patience", flags->patience_seconds, "Seconds to wait for a coordinator that went away")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  AddFormatOption(*command, flags->format, {"text", "json"});
  AddConnectOptions(*command, flags->connect);
  command->callback([flags, &exit_code] { exit_code = ShowLogs(*flags); });
}

}  // namespace loupe::cli
