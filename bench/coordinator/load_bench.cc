// Load on a coordinator process over real gRPC on loopback; the load generator shares the machine with it.
//
//   coordinator_load_bench --workers 1000 --trial-seconds 1      1,000 workers, each a trial a second: latency under a
//   given load coordinator_load_bench --workers 64 --points 10              as fast as it goes: leases, completions and
//   points per second coordinator_load_bench --workers 16 --trial-seconds 1 --trials 10000   overhead over ideal
//   packing (Ray Tune's workload) coordinator_load_bench --million                             planning, creating and
//   paging through a million trials coordinator_load_bench --jobs --workers 200                  how long workers wait
//   while millions of trials are created, cancelled,
//                                                                retried and deleted (each worker holds its trial for
//                                                                --trial-seconds)
//
//   coordinator_load_bench --workers 1000 --trial-seconds 0.9 --http-streams 1000 --http-rate 50   the same beside a
//                                                                thousand open pages and their calls
//
// Commits are durable (synchronous=FULL): --data says on which disk. Each worker has a connection of its own.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <functional>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "bench/coordinator/http_load.h"
#include "bench/coordinator/load_workers.h"
#include "common/atomic_file.h"
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
  const clients::rpc::Connection& connection = *coordinator.connection();
  connection.Prepare(context, absl::Minutes(10));
  v1::CreateSweepResponse response;
  DieUnless(
      connection.Check(v1::SweepService::NewStub(connection.channel())->CreateSweep(&context, request, &response)),
      "create");
}

// A large sweep is there before its last trial is.
void WaitUntilStored(testing::CoordinatorProcess& coordinator, const std::string& id) {
  const auto stub = v1::SweepService::NewStub(coordinator.connection()->channel());
  v1::GetSweepRequest request;
  request.set_name("sweeps/" + id);
  v1::Sweep sweep;
  do {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    grpc::ClientContext context;
    coordinator.connection()->Prepare(context);
    DieUnless(coordinator.connection()->Check(stub->GetSweep(&context, request, &sweep)), "get");
  } while (sweep.state() == v1::Sweep::CREATING);
}

void Million(testing::CoordinatorProcess& coordinator) {
  const double before = coordinator.process().PeakMegabytes();
  const double cpu = coordinator.process().CpuSeconds();
  auto start = SteadyClock::now();
  Create(coordinator, "million", testing::SmallSpec(1000, 333));
  fmt::print("answered after {:.2f} s\n", Seconds(SteadyClock::now() - start));
  WaitUntilStored(coordinator, "million");
  fmt::print("plan and create 999,000 trials: {:.1f} s ({:.1f} s of CPU); peak memory {:.0f} MB (before: {:.0f} MB)\n",
             Seconds(SteadyClock::now() - start), coordinator.process().CpuSeconds() - cpu,
             coordinator.process().PeakMegabytes(), before);
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
  fmt::print("a page of 100 trials: median {:.1f} ms, p99 {:.1f} ms\n", Percentile(pages, 0.5),
             Percentile(pages, 0.99));
  start = SteadyClock::now();
  coordinator.Kill(SIGKILL);
  coordinator.StartAgain();
  fmt::print("start again after kill -9: {:.1f} s; peak memory {:.0f} MB\n", Seconds(SteadyClock::now() - start),
             coordinator.process().PeakMegabytes());
}

// Jobs on whole sweeps, one after the other and then five at once, each until it is done.
class JobRunner {
 public:
  explicit JobRunner(testing::CoordinatorProcess& coordinator)
      : coordinator_(coordinator), stub_(v1::SweepService::NewStub(coordinator.connection()->channel())) {}

