// loupe-fake-worker: the real agent around an executor that trains nothing. For tests with real processes and for load.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <thread>

#include "clients/rpc/connection.h"
#include "common/clock.h"
#include "common/credentials.h"
#include "common/logging.h"
#include "common/random_source.h"
#include "fmt/format.h"
#include "tests/testing/fake_executor.h"
#include "worker/agent/agent.h"
#include "worker/agent/enrolment.h"
#include "worker/agent/grpc_coordinator_client.h"
#include "worker/agent/leave.h"

namespace {

int Run(int argc, char** argv) {
  CLI::App app{"A worker that trains nothing."};
  loupe::clients::rpc::ConnectOptions flags;
  loupe::worker::agent::AgentOptions options;
  loupe::testing::FakeExecutorOptions executor_options;
  std::string name;
  std::string log_level = "warn";
  app.add_option("--address", flags.address);
  app.add_option("--token-file", flags.token_file);
  app.add_option("--credentials", flags.credentials_file);
  app.add_option("--name,--id", name);
  app.add_option("--data", options.data_folder)->required();
  app.add_option("--scratch", options.scratch_folder);
  // As of `loupe-worker run`, whose command line it understands.
  std::string verb, device, slots, passes;
  int threads = 0;
  app.add_option("verb", verb);
  app.add_option("--device", device);
  app.add_option("--threads", threads);
  app.add_option("--slots", slots);
  app.add_option("--passes", passes);
  double grace_seconds = 0;
  std::string until, until_idle;
  app.add_option("--grace", grace_seconds);
  app.add_option("--until", until);
  app.add_option("--until-idle", until_idle);
  app.add_option("--seconds", executor_options.seconds);
  app.add_option("--points", executor_options.points);
  app.add_option("--artifacts", executor_options.artifacts);
  app.add_option("--failure-rate", executor_options.failure_rate);
  app.add_option("--poison-level", executor_options.poison_level);
  app.add_option("--methods", executor_options.abilities.methods)->delimiter(',');
  app.add_option("--half-precisions", executor_options.abilities.half_precisions)->delimiter(',');
  app.add_option("--log", executor_options.log);
  app.add_option("--log-level", log_level);
  CLI11_PARSE(app, argc, argv);
  loupe::InitLogging("loupe-fake-worker", log_level).IgnoreError();

  // As a library's that starts threads when it is loaded: LibTorch's OpenBLAS does.
  std::thread([] { ::pause(); }).detach();
  loupe::worker::agent::CatchLeaveSignals();
  const absl::Time wall = loupe::SystemClock().WallNow();
  const absl::StatusOr<absl::Duration> left = loupe::worker::agent::TimeLeft(until, wall);
  const absl::StatusOr<absl::Duration> idle = loupe::worker::agent::TimeLeft(until_idle, wall);
  if (!left.ok() || !idle.ok()) {
    fmt::print(stderr, "loupe-fake-worker: --until or --until-idle is no length of time\n");
    return 2;
  }
  if (grace_seconds > 0 || !until.empty())
    loupe::worker::agent::LeaveBy(*left, absl::Seconds(grace_seconds), loupe::SystemClock().MonotonicNow(), options);
  options.until_idle = *idle;

  absl::StatusOr<loupe::clients::rpc::ConnectOptions> resolved = loupe::clients::rpc::ResolveConnectOptions(flags);
  std::unique_ptr<loupe::worker::agent::Identity> identity;
  if (resolved.ok() && resolved->token.starts_with(loupe::kEnrolmentPrefix)) {
    auto taken = loupe::worker::agent::Identity::Take(*resolved, options.data_folder, name, "fake");
    if (taken.ok()) {
      identity = *std::move(taken);
      name = identity->id();
      resolved = identity->ConnectAs(*resolved);
    } else {
      resolved = taken.status();
    }
  }
  if (name.empty()) name = fmt::format("fake-{}", getpid());
  absl::StatusOr<std::shared_ptr<loupe::clients::rpc::Connection>> connection =
      resolved.ok() ? loupe::clients::rpc::Connection::Open(*resolved) : resolved.status();
  if (!connection.ok()) {
    fmt::print(stderr, "loupe-fake-worker: {}\n", std::string(connection.status().message()));
    return 1;
  }
  options.worker = "workers/" + name;
  options.hostname = "localhost";
  options.version = "fake";
  options.threads = 1;
  loupe::worker::agent::GrpcCoordinatorClient client(*connection);
  loupe::testing::FakeExecutor executor(executor_options);
  const auto spans = loupe::trace::SpanExporter::Start({.endpoint = "", .service = "loupe-worker", .version = "fake"});
  if (!spans.ok()) {
    fmt::print(stderr, "loupe-fake-worker: {}\n", std::string(spans.status().message()));
    return 1;
  }
  loupe::worker::agent::Agent agent(options,
                                    {&client, &executor, &loupe::SystemClock(), &loupe::SystemRandom(), spans->get()});
  const loupe::worker::agent::LeaveOnSignal leave_on_signal(agent, absl::Seconds(grace_seconds));
  const absl::Status status = agent.Run();
  if (!status.ok()) fmt::print(stderr, "loupe-fake-worker: {}\n", std::string(status.message()));
  return status.ok() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "loupe-fake-worker: {}\n", error.what());
    return 1;
  }
}
