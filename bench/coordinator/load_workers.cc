#include "bench/coordinator/load_workers.h"

#include <utility>

#include "fmt/format.h"

namespace loupe::bench {

Timer::Timer() : thread_([this] { Loop(); }) {}

Timer::~Timer() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Timer::At(SteadyClock::time_point when, std::function<void()> run) {
  const std::lock_guard<std::mutex> lock(mutex_);
  queue_.push({when, std::move(run)});
  changed_.notify_all();
}

void Timer::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    if (queue_.empty()) {
      changed_.wait(lock);
    } else if (queue_.top().when > SteadyClock::now()) {
      const SteadyClock::time_point when = queue_.top().when;
      changed_.wait_until(lock, when);
    } else {
      const auto run = queue_.top().run;
      queue_.pop();
      lock.unlock();
      run();
      lock.lock();
    }
  }
}

LoadWorker::LoadWorker(const Options& options, std::shared_ptr<Connection> connection, Timer& timer, Totals& totals)
    : options_(options),
      connection_(std::move(connection)),
      timer_(timer),
      totals_(totals),
      stub_(v1::WorkerService::NewStub(connection_->channel())) {
  base_.set_worker(fmt::format("workers/load-{}", options.number));
  base_.set_session_id("bench");
  base_.set_slots(1);
  base_.mutable_max_wait()->set_seconds(5);
}

void LoadWorker::Send(v1::SynchronizeRequest request) {
  ++in_flight_;
  request_ = std::move(request);
  context_ = std::make_unique<grpc::ClientContext>();
  connection_->Prepare(*context_, absl::Seconds(60));
  response_.Clear();
  sent_ = SteadyClock::now();
  stub_->async()->Synchronize(context_.get(), &request_, &response_, [this](const grpc::Status& status) { Answered(status); });
}

v1::SynchronizeRequest LoadWorker::Completion(const v1::LeaseKey& lease) const {
  v1::SynchronizeRequest request = base_;
  v1::AttemptReport* report = request.add_attempts();
  *report->mutable_lease() = lease;
  for (int i = 1; i <= options_.points; ++i) {
    v1::MetricPoint* point = report->add_points();
    point->set_metric("loss");
    point->set_step(i);
    point->set_value(1.0 / i);
  }
  report->set_point_sequence(options_.points);
  (*report->mutable_success()->mutable_scores())["clip_i"] = 0.5;
  return request;
}

void LoadWorker::Answered(const grpc::Status& status) {
  if (!status.ok()) ++totals_.errors;
  if (!status.ok() || totals_.stop) {
    --in_flight_;
    return;
  }
  const bool got_lease = response_.attempts_size() > 0;
  if (request_.attempts_size() > 0 && response_.verdicts(0).status().code() == 0) {
    const std::lock_guard<std::mutex> lock(totals_.mutex);
    if (got_lease) totals_.lease_seconds.push_back(Seconds(SteadyClock::now() - sent_));
    ++totals_.completed;
    totals_.points += options_.points;
  }
  v1::SynchronizeRequest next = got_lease ? Completion(response_.attempts(0).lease()) : base_;
  const auto send = [this, next = std::move(next)] {
    // Counted before it is uncounted: a worker between two messages is not idle.
    Send(next);
    --in_flight_;
  };
  if (got_lease && options_.trial_seconds > 0) {
    timer_.At(SteadyClock::now() + std::chrono::duration_cast<SteadyClock::duration>(
                                       std::chrono::duration<double>(options_.trial_seconds)),
              send);
  } else {
    send();
  }
}

}  // namespace loupe::bench
