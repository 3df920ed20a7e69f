// Load on a coordinator process over real gRPC on loopback; the load generator shares the machine with it.
//
//   coordinator_load_bench --workers 1000 --trial-seconds 1      1,000 workers, each a trial a second: latency under a given load
//   coordinator_load_bench --workers 64 --points 10              as fast as it goes: leases, completions and points per second
//   coordinator_load_bench --workers 16 --trial-seconds 1 --trials 10000   overhead over ideal packing (Ray Tune's workload)
//   coordinator_load_bench --million                             planning, creating and paging through 999,000 trials
//
// Commits are durable (synchronous=FULL): --data says on which disk. Each worker has a connection of its own.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "bench/coordinator/load_workers.h"
#include "fmt/format.h"
#include "loupe/v1/sweep.grpc.pb.h"
#include "loupe/v1/trial.grpc.pb.h"
#include "tests/testing/coordinator_process.h"
#include "tests/testing/small_spec.h"

namespace loupe::bench {
namespace {

double Percentile(std::vector<double>& values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1, static_cast<size_t>(share * static_cast<double>(values.size())))];
}

void DieUnless(const absl::Status& status, const char* doing) {
  if (status.ok()) return;
  fmt::print(stderr, "{}: {}\n", doing, status.ToString());
  std::exit(1);
}

void Create(testing::CoordinatorProcess& coordinator, const std::string& id, const v1::SweepSpec& spec) {
  v1::CreateSweepRequest request;
  request.set_sweep_id(id);
  *request.mutable_spec() = spec;
  grpc::ClientContext context;
  const Connection& connection = *coordinator.connection();
  connection.Prepare(context, absl::Minutes(10));
  v1::CreateSweepResponse response;
  DieUnless(connection.Check(v1::SweepService::NewStub(connection.channel())->CreateSweep(&context, request, &response)),
            "create");
}

void Million(testing::CoordinatorProcess& coordinator) {
  const double before = coordinator.process().PeakMegabytes();
  const double cpu = coordinator.process().CpuSeconds();
  auto start = SteadyClock::now();
  Create(coordinator, "million", testing::SmallSpec(1000, 333));
  fmt::print("plan and create 999,000 trials: {:.1f} s ({:.1f} s of CPU); peak memory {:.0f} MB (before: {:.0f} MB)\n",
             Seconds(SteadyClock::now() - start), coordinator.process().CpuSeconds() - cpu, coordinator.process().PeakMegabytes(),
             before);
  const auto stub = v1::TrialService::NewStub(coordinator.connection()->channel());
  v1::ListTrialsRequest request;
  request.set_parent("sweeps/million");
  request.set_page_size(100);
  std::vector<double> pages;
  for (int i = 0; i < 500; ++i) {
    grpc::ClientContext context;
    coordinator.connection()->Prepare(context);
    v1::ListTrialsResponse response;
    start = SteadyClock::now();
    DieUnless(coordinator.connection()->Check(stub->ListTrials(&context, request, &response)), "list");
    pages.push_back(Seconds(SteadyClock::now() - start) * 1000);
    request.set_page_token(response.next_page_token());
  }
  fmt::print("a page of 100 trials: median {:.1f} ms, p99 {:.1f} ms\n", Percentile(pages, 0.5), Percentile(pages, 0.99));
  start = SteadyClock::now();
  coordinator.Kill(SIGKILL);
  coordinator.StartAgain();
  fmt::print("start again after kill -9: {:.1f} s; peak memory {:.0f} MB\n", Seconds(SteadyClock::now() - start),
             coordinator.process().PeakMegabytes());
}

struct LoadOptions {
  int workers = 1000;
  double seconds = 10;
  double trial_seconds = 0;
  int64_t trials = 0;
  int points = 0;
};

