// Simulated workers over real gRPC: each completes its trial and asks for the next in the same message.
#pragma once

#include <grpcpp/client_context.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <queue>
#include <thread>
#include <vector>

#include "clients/rpc/connection.h"
#include "loupe/v1/worker.grpc.pb.h"

namespace loupe::bench {

using SteadyClock = std::chrono::steady_clock;

inline double Seconds(SteadyClock::duration time) { return std::chrono::duration<double>(time).count(); }

// Runs functions at given times on one thread: the length of all simulated trials.
class Timer {
 public:
  Timer();
  ~Timer();
  void At(SteadyClock::time_point when, std::function<void()> run);

 private:
  struct Entry {
    SteadyClock::time_point when;
    std::function<void()> run;
    bool operator<(const Entry& other) const { return other.when < when; }
  };
  void Loop();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::priority_queue<Entry> queue_;
  bool stopping_ = false;
  std::thread thread_;
};

struct Totals {
  std::atomic<int64_t> completed{0};
  std::atomic<int64_t> points{0};
  std::atomic<int64_t> errors{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  // From the sending of a completion to the receipt of the next lease.
  std::vector<double> lease_seconds;
};

class LoadWorker {
 public:
  struct Options {
    int number = 0;
    double trial_seconds = 0;
    // Metric points that come with each completion.
    int points = 0;
  };
  // `connection`, `timer` and `totals` outlive it, and it outlives its last answer (idle()).
  LoadWorker(const Options& options, std::shared_ptr<Connection> connection, Timer& timer, Totals& totals);

  void Start() { Send(base_); }
  // Whether nothing of it is under way; only after totals.stop.
  bool idle() const { return in_flight_ == 0; }

 private:
  void Send(v1::SynchronizeRequest request);
  void Answered(const grpc::Status& status);
  v1::SynchronizeRequest Completion(const v1::LeaseKey& lease) const;

  const Options options_;
  const std::shared_ptr<Connection> connection_;
  Timer& timer_;
  Totals& totals_;
  const std::unique_ptr<v1::WorkerService::Stub> stub_;
  v1::SynchronizeRequest base_;
  v1::SynchronizeRequest request_;
  v1::SynchronizeResponse response_;
  std::unique_ptr<grpc::ClientContext> context_;
  SteadyClock::time_point sent_;
  std::atomic<int> in_flight_{0};
};

}  // namespace loupe::bench
