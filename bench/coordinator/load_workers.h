// Simulated workers over real gRPC: each completes its trial and takes the next in the same message.
//
// All of them run on the calling thread, from one completion queue: the load generator shares the machine with what it
// measures, so it must cost little, and what it costs is reported (OwnCpuSeconds).
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <vector>

#include "clients/rpc/connection.h"
#include "loupe/v1/worker.grpc.pb.h"

namespace loupe::bench {

using SteadyClock = std::chrono::steady_clock;

inline double Seconds(SteadyClock::duration time) { return std::chrono::duration<double>(time).count(); }

// User and system time of this process so far.
double OwnCpuSeconds();

struct LoadOptions {
  int workers = 1000;
  // Ends after so many seconds, or, where `trials` is given, when so many are completed.
  double seconds = 10;
  int64_t trials = 0;
  // Ends also when this is set.
  const std::atomic<bool>* stop = nullptr;
  // How long a worker holds each trial; 0 completes it at once.
  double trial_seconds = 0;
  // Metric points that come with each completion.
  int points = 0;
};

struct LoadOutcome {
  // From the first message to the last completion.
  double seconds = 0;
  int64_t completed = 0;
  int64_t failed_calls = 0;
  // From the sending of a completion to the receipt of its answer with the next lease.
  std::vector<double> lease_seconds;
  // By how much the timer ended trials later than asked, on average: the generator's own share of a timed trial.
  double timer_delay_seconds = 0;
};

class LoadWorkers {
 public:
  // One worker per connection; `connections` has options.workers of them.
  LoadWorkers(const LoadOptions& options, const std::vector<std::shared_ptr<clients::rpc::Connection>>& connections);
  ~LoadWorkers();

  // Once.
  LoadOutcome Run();

 private:
  struct Worker;

  void Send(Worker& worker);
  void FillCompletion(Worker& worker, const v1::LeaseKey& lease) const;
  void OnAnswer(Worker& worker);
  void OnTimer(Worker& worker);
  void WakeAfter(Worker& worker, double seconds);

  const LoadOptions options_;
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<Worker>> workers_;
  LoadOutcome outcome_;
  SteadyClock::time_point last_completion_;
  int64_t timers_ = 0;
  bool stopping_ = false;
};

}  // namespace loupe::bench