  void Run() {
    Timed(
        "create a million", [&] { CreateLarge("large-0"); }, [&] { return State("large-0") == v1::Sweep::ACTIVE; });
    Timed(
        "cancel it", [&] { Verb("large-0"); }, [&] { return State("large-0") == v1::Sweep::CANCELLED; });
    Timed(
        "retry it", [&] { Retry("large-0"); }, [&] { return Counts("large-0").cancelled() == 0; });
    Timed(
        "delete it", [&] { Delete("large-0"); }, [&] { return State("large-0") == v1::Sweep::STATE_UNSPECIFIED; });
    const auto all = [&](v1::Sweep::State state) {
      for (int i = 1; i <= 5; ++i) {
        if (State(fmt::format("large-{}", i)) != state) return false;
      }
      return true;
    };
    Timed(
        "create five millions",
        [&] {
          for (int i = 1; i <= 5; ++i) CreateLarge(fmt::format("large-{}", i));
        },
        [&] { return all(v1::Sweep::ACTIVE); });
    Timed(
        "delete them",
        [&] {
          for (int i = 1; i <= 5; ++i) Delete(fmt::format("large-{}", i));
        },
        [&] { return all(v1::Sweep::STATE_UNSPECIFIED); });
  }

 private:
  void Timed(const char* what, const std::function<void()>& begin, const std::function<bool()>& done) {
    const auto start = SteadyClock::now();
    begin();
    const double answered = Seconds(SteadyClock::now() - start);
    while (!done()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    fmt::print("{}: answered after {:.2f} s, done after {:.1f} s\n", what, answered,
               Seconds(SteadyClock::now() - start));
  }
  template <typename Request, typename Response, typename Method>
  absl::Status Call(Method method, const Request& request, Response& response) {
    grpc::ClientContext context;
    coordinator_.connection()->Prepare(context, absl::Minutes(10));
    return coordinator_.connection()->Check((*stub_.*method)(&context, request, &response));
  }
  void CreateLarge(const std::string& id) {
    // Behind the sweep that the workers are busy with.
    v1::SweepSpec spec = testing::SmallSpec(1000, 333);
    spec.set_priority(-1);
    Create(coordinator_, id, spec);
  }
  void Verb(const std::string& id) {
    v1::SweepVerbRequest request;
    request.set_name("sweeps/" + id);
    v1::Sweep sweep;
    DieUnless(Call(&v1::SweepService::Stub::CancelSweep, request, sweep), "cancel");
  }
  void Retry(const std::string& id) {
    v1::RetryTrialsRequest request;
    request.set_name("sweeps/" + id);
    request.set_cancelled(true);
    v1::RetryTrialsResponse response;
    DieUnless(Call(&v1::SweepService::Stub::RetryTrials, request, response), "retry");
  }
  void Delete(const std::string& id) {
    v1::DeleteSweepRequest request;
    request.set_name("sweeps/" + id);
    request.set_force(true);
    v1::DeleteSweepResponse response;
    DieUnless(Call(&v1::SweepService::Stub::DeleteSweep, request, response), "delete");
  }
  // Empty when there is none.
  v1::Sweep Get(const std::string& id) {
    v1::GetSweepRequest request;
    request.set_name("sweeps/" + id);
    v1::Sweep sweep;
    if (const absl::Status status = Call(&v1::SweepService::Stub::GetSweep, request, sweep); absl::IsNotFound(status)) {
      sweep.Clear();
    } else {
      DieUnless(status, "get");
    }
    return sweep;
  }
  v1::Sweep::State State(const std::string& id) { return Get(id).state(); }
  v1::TrialCounts Counts(const std::string& id) { return Get(id).counts(); }

  testing::CoordinatorProcess& coordinator_;
  const std::unique_ptr<v1::SweepService::Stub> stub_;
};

void Jobs(testing::CoordinatorProcess& coordinator, LoadOptions options) {
  Create(coordinator, "load", testing::SmallSpec(1000, 100));
  WaitUntilStored(coordinator, "load");
  std::vector<std::shared_ptr<clients::rpc::Connection>> connections;
  for (int i = 0; i < options.workers; ++i) {
    connections.push_back(coordinator.Connect());
    DieUnless(connections.back()->WaitUntilConnected(absl::Seconds(30)), "connect");
  }
  std::atomic<bool> stop{false};
  options.stop = &stop;
  options.seconds = 3600;
  LoadWorkers workers(options, connections);
  std::thread jobs([&] {
    JobRunner(coordinator).Run();
    stop = true;
  });
  LoadOutcome outcome = workers.Run();
  jobs.join();
  fmt::print(
      "{} workers, {:.1f} s: {} completions, {} failed calls; completion to next lease: median {:.1f} ms, p99 {:.1f} ms, "
      "p99.9 {:.1f} ms, longest {:.1f} ms; peak memory {:.0f} MB\n",
      options.workers, outcome.seconds, outcome.completed, outcome.failed_calls,
      Percentile(outcome.lease_seconds, 0.5) * 1000, Percentile(outcome.lease_seconds, 0.99) * 1000,
      Percentile(outcome.lease_seconds, 0.999) * 1000, Percentile(outcome.lease_seconds, 1) * 1000,
      coordinator.process().PeakMegabytes());
}

// What people's pages do meanwhile; nothing where neither is asked for.
std::unique_ptr<HttpLoad> OpenPages(testing::CoordinatorProcess& coordinator, int streams, double rate) {
  if (streams == 0 && rate <= 0) return nullptr;
  Create(coordinator, "idle", testing::SmallSpec(2, 1));
  v1::SweepVerbRequest request;
  request.set_name("sweeps/idle");
  grpc::ClientContext context;
  coordinator.connection()->Prepare(context);
  v1::Sweep sweep;
  DieUnless(coordinator.connection()->Check(
                v1::SweepService::NewStub(coordinator.connection()->channel())->PauseSweep(&context, request, &sweep)),
            "pause");
  const std::string address = *ReadFile(coordinator.data_folder() + "/http_address");
  const std::string token = *ReadFile(coordinator.token_file());
  return std::make_unique<HttpLoad>(HttpLoadOptions{.port = std::atoi(address.c_str() + address.rfind(':') + 1),
                                                    .token = token.substr(0, token.find('\n')),
                                                    .streams = streams,
                                                    .calls_per_second = rate});
}

void Load(testing::CoordinatorProcess& coordinator, const LoadOptions& options, bool json, int http_streams,
          double http_rate) {
  // At most 1,000 scales are allowed; three cells each.
  const auto replicates = static_cast<int>((options.trials + 2999) / 3000);
  Create(
      coordinator, "load",
      options.trials > 0
          ? testing::SmallSpec(static_cast<int>((options.trials + 3 * replicates - 1) / (3 * replicates)), replicates)
          : testing::SmallSpec(1000, 100));
  WaitUntilStored(coordinator, "load");
  std::vector<std::shared_ptr<clients::rpc::Connection>> connections;
  for (int i = 0; i < options.workers; ++i) {
    connections.push_back(coordinator.Connect());
    DieUnless(connections.back()->WaitUntilConnected(absl::Seconds(30)), "connect");
  }
  LoadWorkers workers(options, connections);
  const std::unique_ptr<HttpLoad> pages = OpenPages(coordinator, http_streams, http_rate);
  const double cpu = coordinator.process().CpuSeconds();
  const double own_cpu = OwnCpuSeconds();
  LoadOutcome outcome = workers.Run();
  const double used = coordinator.process().CpuSeconds() - cpu;
  const double own_used = OwnCpuSeconds() - own_cpu;
  const double trials = static_cast<double>(std::max<int64_t>(1, outcome.completed));
  const double rate = trials / outcome.seconds;
  const double median_ms = Percentile(outcome.lease_seconds, 0.5) * 1000;
  const double p99_ms = Percentile(outcome.lease_seconds, 0.99) * 1000;
  const double most_ms = Percentile(outcome.lease_seconds, 1) * 1000;
  if (pages != nullptr) {
    HttpLoad::Outcome http = pages->Stop();
    fmt::print(
        "HTTP: {} of {} streams open, {} JSON calls at {}/s, {} failed: median {:.1f} ms, p99 {:.1f} ms, longest {:.1f} ms\n",
        http.open, http_streams, http.seconds.size(), http_rate, http.failed, Percentile(http.seconds, 0.5) * 1000,
        Percentile(http.seconds, 0.99) * 1000, Percentile(http.seconds, 1) * 1000);
  }
  if (json) {
    fmt::print(
        "{{\"trials\": {}, \"seconds\": {:.4f}, \"median_ms\": {:.3f}, \"p99_ms\": {:.3f}, \"cpu_seconds\": {:.3f}, "
        "\"own_cpu_seconds\": {:.3f}}}\n",
        outcome.completed, outcome.seconds, median_ms, p99_ms, used, own_used);
    return;
  }
  fmt::print(
      "{} workers, {:.1f} s: {} completions, each with the next lease, {:.0f}/s; {:.0f} metric points/s; {} failed calls\n"
      "completion to next lease: median {:.1f} ms, p99 {:.1f} ms, longest {:.1f} ms\n"
      "coordinator: {:.2f} CPU seconds ({:.0f} % of a core), {:.3f} ms per trial; peak memory {:.0f} MB\n"
      "load generator: {:.2f} CPU seconds ({:.0f} % of a core), {:.3f} ms per trial\n",
      options.workers, outcome.seconds, outcome.completed, rate, rate * options.points, outcome.failed_calls, median_ms,
      p99_ms, most_ms, used, 100 * used / outcome.seconds, 1000 * used / trials, coordinator.process().PeakMegabytes(),
      own_used, 100 * own_used / outcome.seconds, 1000 * own_used / trials);
  if (options.trials > 0 && options.trial_seconds > 0) {
    const double ideal =
        options.trial_seconds * static_cast<double>((options.trials + options.workers - 1) / options.workers);
    fmt::print("ideal {:.1f} s: overhead {:.2f} %; the generator's timer ended each trial {:.2f} ms late\n", ideal,
               100 * (outcome.seconds / ideal - 1), 1000 * outcome.timer_delay_seconds);
  }
}

}  // namespace
}  // namespace loupe::bench

