#include "tests/testing/mini_sweep.h"

#include <cstdlib>
#include <utility>

#include "fmt/format.h"

namespace loupe::testing {
namespace {

void DieUnless(const absl::Status& status, std::string_view doing) {
  if (status.ok()) return;
  fmt::print(stderr, "{}: {}\n", doing, status.ToString());
  std::abort();
}

}  // namespace

WorkerThread::WorkerThread(std::shared_ptr<clients::rpc::Connection> connection, const std::string& name,
                           const std::string& folder, const FakeExecutorOptions& options)
    : client_(std::move(connection)),
      executor_(options),
      agent_(
          [&] {
            worker::agent::AgentOptions agent;
            agent.worker = "workers/" + name;
            agent.hostname = "localhost";
            agent.version = "test";
            agent.data_folder = folder;
            agent.backoff = {absl::Milliseconds(5), absl::Milliseconds(50)};
            return agent;
          }(),
          {&client_, &executor_, &SystemClock(), &SystemRandom()}),
      thread_([this] { agent_.Run().IgnoreError(); }) {}

WorkerThread::~WorkerThread() {
  agent_.RequestStop();
  thread_.join();
}

MiniSweep::MiniSweep(coordinator::scheduler::SchedulerOptions options) {
  options_.data_folder = folder_ / "data";
  options_.listen = "127.0.0.1:0";
  // This process is no coordinator that could run itself.
  options_.analysis.program = {LOUPE_COORDINATOR, "analyse"};
  // Under a sanitizer address space is no measure of memory.
  options_.analysis.memory_bytes = 0;
  options_.scheduler = options;
  options_.scheduler.report_interval = absl::Milliseconds(20);
  absl::StatusOr<std::unique_ptr<coordinator::server::Server>> server = coordinator::server::Server::Start(options_);
  DieUnless(server.status(), "start");
  server_ = *std::move(server);
  // A restart must be found where the first one was.
  options_.listen = server_->address();
  const std::string page = server_->http_address();
  options_.http_listen = page.substr(page.find("://") + 3);
  http_port_ = std::atoi(page.c_str() + page.rfind(':') + 1);
  Connect();
}

MiniSweep::~MiniSweep() { StopWorkers(); }

void MiniSweep::Connect() {
  absl::StatusOr<clients::rpc::ConnectOptions> connect = clients::rpc::ResolveConnectOptions(
      {.address = server_->address(), .token_file = options_.data_folder + "/token"});
  DieUnless(connect.status(), "connect");
  connection_ = *clients::rpc::Connection::Open(*connect);
  sweeps_ = v1::SweepService::NewStub(connection_->channel());
  trials_ = v1::TrialService::NewStub(connection_->channel());
  worker_stub_ = v1::WorkerService::NewStub(connection_->channel());
  analysis_ = v1::AnalysisService::NewStub(connection_->channel());
}

void MiniSweep::RestartCoordinator() {
  server_->Stop(absl::Milliseconds(100));
  server_.reset();
  absl::StatusOr<std::unique_ptr<coordinator::server::Server>> server = coordinator::server::Server::Start(options_);
  DieUnless(server.status(), "restart");
  server_ = *std::move(server);
}

WorkerThread& MiniSweep::AddWorker(const std::string& name, const FakeExecutorOptions& options) {
  workers_.push_back(std::make_unique<WorkerThread>(connection_, name, folder_ / "worker-" + name, options));
  return *workers_.back();
}

v1::Sweep MiniSweep::Create(const std::string& id, const v1::SweepSpec& spec) {
  v1::CreateSweepRequest request;
  request.set_sweep_id(id);
  *request.mutable_spec() = spec;
  grpc::ClientContext context;
  connection_->Prepare(context);
  v1::CreateSweepResponse response;
  DieUnless(connection_->Check(sweeps_->CreateSweep(&context, request, &response)), "create");
  return response.sweep();
}

v1::Sweep MiniSweep::Get(const std::string& id) {
  v1::GetSweepRequest request;
  request.set_name("sweeps/" + id);
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  connection_->Prepare(context);
  v1::Sweep sweep;
  DieUnless(connection_->Check(sweeps_->GetSweep(&context, request, &sweep)), "get");
  return sweep;
}

v1::Sweep MiniSweep::WaitUntilEnded(const std::string& id) {
  v1::WatchSweepRequest request;
  request.set_name("sweeps/" + id);
  while (true) {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    connection_->Prepare(context, absl::Seconds(50));
    const auto reader = sweeps_->WatchSweep(&context, request);
    v1::WatchSweepResponse response;
    v1::Sweep last;
    while (reader->Read(&response)) last = response.sweep();
    const grpc::Status status = reader->Finish();
    if (status.ok()) return last;
    // A coordinator that restarts cuts the stream: watch again. A deadline is a hang.
    if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) DieUnless(connection_->Check(status), "watch");
  }
}

std::vector<v1::Trial> MiniSweep::Trials(const std::string& id) {
  std::vector<v1::Trial> trials;
  v1::ListTrialsRequest request;
  request.set_parent("sweeps/" + id);
  request.set_page_size(1000);
  do {
    grpc::ClientContext context;
    connection_->Prepare(context);
    v1::ListTrialsResponse response;
    DieUnless(connection_->Check(trials_->ListTrials(&context, request, &response)), "list");
    for (const v1::Trial& trial : response.trials()) trials.push_back(trial);
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return trials;
}

}  // namespace loupe::testing
