#include "cli/watch.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <mutex>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/failure.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress_view.h"
#include "cli/sweep_name.h"
#include "cli/views.h"
#include "common/clock.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "fmt/format.h"
#include "loupe/v1/sweep.grpc.pb.h"

namespace loupe::cli {
namespace {

// Off a terminal, lines come no faster than this, however fast trials end.
constexpr absl::Duration kLeastGap = absl::Seconds(5);

// Draws on a terminal, or writes lines elsewhere. Not thread-safe.
class ProgressPrinter {
 public:
  ProgressPrinter(bool json, absl::Duration quiet)
      : json_(json), quiet_(quiet), terminal_(!json && isatty(STDOUT_FILENO) == 1) {}

  void Show(const v1::WatchSweepResponse& state, absl::Duration now) {
    view_.Update(state, now);
    if (json_) return ShowJson(state);
    if (terminal_) return Draw();
    const int64_t ended = EndedTrials(state.sweep().counts());
    const bool changed = ended != shown_ended_ || state.sweep().state() != shown_state_;
    const bool ending = IsTerminal(state.sweep().state()) || state.sweep().state() != shown_state_;
    if (!ending && now - shown_at_ < (changed ? std::min(kLeastGap, quiet_) : quiet_)) return;
    shown_ended_ = ended;
    shown_state_ = state.sweep().state();
    shown_at_ = now;
    fmt::print("{}\n", Printable(view_.PlainLine()));
    std::fflush(stdout);
  }

  // A line that stays, above or after the progress.
  void Say(const std::string& line) {
    Erase();
    fmt::print(stderr, "{}\n", Printable(line));
  }

  // Leaves the cursor below what is drawn.
  void Finish() { drawn_ = 0; }

 private:
  void ShowJson(const v1::WatchSweepResponse& state) {
    nlohmann::ordered_json json;
    json["sweep"] = SweepJson(state.sweep());
    json["running"] = nlohmann::ordered_json::array();
    for (const v1::RunningAttempt& attempt : state.running()) json["running"].push_back(RunningJson(attempt));
    fmt::print("{}", JsonText(json, -1));
    std::fflush(stdout);
  }

  void Erase() {
    // Up over what was drawn and clear to the end of the screen (ECMA-48 CUU and ED).
    if (drawn_ > 0) fmt::print("\x1b[{}A\x1b[J", drawn_);
    drawn_ = 0;
    std::fflush(stdout);
  }

  void Draw() {
    winsize size{};
    const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0;
    const std::vector<std::string> lines =
        view_.TerminalLines(known ? size.ws_col : 80, known ? std::min<int>(size.ws_row - 1, 20) : 10);
    Erase();
    for (const std::string& line : lines) fmt::print("{}\n", line);
    drawn_ = lines.size();
    std::fflush(stdout);
  }

  const bool json_;
  const absl::Duration quiet_;
  const bool terminal_;
  ProgressView view_;
  size_t drawn_ = 0;
  int64_t shown_ended_ = -1;
  v1::Sweep::State shown_state_ = v1::Sweep::STATE_UNSPECIFIED;
  absl::Duration shown_at_ = -absl::InfiniteDuration();
};

// The call in progress, so that an interrupt can end it.
class CancelableContext {
 public:
  grpc::ClientContext& Renew() {
    std::lock_guard lock(mutex_);
    context_ = std::make_unique<grpc::ClientContext>();
    if (cancelled_) context_->TryCancel();
    return *context_;
  }
  void Cancel() {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (context_ != nullptr) context_->TryCancel();
  }

 private:
  std::mutex mutex_;
  std::unique_ptr<grpc::ClientContext> context_;
  bool cancelled_ = false;
};

int ExitCodeOfEnd(const v1::Sweep& sweep) {
  return sweep.counts().succeeded() == sweep.counts().total() ? kOk : kSweepIncomplete;
}

// Reads one stream until it ends. Returns the last state seen, if any, in `last`.
absl::Status FollowStream(const Connection& connection, const std::string& name, grpc::ClientContext& context,
                          ProgressPrinter& printer, std::optional<v1::Sweep>& last) {
  const auto stub = v1::SweepService::NewStub(connection.channel());
  connection.Prepare(context, absl::InfiniteDuration());
  v1::WatchSweepRequest request;
  request.set_name(name);
  const auto reader = stub->WatchSweep(&context, request);
  v1::WatchSweepResponse state;
  while (reader->Read(&state)) {
    printer.Show(state, SystemClock().MonotonicNow());
    last = state.sweep();
  }
  return connection.Check(reader->Finish());
}

}  // namespace

int WatchSweep(const WatchOptions& options) {
  const absl::StatusOr<std::string> name = SweepName(options.sweep);
  if (!name.ok()) return Fail(name.status());
  const absl::StatusOr<std::shared_ptr<Connection>> connection = Connect(options.connect);
  if (!connection.ok()) return Fail(connection.status());
  CancelableContext call;
  InterruptWatch interrupt([&](int) { call.Cancel(); });
  ProgressPrinter printer(options.json, options.quiet);
  std::optional<v1::Sweep> last;
  absl::Duration away_since = absl::InfiniteDuration();
  while (true) {
    const std::optional<v1::Sweep> before = last;
    last.reset();
    const absl::Status status = FollowStream(**connection, *name, call.Renew(), printer, last);
    if (last.has_value()) away_since = absl::InfiniteDuration();
    if (!last.has_value()) last = before;
    if (interrupt.interrupted()) {
      printer.Finish();
      fmt::print(
          stderr,
          "loupe: stopped watching; the sweep goes on ('loupe watch {0}' shows it, 'loupe cancel {0}' ends it)\n",
          LastPart(*name));
      return kInterrupted;
    }
    if (last.has_value() && IsTerminal(last->state())) {
      printer.Finish();
      return ExitCodeOfEnd(*last);
    }
    // A coordinator that was there and went away is probably being restarted.
    const bool transient = status.ok() || status.code() == absl::StatusCode::kUnavailable;
    const absl::Duration now = SystemClock().MonotonicNow();
    if (away_since == absl::InfiniteDuration()) {
      if (!transient || !last.has_value()) return Fail(status);
      printer.Say("loupe: lost the coordinator; waiting for it to come back");
      away_since = now;
    }
    if (!transient || now - away_since > options.patience) return Fail(status);
    // WaitForConnected cannot be interrupted, so in short pieces.
    (void)(*connection)->WaitUntilConnected(absl::Seconds(1));
  }
}

void AddWatchCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("watch", "Follow a sweep to its end");
  struct Flags {
    WatchOptions options;
    std::string format;
    double quiet_seconds = 30;
    double patience_seconds = 120;
  };
  const auto flags = std::make_shared<Flags>();
  command->add_option("sweep", flags->options.sweep, "The sweep's name")->required();
  command
      ->add_option("--quiet-seconds", flags->quiet_seconds, "In a pipe: least time between lines while no trial ends")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  command->add_option("--patience", flags->patience_seconds, "Seconds to wait for a coordinator that went away")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  AddFormatOption(*command, flags->format, {"text", "json"});
  AddConnectOptions(*command, flags->options.connect);
  command->callback([flags, &exit_code] {
    flags->options.json = flags->format == "json";
    flags->options.quiet = absl::Seconds(flags->quiet_seconds);
    flags->options.patience = absl::Seconds(flags->patience_seconds);
    exit_code = WatchSweep(flags->options);
  });
}

}  // namespace loupe::cli
