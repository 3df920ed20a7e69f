// One history as it happens: the queue of what comes when, and everything that takes part.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "coordinator/engine/engine.h"
#include "fmt/format.h"
#include "tests/simulation/simulator.h"
#include "tests/simulation/watched_store.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/fake_random.h"
#include "tests/testing/memory_vfs.h"

namespace loupe::simulation {

namespace co = loupe::coordinator;

inline constexpr int kWorkers = 3;

// The score of a trial: what a clean run ends in.
inline double CleanScore(int64_t index) { return 1.0 / static_cast<double>(index + 3); }

// What a worker process believes it holds.
struct Held {
  coordinator::scheduler::LeaseClaim lease;
  absl::Duration until;  // its own idea of the lease's end
  int work_left = 0;     // timer ticks until it has a result
  int64_t points = 0;
  int64_t acknowledged = 0;
  int64_t finish_after = 0;
};

struct Worker {
  std::string name;
  int session = 0;
  bool alive = true;
  absl::Duration frozen_until;
  // Goes on with attempts whose lease is long over, as a process does that was stopped and continued.
  bool zombie = false;
  int32_t pack_slots = 0;
  std::map<std::string, Held> held;  // by "sweep/index/epoch"
  uint64_t timer = 0;                // of several timers only the latest counts
  // As over gRPC: the answer to a call that was given up is never seen.
  uint64_t latest_call = 0;
};

struct Partition {
  absl::Duration until_to_coordinator;
  absl::Duration until_from_coordinator;
};

inline std::string KeyOf(const coordinator::scheduler::LeaseClaim& lease) {
  return fmt::format("{}/{}/{}", lease.sweep_id, lease.index, lease.epoch);
}
inline std::string TrialOf(const coordinator::scheduler::LeaseClaim& lease) {
  return fmt::format("{}/{}", lease.sweep_id, lease.index);
}

class Simulation {
 public:
  explicit Simulation(const SimulatorOptions& options);

  // Once.
  SimulatorResult Run();

 private:
  struct Event {
    absl::Duration at;
    uint64_t order;
    std::function<void()> run;
    bool operator<(const Event& other) const { return std::tie(other.at, other.order) < std::tie(at, order); }
  };

  int64_t Uniform(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random_() % static_cast<uint64_t>(high - low + 1));
  }
  bool Chance(double p) { return static_cast<double>(random_() >> 11) * 0x1.0p-53 < p; }
  bool Faulty() const { return clock_.MonotonicNow() < faults_end_; }
  // Whether more goes wrong than the coordinator's time.
  bool Hostile() const { return Faulty() && !options_.only_stalls; }
  void Violation(std::string text) { result_.violations.push_back(fmt::format("{} (seed {})", text, options_.seed)); }
  void Log(const std::string& text) const {
    if (options_.verbose) fmt::print("{:9.3f} {}\n", absl::ToDoubleSeconds(clock_.MonotonicNow()) - 1000, text);
  }
  void After(absl::Duration delay, std::function<void()> run) {
    queue_.push({clock_.MonotonicNow() + delay, next_order_++, std::move(run)});
  }

  // simulation.cc
  void StartCoordinator();
  void StopCoordinator();
  void CrashCoordinator();
  void Feed(std::vector<coordinator::engine::EngineInput> inputs);
  void ScheduleEngine();

  // simulation_clients.cc
  void CreateSweep(const std::string& id, int tries);
  // Sweeps that come and go, each under a name of its own.
  void CreateBrief();
  void DeleteBrief(const std::string& id);
  void RandomCommand();

  // simulation_workers.cc
  void ScheduleTick(int index, int64_t milliseconds);
  void TickWorker(int index);
  void Send(int index, const coordinator::scheduler::SyncRequest& request);
  void Receive(int index, const coordinator::scheduler::SyncRequest& request, uint64_t number);
  void Answered(int index, const coordinator::scheduler::SyncRequest& request,
                const absl::StatusOr<coordinator::scheduler::SyncAnswer>& answer, int session);
  void RestartWorker(int index);

  // simulation_faults.cc
  void ScheduleFault();
  // The coordinator's own time: nothing is lost, it comes late.
  void RandomStall();
  void RandomFault();
  // A worker with a bug: it hands in a result for a trial that it does not hold, under the right epoch.
  void SendConfusedReport(int index);

  // simulation_invariants.cc
  // An answer is about to leave the coordinator: what it says must be true and must stay true.
  void CheckAnswer(const coordinator::scheduler::SyncRequest& request,
                   const absl::StatusOr<coordinator::scheduler::SyncAnswer>& answer);
  void CheckFinish(const coordinator::scheduler::DesiredAttempt& desired);
  void CheckPack(const coordinator::scheduler::SyncRequest& request, const coordinator::scheduler::SyncAnswer& answer);
  void CheckCounters();
  // What was said to be created is there, and what was said to go does not come back.
  void CheckBrief();
  absl::StatusOr<coordinator::scheduler::Scheduler::SweepView> ViewOf(const std::string& id) const;
  void CheckNobodyPaid();
  void CheckAcknowledged();
  bool Done() const;
  void CheckEnd();

  const SimulatorOptions options_;
  std::mt19937_64 random_;
  testing::FakeRandom tokens_;
  testing::FakeClock clock_;
  testing::MemoryVfs disk_;
  coordinator::scheduler::SchedulerOptions scheduler_options_;
  std::unique_ptr<WatchedStore> store_;
  std::unique_ptr<coordinator::engine::Engine> engine_;
  uint64_t generation_ = 0;
  absl::Duration engine_wake_;
  absl::Duration faults_end_;
  std::priority_queue<Event> queue_;
  uint64_t next_order_ = 0;
  uint64_t next_call_ = 0;
  std::vector<Worker> workers_;
  std::vector<Partition> partitions_;
  std::set<std::string> created_;
  // All that come and go, with their keys where they are known; acknowledged ones; those whose deletion was
  // acknowledged.
  std::map<std::string, coordinator::scheduler::SweepKey> brief_keys_;
  std::set<std::string> standing_;
  std::set<std::string> asked_to_go_;
  std::set<std::string> deleted_;
  absl::Duration stopped_until_;
  absl::Duration slow_disk_until_;
  std::vector<coordinator::engine::EngineInput> waiting_;
  // What the coordinator has let out into the world.
  std::map<std::string, std::pair<int64_t, double>> acknowledged_;  // trial -> (epoch, score)
  std::map<std::string, int64_t> highest_epoch_;
  std::map<std::string, std::string> tokens_given_;
  std::map<std::string, int64_t> told_to_finish_;  // trial -> step; 0: to no end before its budget's
  SimulatorResult result_;
};

}  // namespace loupe::simulation
