#include "cli/watch.h"

#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <tuple>
#include <utility>

#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/failure.h"
#include "cli/interrupt.h"
#include "cli/live_screen.h"
#include "cli/output.h"
#include "cli/progress_view.h"
#include "cli/score_reader.h"
#include "cli/sweep_follower.h"
#include "cli/sweep_name.h"
#include "cli/views.h"
#include "cli/watch_screen.h"
#include "common/clock.h"
#include "common/text.h"
#include "fmt/format.h"

namespace loupe::cli {
namespace {

// Off a terminal, lines come no faster than this, however fast trials end.
constexpr absl::Duration kLeastGap = absl::Seconds(5);
// How soon the screen follows a key, a new state or another size.
constexpr absl::Duration kTick = absl::Milliseconds(100);
constexpr char kLost[] = "lost the coordinator; waiting for it to come back";

// Lines for a log or a pipe, or JSON. Not thread-safe.
class ProgressPrinter {
 public:
  ProgressPrinter(bool json, absl::Duration quiet) : json_(json), quiet_(quiet) {}

  void Show(const v1::WatchSweepResponse& state, absl::Duration now) {
    view_.Update(state, now);
    if (json_) return ShowJson(state);
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

 private:
  void ShowJson(const v1::WatchSweepResponse& state) {
    nlohmann::ordered_json json;
    json["sweep"] = SweepJson(state.sweep());
    json["running"] = nlohmann::ordered_json::array();
    for (const v1::RunningAttempt& attempt : state.running()) json["running"].push_back(RunningJson(attempt));
    fmt::print("{}", JsonText(json, -1));
    std::fflush(stdout);
  }

  const bool json_;
  const absl::Duration quiet_;
  ProgressView view_;
  int64_t shown_ended_ = -1;
  v1::Sweep::State shown_state_ = v1::Sweep::STATE_UNSPECIFIED;
  absl::Duration shown_at_ = -absl::InfiniteDuration();
};

int ExitCodeOfEnd(const v1::Sweep& sweep) {
  return sweep.counts().succeeded() == sweep.counts().total() ? kOk : kSweepIncomplete;
}

int SayStopped(const std::string& name) {
  fmt::print(stderr,
             "loupe: stopped watching; the sweep goes on ('loupe watch {0}' shows it, 'loupe cancel {0}' ends it)\n",
             LastPart(name));
  return kInterrupted;
}

int WatchInLines(const WatchOptions& options, const clients::rpc::Connection& connection, const std::string& name) {
  ProgressPrinter printer(options.json, options.quiet);
  SweepFollower follower(connection, name, options.patience,
                         {.on_state = [&](const auto& state) { printer.Show(state, SystemClock().MonotonicNow()); },
                          .on_lost = [] { fmt::print(stderr, "loupe: {}\n", kLost); }});
  InterruptWatch interrupt([&](int) { follower.Cancel(); });
  const absl::StatusOr<v1::Sweep> ended = follower.Run();
  if (interrupt.interrupted()) return SayStopped(name);
  return ended.ok() ? ExitCodeOfEnd(*ended) : Fail(ended.status());
}

// What the stream's thread tells the one that draws.
struct Shared {
  std::mutex mutex;
  ProgressView progress;
  std::string notice;
  // Of the above, counted up at every change.
  int64_t version = 0;
  std::optional<absl::StatusOr<v1::Sweep>> ended;
};

// Draws until the sweep has ended or somebody leaves. Whether somebody did.
bool DrawUntilEnd(Shared& shared, ScoreReader& scores, const InterruptWatch& interrupt, bool colours) {
  LiveScreen screen(colours);
  std::tuple<int64_t, const SweepScores*, int, int> drawn{-1, nullptr, 0, 0};
  while (true) {
    const LiveScreen::Size size = LiveScreen::OutputSize();
    const std::shared_ptr<const SweepScores> known = scores.scores();
    {
      const std::lock_guard lock(shared.mutex);
      if (shared.ended.has_value()) return false;
      const std::tuple now{shared.version, known.get(), size.columns, size.lines};
      if (now != drawn && shared.version > 0)
        screen.Draw(WatchScreen({shared.progress, known.get(), shared.notice}, size.columns, size.lines));
      drawn = now;
    }
    const LiveScreen::Key key = screen.WaitForKey(kTick);
    if (key.character == 'q' || key.character == 'Q' || interrupt.interrupted()) return true;
    if (key.redraw) drawn = {-1, nullptr, 0, 0};
  }
}

int WatchLive(const WatchOptions& options, const clients::rpc::Connection& connection, const std::string& name,
              bool colours) {
  Shared shared;
  ScoreReader scores(connection, name);
  SweepFollower follower(connection, name, options.patience,
                         {.on_state =
                              [&](const v1::WatchSweepResponse& state) {
                                scores.Want(state.sweep().counts().succeeded());
                                const std::lock_guard lock(shared.mutex);
                                shared.progress.Update(state, SystemClock().MonotonicNow());
                                shared.notice.clear();
                                ++shared.version;
                              },
                          .on_lost =
                              [&] {
                                const std::lock_guard lock(shared.mutex);
                                shared.notice = kLost;
                                ++shared.version;
                              }});
  InterruptWatch interrupt([&](int) { follower.Cancel(); });
  std::thread reader([&] {
    absl::StatusOr<v1::Sweep> ended = follower.Run();
    const std::lock_guard lock(shared.mutex);
    shared.ended = std::move(ended);
  });
  const bool left = DrawUntilEnd(shared, scores, interrupt, colours);
  follower.Cancel();
  reader.join();
  if (!left && !shared.ended->ok() && !interrupt.interrupted()) return Fail(shared.ended->status());
  const bool ended = shared.ended->ok();
  const std::shared_ptr<const SweepScores> last = ended ? scores.ReadLast() : scores.scores();
  if (shared.version > 0) {
    for (const StyledLine& line : WatchSummary({shared.progress, last.get(), ""}, LiveScreen::OutputSize().columns))
      fmt::print("{}\n", colours ? line.Coloured() : line.Plain());
    std::fflush(stdout);
  }
  return ended ? ExitCodeOfEnd(**shared.ended) : SayStopped(name);
}

}  // namespace

int WatchSweep(const WatchOptions& options) {
  const absl::StatusOr<std::string> name = SweepName(options.sweep);
  if (!name.ok()) return Fail(name.status());
  const absl::StatusOr<std::shared_ptr<clients::rpc::Connection>> connection = Connect(options.connect);
  if (!connection.ok()) return Fail(connection.status());
  const TerminalKind terminal = KindOfOutput();
  return terminal.live && !options.json ? WatchLive(options, **connection, *name, terminal.colours)
                                        : WatchInLines(options, **connection, *name);
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
