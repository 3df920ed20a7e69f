// Load on a coordinator over real gRPC on loopback, in one process with its server:
//
//   load_bench --workers 1000 --seconds 10         leases and completions per second, time from a completion to the next lease
//   load_bench --workers 16 --trial-seconds 1 --trials 320    overhead over ideal packing of timed trials
//   load_bench --million                           creating and paging through a sweep of 999,900 trials, and the memory it takes
//
// Commits are durable (synchronous=FULL). The load generator shares the machine with the coordinator.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <queue>
#include <thread>

#include "clients/rpc/connection.h"
#include "coordinator/service/server.h"
#include "fmt/format.h"
#include "loupe/v1/sweep.grpc.pb.h"
#include "loupe/v1/trial.grpc.pb.h"
#include "loupe/v1/worker.grpc.pb.h"
#include "spdlog/spdlog.h"
#include "tests/testing/small_spec.h"
#include "tests/testing/temp_folder.h"

namespace {

using Clock = std::chrono::steady_clock;
namespace v1 = loupe::v1;

double Seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

double Percentile(std::vector<double>& values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(share * static_cast<double>(values.size())))];
}

double ResidentMegabytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtod(line.c_str() + 6, nullptr) / 1024;
  }
  return 0;
}

struct Bench {
  loupe::testing::TempFolder folder;
  std::unique_ptr<loupe::coordinator::Server> server;
  std::shared_ptr<loupe::Connection> connection;

  Bench() {
    loupe::coordinator::ServerOptions options;
    options.data_folder = folder / "data";
    options.listen = "127.0.0.1:0";
    server = *loupe::coordinator::Server::Start(options);
    connection = *loupe::Connection::Open(
        *loupe::ResolveConnectOptions({.address = server->address(), .token_file = options.data_folder + "/token"}));
  }

  void Create(const std::string& id, const v1::SweepSpec& spec) {
    v1::CreateSweepRequest request;
    request.set_sweep_id(id);
    *request.mutable_spec() = spec;
    grpc::ClientContext context;
    connection->Prepare(context, absl::Minutes(5));
    v1::CreateSweepResponse response;
    const absl::Status status =
        connection->Check(v1::SweepService::NewStub(connection->channel())->CreateSweep(&context, request, &response));
    if (!status.ok()) {
      fmt::print(stderr, "{}\n", status.ToString());
      std::exit(1);
    }
  }
};

// Sleeps on behalf of all simulated trials.
class Timer {
 public:
  Timer() : thread_([this] { Loop(); }) {}
  ~Timer() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  void At(Clock::time_point when, std::function<void()> run) {
    const std::lock_guard<std::mutex> lock(mutex_);
    queue_.push({when, std::move(run)});
    changed_.notify_all();
  }

 private:
  struct Entry {
    Clock::time_point when;
    std::function<void()> run;
    bool operator<(const Entry& other) const { return other.when < when; }
  };
  void Loop() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!stopping_) {
      if (queue_.empty()) {
        changed_.wait(lock);
      } else if (queue_.top().when > Clock::now()) {
        changed_.wait_until(lock, queue_.top().when);
      } else {
        auto run = queue_.top().run;
        queue_.pop();
        lock.unlock();
        run();
        lock.lock();
      }
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::priority_queue<Entry> queue_;
  bool stopping_ = false;
  std::thread thread_;
};

struct Totals {
  std::atomic<int64_t> completed{0};
  std::atomic<int64_t> points{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::vector<double> lease_seconds;
};

// One worker: completes its trial and asks for the next in the same message, for ever.
class LoadWorker {
 public:
  LoadWorker(Bench& bench, Timer& timer, Totals& totals, int number, double trial_seconds, int points,
             std::shared_ptr<grpc::Channel> channel)
      : bench_(bench), timer_(timer), totals_(totals), trial_seconds_(trial_seconds), points_(points),
        stub_(v1::WorkerService::NewStub(channel)) {
    base_.set_worker(fmt::format("workers/load-{}", number));
    base_.set_session_id("bench");
    base_.set_slots(1);
    base_.mutable_max_wait()->set_seconds(5);
  }

  void Send(v1::SynchronizeRequest request) {
    ++in_flight_;
    request_ = std::move(request);
    context_ = std::make_unique<grpc::ClientContext>();
    bench_.connection->Prepare(*context_, absl::Seconds(60));
    response_.Clear();
    start_ = Clock::now();
    stub_->async()->Synchronize(context_.get(), &request_, &response_, [this](const grpc::Status& status) { Answered(status); });
  }
  void Start() { Send(base_); }
  bool idle() const { return in_flight_ == 0; }

