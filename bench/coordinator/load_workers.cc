#include "bench/coordinator/load_workers.h"

#include <sys/resource.h>

#include <utility>

#include "fmt/format.h"

namespace loupe::bench {
namespace {

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

SteadyClock::duration ToDuration(double seconds) {
  return std::chrono::duration_cast<SteadyClock::duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

double OwnCpuSeconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
}

// Either its call is under way or its timer runs, never both; the queue's tag is the worker itself.
struct LoadWorkers::Worker {
  std::shared_ptr<clients::rpc::Connection> connection;
  std::unique_ptr<v1::WorkerService::Stub> stub;
  v1::SynchronizeRequest request;
  v1::SynchronizeResponse response;
  grpc::Status status;
  std::unique_ptr<grpc::ClientContext> context;
  std::unique_ptr<grpc::ClientAsyncResponseReader<v1::SynchronizeResponse>> call;
  SteadyClock::time_point sent;
  grpc::Alarm alarm;
  SteadyClock::time_point wake_at;
  bool timer_runs = false;
};

LoadWorkers::LoadWorkers(const LoadOptions& options,
                         const std::vector<std::shared_ptr<clients::rpc::Connection>>& connections)
    : options_(options) {
  for (const std::shared_ptr<clients::rpc::Connection>& connection : connections) {
    auto worker = std::make_unique<Worker>();
    worker->connection = connection;
    worker->stub = v1::WorkerService::NewStub(connection->channel());
    worker->request.set_worker(fmt::format("workers/load-{}", workers_.size()));
    worker->request.set_session_id("bench");
    worker->request.set_slots(1);
    worker->request.mutable_max_wait()->set_seconds(5);
    workers_.push_back(std::move(worker));
  }
}

LoadWorkers::~LoadWorkers() = default;

void LoadWorkers::Send(Worker& worker) {
  worker.context = std::make_unique<grpc::ClientContext>();
  worker.connection->Prepare(*worker.context, absl::Seconds(60));
  worker.response.Clear();
  worker.sent = SteadyClock::now();
  worker.call = worker.stub->AsyncSynchronize(worker.context.get(), worker.request, &queue_);
  worker.call->Finish(&worker.response, &worker.status, &worker);
}

void LoadWorkers::FillCompletion(Worker& worker, const v1::LeaseKey& lease) const {
  v1::AttemptReport* report = worker.request.add_attempts();
  *report->mutable_lease() = lease;
  for (int i = 1; i <= options_.points; ++i) {
    v1::MetricPoint* point = report->add_points();
    point->set_metric("loss");
    point->set_step(i);
    point->set_value(1.0 / i);
  }
  report->set_point_sequence(options_.points);
  (*report->mutable_success()->mutable_scores())["clip_i"] = 0.5;
}

void LoadWorkers::WakeAfter(Worker& worker, double seconds) {
  worker.wake_at = SteadyClock::now() + ToDuration(seconds);
  worker.timer_runs = true;
  worker.alarm.Set(&queue_,
                   std::chrono::system_clock::now() + std::chrono::duration_cast<std::chrono::system_clock::duration>(
                                                          std::chrono::duration<double>(seconds)),
                   &worker);
}

void LoadWorkers::OnTimer(Worker& worker) {
  worker.timer_runs = false;
  if (stopping_) return;
  ++timers_;
  outcome_.timer_delay_seconds += bench::Seconds(SteadyClock::now() - worker.wake_at);
  Send(worker);
}

void LoadWorkers::OnAnswer(Worker& worker) {
  if (stopping_) return;
  if (!worker.status.ok()) {
    // Its message stays as it was, and is sent again.
    ++outcome_.failed_calls;
    WakeAfter(worker, 0.1);
    return;
  }
  const SteadyClock::time_point now = SteadyClock::now();
  const bool got_lease = worker.response.attempts_size() > 0;
  if (worker.request.attempts_size() > 0 && worker.response.verdicts(0).status().code() == 0) {
    if (got_lease) outcome_.lease_seconds.push_back(bench::Seconds(now - worker.sent));
    ++outcome_.completed;
    last_completion_ = now;
  }
  worker.request.clear_attempts();
  if (got_lease) FillCompletion(worker, worker.response.attempts(0).lease());
  if (got_lease && options_.trial_seconds > 0) {
    WakeAfter(worker, options_.trial_seconds);
  } else {
    Send(worker);
  }
}

LoadOutcome LoadWorkers::Run() {
  const SteadyClock::time_point start = SteadyClock::now();
  last_completion_ = start;
  for (size_t i = 0; i < workers_.size(); ++i) {
    // Workers of a fleet do not beat in time. (Those of a given number of trials start as one does: at once.)
    const double share = static_cast<double>(i) / static_cast<double>(workers_.size());
    if (options_.trials > 0 || options_.trial_seconds == 0) {
      Send(*workers_[i]);
    } else {
      WakeAfter(*workers_[i], options_.trial_seconds * share);
    }
  }
  const auto done = [&] {
    if (options_.stop != nullptr && *options_.stop) return true;
    return options_.trials > 0 ? outcome_.completed >= options_.trials
                               : SteadyClock::now() - start >= ToDuration(options_.seconds);
  };
  void* tag = nullptr;
  bool ok = false;
  while (!done() && queue_.Next(&tag, &ok)) {
    Worker& worker = *static_cast<Worker*>(tag);
    worker.timer_runs ? OnTimer(worker) : OnAnswer(worker);
  }
  outcome_.seconds = bench::Seconds((options_.trials > 0 ? last_completion_ : SteadyClock::now()) - start);
  if (timers_ > 0) outcome_.timer_delay_seconds /= static_cast<double>(timers_);
  stopping_ = true;
  for (const auto& worker : workers_) worker->timer_runs ? worker->alarm.Cancel() : worker->context->TryCancel();
  queue_.Shutdown();
  while (queue_.Next(&tag, &ok)) {
  }
  return std::move(outcome_);
}

}  // namespace loupe::bench