void Load(testing::CoordinatorProcess& coordinator, const LoadOptions& options) {
  Create(coordinator, "load",
         options.trials > 0 ? testing::SmallSpec(static_cast<int>((options.trials + 2) / 3), 1) : testing::SmallSpec(1000, 100));
  Totals totals;
  Timer timer;
  std::vector<std::unique_ptr<LoadWorker>> workers;
  for (int i = 0; i < options.workers; ++i) {
    const auto connection = coordinator.Connect();
    DieUnless(connection->WaitUntilConnected(absl::Seconds(30)), "connect");
    workers.push_back(std::make_unique<LoadWorker>(
        LoadWorker::Options{i, options.trial_seconds, options.points}, connection, timer, totals));
  }
  const double cpu = coordinator.process().CpuSeconds();
  const auto start = SteadyClock::now();
  for (size_t i = 0; i < workers.size(); ++i) {
    // Workers of a fleet do not beat in time.
    const double offset = options.trials > 0 ? 0 : options.trial_seconds * static_cast<double>(i) / static_cast<double>(workers.size());
    timer.At(start + std::chrono::duration_cast<SteadyClock::duration>(std::chrono::duration<double>(offset)),
             [worker = workers[i].get()] { worker->Start(); });
  }
  const auto done = [&] {
    return options.trials > 0 ? totals.completed >= options.trials : Seconds(SteadyClock::now() - start) >= options.seconds;
  };
  while (!done()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  const double took = Seconds(SteadyClock::now() - start);
  const double used = coordinator.process().CpuSeconds() - cpu;
  const int64_t completed = totals.completed;
  const int64_t stored_points = totals.points;
  totals.stop = true;
  while (!std::all_of(workers.begin(), workers.end(), [](const auto& worker) { return worker->idle(); })) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const std::lock_guard<std::mutex> lock(totals.mutex);
  fmt::print("{} workers, {:.1f} s: {} completions, each with the next lease, {:.0f}/s; {:.0f} metric points/s; {} failed calls\n"
             "completion to next lease: median {:.1f} ms, p99 {:.1f} ms\n"
             "coordinator: {:.2f} CPU seconds ({:.0f} % of a core), {:.2f} ms per trial; peak memory {:.0f} MB\n",
             options.workers, took, completed, static_cast<double>(completed) / took, static_cast<double>(stored_points) / took,
             totals.errors.load(), Percentile(totals.lease_seconds, 0.5) * 1000, Percentile(totals.lease_seconds, 0.99) * 1000,
             used, 100 * used / took, 1000 * used / static_cast<double>(std::max<int64_t>(1, completed)),
             coordinator.process().PeakMegabytes());
  if (options.trials > 0 && options.trial_seconds > 0) {
    const double ideal = options.trial_seconds * static_cast<double>((options.trials + options.workers - 1) / options.workers);
    fmt::print("ideal {:.1f} s: overhead {:.2f} %\n", ideal, 100 * (took / ideal - 1));
  }
}

}  // namespace
}  // namespace loupe::bench

int main(int argc, char** argv) {
  CLI::App app{"Load on a coordinator over gRPC on loopback."};
  loupe::bench::LoadOptions options;
  bool million = false;
  std::string data;
  app.add_option("--workers", options.workers, "Simulated workers, each with its own connection")->capture_default_str();
  app.add_option("--seconds", options.seconds, "How long (unless --trials)")->capture_default_str();
  app.add_option("--trial-seconds", options.trial_seconds, "Length of a trial")->capture_default_str();
  app.add_option("--trials", options.trials, "End after so many trials, which are all of the sweep's");
  app.add_option("--points", options.points, "Metric points per trial");
  app.add_flag("--million", million, "A sweep of a million trials instead");
  app.add_option("--data", data, "New folder for the coordinator's data")->required();
  CLI11_PARSE(app, argc, argv);
  loupe::testing::CoordinatorProcess coordinator({LOUPE_COORDINATOR}, data, {"--log-level", "warn"});
  if (million) {
    loupe::bench::Million(coordinator);
  } else {
    loupe::bench::Load(coordinator, options);
  }
  return 0;
}
