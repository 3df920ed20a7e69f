// Runs analyses in processes of their own (analysis_job.h): few at a time, fairly among the clients, each only while
// somebody wants its answer; what has been computed from the same data is kept.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "coordinator/api/analysis_job.h"

namespace loupe::coordinator::api {

struct AnalysisOptions {
  // The program that runs a job, with its first arguments ("/proc/self/exe analyse"): the coordinator itself, or, in a
  // test's process, a coordinator beside it.
  std::vector<std::string> program;
  int processes = 2;
  // Jobs of one client, running or waiting; eight times as many of all together. More are refused.
  int most_per_client = 8;
  // After that a job is ended, wanted or not.
  absl::Duration longest = absl::Minutes(10);
  int64_t memory_bytes = int64_t{4} << 30;
  int64_t cache_bytes = int64_t{64} << 20;
};

// Thread-safe.
class AnalysisRunner {
 public:
  // Called once, on a thread of the runner or of whoever calls Run or Cancel; never with a lock of the runner's held.
  using Done = std::function<void(std::shared_ptr<const AnalysisAnswer>)>;

  AnalysisRunner(const AnalysisOptions& options, std::string data_folder);
  // Stop.
  ~AnalysisRunner();

  // The answer to `job`, whose data have the version `data_version`: a kept one, that of a process that is at it, or a
  // new process'. An answer with RESOURCE_EXHAUSTED when `client` has too many jobs; INTERNAL when the process crashed;
  // DEADLINE_EXCEEDED when it took too long. Returns what Cancel takes.
  uint64_t Run(const std::string& client, const std::string& data_version, const std::string& job, Done done);

  // `done` is called with CANCELLED unless it was called before; the process ends when nobody else waits for it.
  void Cancel(uint64_t id);

  // Ends all processes and answers all with UNAVAILABLE, now and from now on.
  void Stop();

  // Processes started so far: for tests.
  int64_t started() const;

 private:
  struct Job;
  struct Kept {
    std::string key;
    std::shared_ptr<const AnalysisAnswer> answer;
  };
  void Loop();
  AnalysisAnswer RunProcess(const Job& job);
  // Takes a job that nobody waits for out of its queue.
  void Withdraw(const std::shared_ptr<Job>& job);
  void Keep(const std::string& key, std::shared_ptr<const AnalysisAnswer> answer);

  const AnalysisOptions options_;
  const std::string data_folder_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // By key: data version and request.
  std::map<std::string, std::shared_ptr<Job>> jobs_;
  std::map<uint64_t, std::string> keys_;
  std::map<std::string, int> per_client_;
  // Clients take turns.
  std::map<std::string, std::deque<std::shared_ptr<Job>>> waiting_;
  std::list<std::string> turns_;
  // Most recently used in front.
  std::list<Kept> kept_;
  int64_t kept_bytes_ = 0;
  uint64_t next_id_ = 1;
  int64_t started_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace loupe::coordinator::api
