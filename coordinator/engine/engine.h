// Drives the scheduler and makes what it decides durable: the coordinator's one serial heart.
//
// Law: a batch of requests is decided in memory, its effects are committed in one transaction, and only then does any
// answer leave. When the commit fails, the state is rebuilt from the store as after a restart, so memory never runs
// ahead of it; the same when an exception cuts a decision off half-way (memory was short). What a request brought is
// decided before anything expires: a heartbeat that waited behind a slow disk came in time. Jobs on whole sweeps get a
// bounded share of each batch, so that nobody waits long for them. Thread law: none of its own. EngineThread runs one
// Engine on one thread; the simulator calls it directly.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/random_source.h"
#include "coordinator/engine/serving_clock.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/store/journal.h"

namespace loupe::coordinator::engine {

// Called once, after the request's effects are durable (OK), or with why they are not.
using Reply = std::function<void(const absl::Status& durable)>;
// Decides one request. May run a second time on a rebuilt scheduler (the first reply is then never called), so it must
// not keep references into the first. One that an exception cuts off has no reply: whoever waits for it learns that by
// the job's destruction.
using Job = std::function<Reply(scheduler::Scheduler&, const scheduler::Now&, scheduler::Effects&)>;

// One Synchronize. `reply` is called exactly once, at once when there is news and at the latest after `max_wait`.
struct SyncCall {
  scheduler::SyncRequest request;
  absl::Duration max_wait;
  std::function<void(absl::StatusOr<scheduler::SyncAnswer>)> reply;
  // For CancelSync; unique per call.
  uint64_t id = 0;
};

// One WatchSweep: called after changes, at most every kWatchInterval. The last call has a status that is not OK, or a
// terminal sweep.
struct WatchUpdate {
  scheduler::SweepRecord sweep;
  scheduler::TrialCounts counts;
  std::optional<absl::Duration> estimated_time_left;
  std::vector<scheduler::WaitingTrials> waiting;
  std::vector<scheduler::RunningAttempt> running;
};
struct WatchCall {
  std::string sweep_id;
  // Returns false when it wants no more.
  std::function<bool(absl::StatusOr<WatchUpdate>)> update;
};
inline constexpr absl::Duration kWatchInterval = absl::Milliseconds(500);

using EngineInput = std::variant<Job, SyncCall, WatchCall>;

class Engine {
 public:
  struct Deps {
    store::Journal* store;
    const Clock* clock;
    RandomSource* random;
    // Told when commits begin to fail (false) and when one succeeds again (true). May be empty.
    std::function<void(bool)> on_health;
    // Told what has become durable and how long the store took for it, before any answer leaves. May be empty.
    std::function<void(const scheduler::Effects&, absl::Duration took)> on_commit;
    // What the job of a restored sweep needs of its plan. May be empty: then such jobs wait.
    std::function<absl::StatusOr<scheduler::CellFunctions>(const scheduler::SweepRecord&)> cells;
    // What the trials of a restored sweep need of a worker. May be empty, and give nullptr: then any will do.
    std::function<std::shared_ptr<const scheduler::SweepNeeds>(const scheduler::SweepRecord&)> needs;
  };
  Engine(const scheduler::SchedulerOptions& options, Deps deps);

  // Builds the scheduler from the store. The store's error otherwise; the engine answers UNAVAILABLE until one
  // succeeds.
  absl::Status Recover();

  // Decides, commits, answers. Calls Recover when a commit fails.
  void Process(const std::vector<EngineInput>& inputs);

  // When Process has to be called again even without inputs (monotonic).
  absl::Duration NextDeadline() const;

  // Answers the held call (CANCELLED) if it is still held.
  void CancelSync(const std::string& worker, uint64_t id);
  // Answers everything that is held: for shutdown.
  void CancelAll();

  // For reading only, between Process calls.
  const scheduler::Scheduler& scheduler() const { return *scheduler_; }

 private:
  struct ParkedSync {
    SyncCall call;
    absl::Duration deadline;
  };
  struct Watch {
    WatchCall call;
    uint64_t seen_change = 0;
    std::vector<scheduler::WaitingTrials> seen_waiting;
    absl::Duration next_update;
  };
  struct Outbox {
    std::vector<Reply> replies;
    std::vector<SyncCall> to_park;
  };

  scheduler::Now ReadClock() const { return {serving_.now(), deps_.clock->WallNow()}; }
  void Decide(const EngineInput& input, const scheduler::Now& now, scheduler::Effects& effects, Outbox& outbox);
  void DecideSync(const SyncCall& call, const scheduler::Now& now, scheduler::Effects& effects, Outbox& outbox);
  void AnswerParked(const std::string& worker, const scheduler::Now& now, scheduler::Effects& effects, Outbox& outbox);
  void FollowUp(const scheduler::Now& now, scheduler::Effects& effects, Outbox& outbox);
  // Decides and commits; answers only when that went well. After an error `inputs` and `outbox` hold what has no answer
  // yet; `cut_off_` says whether an exception was the cause, which leaves the scheduler in no state and requests
  // without a reply.
  absl::Status TryBatch(std::vector<const EngineInput*>& inputs, Outbox& outbox);
  absl::Status Commit(const scheduler::Effects& effects, bool with_work);
  int64_t JobRows() const;
  void Refuse(const Outbox& outbox, const absl::Status& status);
  // Of a request that has no reply in an outbox.
  void RefuseUndecided(const EngineInput& input, const absl::Status& status);
  // Decides each only to learn whom to tell.
  void RefuseAll(const std::vector<const EngineInput*>& inputs, const absl::Status& status);
  absl::Status RecoverGuarded();
  void DecideAlone(const EngineInput& input);
  // Of a call that is to be held, after what it brought is durable.
  void Keep(SyncCall& call, const scheduler::Now& now);
  Reply LetGo(const std::string& worker);
  // Takes the call, or throws and leaves it. None of its worker's is held.
  void Hold(SyncCall& call, absl::Duration deadline);
  // Ends the holding of a call; its reply is left to the caller.
  std::function<void(absl::StatusOr<scheduler::SyncAnswer>)> Release(std::map<std::string, ParkedSync>::iterator held);
  void UpdateWatches(const scheduler::Now& now);
  void SetHealthy(bool healthy);

  const scheduler::SchedulerOptions options_;
  const Deps deps_;
  ServingClock serving_;
  std::unique_ptr<scheduler::Scheduler> scheduler_;
  std::map<std::string, ParkedSync> parked_;
  // Of all parked calls: thousands may be held, and each batch asks for those whose time has come.
  std::set<std::pair<absl::Duration, std::string>> deadlines_;
  std::list<Watch> watches_;
  bool recovered_ = false;
  // After a refused commit: what is due by time alone waits until then (a full disk must not be asked in a loop). On
  // the machine's clock, as the next one.
  absl::Duration retry_at_;
  // After a job whose effects the schema refused.
  absl::Duration jobs_wait_until_;
  // Room for jobs in one turn, by how long turns take on this disk.
  int64_t job_rows_;
  bool healthy_ = true;
  bool cut_off_ = false;
};

}  // namespace loupe::coordinator::engine