int main(int argc, char** argv) {
  CLI::App app{"Load on a coordinator over gRPC on loopback."};
  loupe::bench::LoadOptions options;
  bool million = false;
  bool jobs = false;
  bool json = false;
  int http_streams = 0;
  double http_rate = 0;
  std::string data;
  std::string program = LOUPE_COORDINATOR;
  app.add_option("--workers", options.workers, "Simulated workers, each with its own connection")
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "How long (unless --trials)")->capture_default_str();
  app.add_option("--trial-seconds", options.trial_seconds, "Length of a trial")->capture_default_str();
  app.add_option("--trials", options.trials, "End after so many trials; the sweep has hardly more");
  app.add_option("--points", options.points, "Metric points per trial");
  app.add_option("--http-streams", http_streams, "Streams of events that are open meanwhile, of a sweep that rests");
  app.add_option("--http-rate", http_rate, "JSON calls a second meanwhile")->check(CLI::Range(0.1, 1e5));
  app.add_flag("--json", json, "One line for programs");
  app.add_flag("--million", million, "A sweep of a million trials instead");
  app.add_flag("--jobs", jobs, "Work on whole sweeps beside the workers");
  app.add_option("--data", data, "New folder for the coordinator's data")->required();
  app.add_option("--coordinator", program, "Another coordinator than this build's, for comparison");
  CLI11_PARSE(app, argc, argv);
  // As in the coordinator: see Server::Start.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  loupe::testing::CoordinatorProcess coordinator({program}, data, {"--log-level", "warn"});
  if (million) {
    loupe::bench::Million(coordinator);
  } else if (jobs) {
    loupe::bench::Jobs(coordinator, options);
  } else {
    loupe::bench::Load(coordinator, options, json, http_streams, http_rate);
  }
  return 0;
}
