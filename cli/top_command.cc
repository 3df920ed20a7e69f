// `loupe top`: workers and running trials, asked for again and again.
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/exit_code.h"
#include "cli/failure.h"
#include "cli/interrupt.h"
#include "cli/live_screen.h"
#include "cli/output.h"
#include "cli/top_screen.h"
#include "common/clock.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "loupe/v1/worker.grpc.pb.h"

namespace loupe::cli {
namespace {

constexpr absl::Duration kKeyWait = absl::Milliseconds(100);
// A frame for a pipe has all columns and all workers.
constexpr int kPlainWidth = 200;
constexpr int kPlainHeight = 100000;

struct TopFlags {
  ConnectFlags connect;
  double interval_seconds = 2;
  std::string order = kTopOrders[0];
  bool once = false;
};

absl::StatusOr<std::vector<v1::Worker>> Ask(const clients::rpc::Connection& connection) {
  using Stub = v1::WorkerService::StubInterface;
  const auto stub = v1::WorkerService::NewStub(connection.channel());
  std::vector<v1::Worker> workers;
  LOUPE_RETURN_IF_ERROR(CallForPages(connection, static_cast<Stub&>(*stub), &Stub::ListWorkers,
                                     v1::ListWorkersRequest(), [&](v1::ListWorkersResponse& page) {
                                       for (v1::Worker& worker : *page.mutable_workers())
                                         workers.push_back(std::move(worker));
                                     }));
  return workers;
}

// Asks on a thread of its own, so that keys are not waited for.
class Asker {
 public:
  Asker(const clients::rpc::Connection& connection, absl::Duration interval)
      : connection_(connection), interval_(interval), thread_([this] { Loop(); }) {}
  ~Asker() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  // Shows what is known: `show(model, notice)`, where that is something new or `again`. An error where nothing is
  // known.
  template <typename Show>
  absl::Status ShowNews(bool again, Show show) {
    const std::lock_guard lock(mutex_);
    if (!status_.ok() && !known_) return status_;
    if (!known_ || (shown_ == version_ && !again)) return absl::OkStatus();
    shown_ = version_;
    show(model_, status_.ok() ? "" : "no answer; asking again");
    return absl::OkStatus();
  }

 private:
  void Loop() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      lock.unlock();
      absl::StatusOr<std::vector<v1::Worker>> workers = Ask(connection_);
      lock.lock();
      status_ = workers.status();
      if (workers.ok()) {
        model_.Update(*std::move(workers), SystemClock().MonotonicNow());
        known_ = true;
      }
      ++version_;
      changed_.wait_for(lock, absl::ToChronoNanoseconds(interval_), [this] { return stopping_; });
    }
  }

  const clients::rpc::Connection& connection_;
  const absl::Duration interval_;
  std::mutex mutex_;
  std::condition_variable changed_;
  TopModel model_;
  absl::Status status_;
  bool known_ = false;
  bool stopping_ = false;
  int64_t version_ = 0;
  int64_t shown_ = 0;
  std::thread thread_;
};

TopOrder OrderOf(const std::string& name) {
  for (size_t i = 0; i < std::size(kTopOrders); ++i) {
    if (name == kTopOrders[i]) return static_cast<TopOrder>(i);
  }
  return TopOrder::kWorker;
}

absl::Status ShowOnce(const clients::rpc::Connection& connection, TopOrder order) {
  LOUPE_ASSIGN_OR_RETURN(std::vector<v1::Worker> workers, Ask(connection));
  TopModel model;
  model.Update(std::move(workers), SystemClock().MonotonicNow());
  return WriteOutput(PlainText(TopScreen(model, order, "", /*keys=*/false, kPlainWidth, kPlainHeight)), "");
}

absl::Status ShowLive(const clients::rpc::Connection& connection, TopOrder order, absl::Duration interval,
                      bool colours) {
  InterruptWatch interrupt([](int) {});
  Asker asker(connection, interval);
  LiveScreen screen(colours);
  std::pair<int, int> drawn_size{0, 0};
  bool again = true;
  while (true) {
    const LiveScreen::Size size = LiveScreen::OutputSize();
    again = again || drawn_size != std::pair(size.columns, size.lines);
    drawn_size = {size.columns, size.lines};
    LOUPE_RETURN_IF_ERROR(asker.ShowNews(again, [&](const TopModel& model, const std::string& notice) {
      screen.Draw(TopScreen(model, order, notice, /*keys=*/true, size.columns, size.lines));
      again = false;
    }));
    const LiveScreen::Key key = screen.WaitForKey(kKeyWait);
    if (key.character == 'q' || key.character == 'Q' || interrupt.interrupted()) return absl::OkStatus();
    if (key.character == 's') order = static_cast<TopOrder>((static_cast<size_t>(order) + 1) % std::size(kTopOrders));
    again = again || key.redraw || key.character != 0;
  }
}

absl::Status Run(const TopFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<clients::rpc::Connection> connection, Connect(flags.connect));
  const TerminalKind terminal = KindOfOutput();
  const TopOrder order = OrderOf(flags.order);
  if (flags.once || !terminal.live) return ShowOnce(*connection, order);
  return ShowLive(*connection, order, absl::Seconds(flags.interval_seconds), terminal.colours);
}

}  // namespace

void AddTopCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("top", "Workers and running trials, kept up to date");
  const auto flags = std::make_shared<TopFlags>();
  command->add_flag("--once", flags->once, "Print them once; so does a pipe");
  command->add_option("--interval", flags->interval_seconds, "Seconds between two looks")
      ->check(CLI::Range(0.5, 3600.0))
      ->capture_default_str();
  command->add_option("--sort", flags->order, "By what: worker, speed, seen (silence), done")
      ->check(CLI::IsMember(std::vector<std::string>(std::begin(kTopOrders), std::end(kTopOrders))))
      ->capture_default_str();
  AddConnectOptions(*command, flags->connect);
  command->callback([flags, &exit_code] { exit_code = Fail(Run(*flags)); });
}

}  // namespace loupe::cli