 private:
  void Answered(const grpc::Status& status) {
    if (!status.ok() || totals_.stop) {
      --in_flight_;
      return;
    }
    if (request_.attempts_size() > 0) {
      const std::lock_guard<std::mutex> lock(totals_.mutex);
      totals_.lease_seconds.push_back(Seconds(Clock::now() - start_));
      ++totals_.completed;
      totals_.points += points_;
    }
    if (response_.attempts_size() == 0) {
      --in_flight_;
      return Send(base_);
    }
    v1::SynchronizeRequest next = base_;
    auto* report = next.add_attempts();
    *report->mutable_lease() = response_.attempts(0).lease();
    for (int i = 1; i <= points_; ++i) {
      auto* point = report->add_points();
      point->set_metric("loss");
      point->set_step(i);
      point->set_value(1.0 / i);
    }
    report->set_point_sequence(points_);
    (*report->mutable_success()->mutable_scores())["clip_i"] = 0.5;
    if (trial_seconds_ <= 0) {
      --in_flight_;
      return Send(std::move(next));
    }
    timer_.At(Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(trial_seconds_)),
              [this, next] {
                --in_flight_;
                Send(next);
              });
  }

  Bench& bench_;
  Timer& timer_;
  Totals& totals_;
  const double trial_seconds_;
  const int points_;
  const std::unique_ptr<v1::WorkerService::Stub> stub_;
  v1::SynchronizeRequest base_;
  v1::SynchronizeRequest request_;
  v1::SynchronizeResponse response_;
  std::unique_ptr<grpc::ClientContext> context_;
  Clock::time_point start_;
  std::atomic<int> in_flight_{0};
};

void Million() {
  Bench bench;
  const double before = ResidentMegabytes();
  auto start = Clock::now();
  bench.Create("million", loupe::testing::SmallSpec(3333, 100));
  fmt::print("create 999,900 trials: {:.1f} s; peak memory {:.0f} MB (before: {:.0f} MB; client and server in one process)\n",
             Seconds(Clock::now() - start), ResidentMegabytes(), before);
  const auto stub = v1::TrialService::NewStub(bench.connection->channel());
  v1::ListTrialsRequest request;
  request.set_parent("sweeps/million");
  request.set_page_size(100);
  std::vector<double> pages;
  for (int i = 0; i < 200; ++i) {
    grpc::ClientContext context;
    bench.connection->Prepare(context);
    v1::ListTrialsResponse response;
    start = Clock::now();
    if (!stub->ListTrials(&context, request, &response).ok()) std::exit(1);
    pages.push_back(Seconds(Clock::now() - start) * 1000);
    request.set_page_token(response.next_page_token());
  }
  fmt::print("a page of 100 trials: median {:.1f} ms, p99 {:.1f} ms\n", Percentile(pages, 0.5), Percentile(pages, 0.99));
}

void Load(int workers, double seconds, double trial_seconds, int64_t trials, int points) {
  Bench bench;
  v1::SweepSpec spec = loupe::testing::SmallSpec(1000, 300);
  bench.Create("load", spec);
  Totals totals;
  Timer timer;
  std::vector<std::unique_ptr<LoadWorker>> all;
  for (int i = 0; i < workers; ++i) {
    all.push_back(std::make_unique<LoadWorker>(bench, timer, totals, i, trial_seconds, points, bench.connection->channel()));
  }
  const auto start = Clock::now();
  for (auto& worker : all) worker->Start();
  const auto done = [&] {
    return trials > 0 ? totals.completed >= trials : Seconds(Clock::now() - start) >= seconds;
  };
  while (!done()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  const double took = Seconds(Clock::now() - start);
  const int64_t completed = totals.completed;
  const int64_t stored_points = totals.points;
  totals.stop = true;
  while (!std::all_of(all.begin(), all.end(), [](const auto& worker) { return worker->idle(); })) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const std::lock_guard<std::mutex> lock(totals.mutex);
  fmt::print("{} workers, {:.1f} s: {} completions with their next lease, {:.0f}/s; {:.0f} metric points/s; completion to next lease: "
             "median {:.1f} ms, p99 {:.1f} ms\n",
             workers, took, completed, static_cast<double>(completed) / took, static_cast<double>(stored_points) / took,
             Percentile(totals.lease_seconds, 0.5) * 1000, Percentile(totals.lease_seconds, 0.99) * 1000);
  if (trials > 0 && trial_seconds > 0) {
    const double ideal = trial_seconds * static_cast<double>((trials + workers - 1) / workers);
    fmt::print("ideal {:.1f} s: overhead {:.2f} %\n", ideal, 100 * (took / ideal - 1));
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Load on a coordinator over gRPC on loopback."};
  int workers = 1000;
  int points = 0;
  double seconds = 10;
  double trial_seconds = 0;
  int64_t trials = 0;
  bool million = false;
  app.add_option("--workers", workers);
  app.add_option("--seconds", seconds);
  app.add_option("--trial-seconds", trial_seconds);
  app.add_option("--trials", trials);
  app.add_option("--points", points);
  app.add_flag("--million", million);
  CLI11_PARSE(app, argc, argv);
  spdlog::set_level(spdlog::level::warn);
  if (million) {
    Million();
  } else {
    Load(workers, seconds, trial_seconds, trials, points);
  }
  return 0;
}
