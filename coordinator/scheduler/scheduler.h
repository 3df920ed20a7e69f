// Decides which worker runs which trial: a pure state machine.
//
// Law: (state, event, now, random) → (state, effects, answer), and nothing else: no I/O, no clock, no threads. Whoever
// drives it makes the effects durable before any answer leaves (service/engine.h in production, the simulator in
// tests). Every write under a lease (progress, artifact, completion) is checked against trial, epoch, token, worker and
// session; a stale one changes nothing but may be kept as evidence. Cost: O(log n) per message in the number of live
// attempts, workers and sweeps; never a walk over a sweep's trials. What concerns all of them (create, stop, cancel,
// retry, delete) is a job: its intent is one effect, its work is done in steps of bounded size by Work, and a restart
// goes on with the next step. Only RetryTrials looks at each trial once, in memory, to say how many it is.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/random_source.h"
#include "coordinator/scheduler/effects.h"
#include "coordinator/scheduler/model.h"
#include "coordinator/scheduler/run_queue.h"
#include "coordinator/scheduler/sweep_transitions.h"
#include "coordinator/scheduler/worker_table.h"

namespace loupe::coordinator::scheduler {

// The moment of an event: leases by the first, what people read by the second. The first is serving time
// (service/serving_clock.h): it stands still while the coordinator does.
struct Now {
  absl::Duration monotonic;
  absl::Time wall;
};

struct SchedulerOptions {
  // How long a worker may be silent before its attempts are given to others. Longer: slower recovery from a dead
  // worker; shorter: a busy network or a loaded machine costs attempts.
  absl::Duration lease = absl::Seconds(30);
  // How long an attempt may go without a new step, phase or metric point, though its worker is alive.
  absl::Duration progress_timeout = absl::Minutes(30);
  // How soon a busy worker is asked to report again; a quarter of the lease where that is sooner.
  absl::Duration report_interval = absl::Seconds(1);
  WorkerRules workers;
  // So much work makes one worker more worth its start (its place in a queue, loading a base): DemandAt.
  absl::Duration worth_a_worker = absl::Minutes(5);
  // The most rows that jobs write between two batches of requests. Larger: less overhead; smaller: shorter waits for
  // everybody else.
  int64_t job_rows = 4096;
  // For tests of the tests: a scheduler broken on purpose, which the simulator must catch.
  enum class Mutation {
    kNone,
    kSkipTokenCheck,
    kDoubleLease,
    kForgetEpoch,
    kLeaseToAnybody,
    kPackAnything,
    kForgetRungs
  };
  Mutation mutation = Mutation::kNone;
};

// Names one attempt and proves that its holder holds the lease.
struct LeaseClaim {
  std::string sweep_id;
  int64_t index = 0;
  int64_t epoch = 0;
  std::string token_hex;
};

struct Stopped {};

struct AttemptReport {
  LeaseClaim lease;
  std::string phase;
  int64_t step = 0;
  int64_t total_steps = 0;
  int32_t pack = 0;
  std::vector<MetricPoint> points;
  // Sequence number of the last of `points`.
  int64_t point_sequence = 0;
  // Nothing while it runs.
  std::variant<std::monostate, Result, Failure, Stopped> outcome;
};

// Completes a result by what its sweep's plan says of the trial (`inputs`). An error's message says what the plan asks
// for and the result lacks: the attempt has failed then.
using ResultExaminer = std::function<absl::StatusOr<Result>(const SweepRecord& sweep, int64_t index, Result result)>;

struct SyncRequest {
  std::string worker;
  std::string session;
  WorkerDescription description;
  std::vector<AttemptReport> attempts;
  int32_t slots = 1;
  int32_t pack_slots = 0;
  bool draining = false;
  // Empty: results are taken as they are.
  ResultExaminer examine;
};

struct Verdict {
  absl::Status status;
  int64_t acknowledged_point_sequence = 0;
  // Of a report under a lease that was held: of which sweep, whatever has become of the attempt by it. Empty otherwise.
  std::string sweep_uid;
};

struct DesiredAttempt {
  TrialKey trial;
  std::string sweep_id;
  int64_t epoch = 0;
  Token128 token{};
  // With which the service looks up what the trial's settings are.
  std::string sweep_uid;
  int64_t cell = 0;
  int32_t replicate = 0;
  uint64_t sweep_seed = 0;
  // Not 0: it is to train no further than to this step, and be scored.
  int64_t finish_after_step = 0;
};

struct SyncAnswer {
  std::vector<Verdict> verdicts;
  std::vector<DesiredAttempt> desired;
  absl::Duration lease;
  absl::Duration next_sync_after;
  bool draining = false;
  // Whether the answer tells the worker anything that it does not know; if not, the call may be held.
  bool news = false;
};

// What WatchSweep shows of an attempt.
struct RunningAttempt {
  TrialKey trial;
  std::string worker;
  int64_t epoch = 0;
  std::string phase;
  int64_t step = 0;
  int64_t total_steps = 0;
  int32_t pack = 0;
  std::map<std::string, double> metrics;
  absl::Duration elapsed;
};

// What a job needs of its sweep's plan: the scheduler knows cells by their number only.
struct CellFunctions {
  CellLevelsJson levels_json;
  // Whether a cell passes the job's cell_filter; empty: each does. Quick: it is asked for every trial.
  std::function<bool(int64_t cell)> matches;
};

// Queued trials of one sweep that no connected worker can run. They wait, and cost no attempt.
struct WaitingTrials {
  std::string sweep_id;
  int64_t trials = 0;
  // "method lora, and no connected worker runs it"
  std::string reason;
  bool operator==(const WaitingTrials&) const = default;
};

struct SchedulerCounters {
  int64_t leases_granted = 0;
  int64_t leases_expired = 0;
  int64_t results_accepted = 0;
  int64_t stale_writes_refused = 0;
};

// Not thread-safe. After Recover-time calls (Restore…), use the On… events in the order in which things happen.
class Scheduler {
 public:
  // `random` gives lease tokens; it must outlive the scheduler.
  Scheduler(const SchedulerOptions& options, RandomSource& random);
  ~Scheduler();

  // Rebuilding after a restart, in the order of RecoverySink. Live attempts get one full fresh lease from `now`:
  // whatever time passed while the coordinator was down was not the worker's fault. A job whose `cells` are an error
  // waits for the next restart, and the sweep says why (state_reason).
  void RestoreSweep(SweepRecord sweep, absl::StatusOr<CellFunctions> cells = CellFunctions{},
                    std::shared_ptr<const SweepNeeds> needs = nullptr);
  void RestoreTrial(SweepKey sweep, int64_t index, TrialState state, int64_t epoch, int32_t failed_attempts,
                    int32_t worker_losses, uint64_t result_digest);
  void RestoreWorker(WorkerRecord worker, const Now& now);
  // Of a worker whose call is held, before Park: what workers can do is not stored.
  void RestoreAbilities(const std::string& worker, const WorkerAbilities& abilities);
  // Only the token's digest is known then: the worker that reports the attempt shows the token; one that does not
  // report it in its next message does not hold it, and the trial goes back to the queue.
  void RestoreAttempt(TrialKey trial, int64_t epoch, const std::string& token_sha256, const std::string& worker,
                      const std::string& session, int64_t point_sequence, std::set<std::string> artifacts,
                      const Now& now);
  void RestoreInput(const RecordInput& input);
  void RestoreRung(const NoteRung& rung);
  void RestoreRequest(RecordRequest request);

  // The commands below that concern all trials of a sweep begin a job for `client`, and do as much of it as this turn
  // has room for.

  // A new sweep, all trials queued; none runs before all are stored. `sweep` needs no key, times or state: they are set
  // here. Without `needs` any worker will do. `request_id` may be empty. ALREADY_EXISTS when the id is taken; a repeat
  // of the same request returns the first sweep; INVALID_ARGUMENT when `request_id` was used with other content.
  absl::StatusOr<SweepRecord> OnCreate(SweepRecord sweep, CellLevelsJson cell_levels_json,
                                       const std::string& request_id, const std::string& fingerprint, const Now& now,
                                       Effects& effects, const std::string& client = "",
                                       std::shared_ptr<const SweepNeeds> needs = nullptr);
  // `etag` empty means any. ABORTED when it does not match; NOT_FOUND; FAILED_PRECONDITION as sweep_transitions.h says,
  // while the sweep is being deleted, and for stop and cancel while it is being created. A sweep is CANCELLED when its
  // last trial is.
  absl::StatusOr<SweepRecord> OnVerb(const std::string& sweep_id, SweepVerb verb, const std::string& etag,
                                     const Now& now, Effects& effects, const std::string& client = "");
  // FAILED_PRECONDITION unless terminal or `force`. The name is taken until the last row is gone; a repeat is OK until
  // then.
  absl::Status OnDelete(const std::string& sweep_id, bool force, const std::string& etag, const Now& now,
                        Effects& effects, const std::string& client = "");
  // Queues trials in one of `states` whose cell passes `cell_matches` (empty: all), with their budgets renewed; an
  // ended sweep becomes active again if there are any. Returns how many. Idempotent by request id as OnCreate.
  // `cell_filter` is what `cell_matches` is made from again after a restart. FAILED_PRECONDITION while another job of
  // the sweep is going on.
  absl::StatusOr<int64_t> OnRetry(const std::string& sweep_id, const std::set<TrialState>& states,
                                  const std::function<bool(int64_t cell)>& cell_matches, const std::string& request_id,
                                  const std::string& fingerprint, const Now& now, Effects& effects,
                                  const std::string& cell_filter = "", const std::string& client = "");

  // Before a batch of requests, after the last one's effects are durable: jobs may write `job_rows` rows in it.
  void BeginTurn(int64_t job_rows);
  // After the batch: steps of jobs, client by client in turn, as far as there is room. How much was done, in rows.
  int64_t Work(const Now& now, Effects& effects);
  bool HasWork() const { return !turns_.empty(); }

  // ABORTED / SESSION_SUPERSEDED when a newer process has taken the worker's name.
  absl::StatusOr<SyncAnswer> OnSync(const SyncRequest& request, const Now& now, Effects& effects);
  // NOT_FOUND.
  absl::Status OnDrain(const std::string& worker, bool draining, const Now& now, Effects& effects);
  // ABORTED / LEASE_LOST unless the claim is good now.
  absl::StatusOr<TrialKey> CheckLease(const LeaseClaim& claim) const;
  absl::Status OnArtifact(const LeaseClaim& claim, ArtifactRecord artifact, Effects& effects);
  // Lease expiry, back-off, set-asides; workers that are to be forgotten, some at a time. Call it at NextDeadline() or
  // later.
  void OnTick(const Now& now, Effects& effects);
  absl::Duration NextDeadline() const;

  // The engine holds this worker's call: it may be given work as soon as there is some.
  void Park(const std::string& worker, const Now& now);
  void Unpark(const std::string& worker);
  // Gives work to parked workers, longest waiting first, to each as much as it can take and no more than its share.
  void Dispatch(const Now& now, Effects& effects);
  // Parked workers whose desired state has changed since the last call.
  std::vector<std::string> TakeWoken();

  struct SweepView {
    const SweepRecord* record = nullptr;
    TrialCounts counts;
    // Rises with every change that WatchSweep shows.
    uint64_t change = 0;
    // Unset too while trials wait for a worker that can run them.
    std::optional<absl::Duration> estimated_time_left;
    std::vector<WaitingTrials> waiting;
  };
  absl::StatusOr<SweepView> View(const std::string& sweep_id, const Now& now) const;
  std::vector<RunningAttempt> Running(const std::string& sweep_id, const Now& now) const;
  // Of all sweeps, at most `most`.
  std::vector<WaitingTrials> Waiting(const Now& now, size_t most) const;
  // How many workers there should be, and are. A walk over sweeps and workers: for who asks now and then.
  struct Demand {
    // Queued or running, of active sweeps and of those that end what runs; without those that no connected worker can
    // run.
    int64_t trials = 0;
    // Workers with `worth_a_worker` of work each, by the median time of each sweep's latest trials (until one has
    // ended, a worker for each trial), and as many as are busy at least. Never more than trials, where a worker has one
    // at a time.
    int64_t wanted = 0;
    // Connected and taking trials: not leaving, drained or set aside.
    int64_t available = 0;
  };
  Demand DemandAt(const Now& now) const;
  // Why no connected worker can run trials that need this; empty when one can.
  std::string WhyNobodyRuns(const TrialNeeds& needs, const Now& now) const;
  const WorkerTable& workers() const { return workers_; }
  const SchedulerCounters& counters() const { return counters_; }
  const SchedulerOptions& options() const { return options_; }
  int64_t live_attempts() const { return static_cast<int64_t>(attempts_.size()); }

 private:
  // 16 bytes: a million trials stay small.
  struct Trial {
    uint64_t digest = 0;
    uint32_t epoch = 0;
    uint16_t failed_attempts = 0;
    uint8_t worker_losses = 0;
    TrialState state = TrialState::kQueued;
  };
  struct Sweep;
  struct Attempt;
  using RunnableKey = std::tuple<int64_t, int64_t, uint64_t, SweepKey>;

  Sweep* FindSweep(const std::string& id);
  const Sweep* FindSweep(const std::string& id) const;
  absl::StatusOr<Sweep*> FindSweepForWrite(const std::string& id, const std::string& etag);
  absl::StatusOr<const RecordRequest*> FindRequest(const std::string& request_id, const std::string& method,
                                                   const std::string& fingerprint) const;
  Attempt* FindLive(const LeaseClaim& claim);
  const Attempt* FindLive(const LeaseClaim& claim) const;

  void SetState(Sweep& sweep, int64_t index, TrialState state);
  void EmitTrial(Sweep& sweep, int64_t index, std::optional<Failure> failure, bool clear_failure, Effects& effects);
  void EmitSweep(Sweep& sweep, const Now& now, Effects& effects);
  void Reindex(Sweep& sweep);
  void CancelRunning(Sweep& sweep, const Now& now, Effects& effects);
  void EndSweepIfDone(Sweep& sweep, const Now& now, Effects& effects);
  void ClearQueue(Sweep& sweep);

  // scheduler_jobs.cc. A new job replaces the sweep's old one.
  void StartJob(Sweep& sweep, SweepJob job, CellFunctions cells, const Now& now, Effects& effects);
  // At most `room` rows (> 0); how many. Ends the job when it is done.
  int64_t Step(Sweep& sweep, int64_t room, const Now& now, Effects& effects);
  int64_t StepRetry(Sweep& sweep, int64_t room, Effects& effects);
  int64_t StepCancel(Sweep& sweep, int64_t room, Effects& effects);
  void FinishJob(Sweep& sweep, const Now& now, Effects& effects);
  void TakeTurn(Sweep& sweep);
  void LeaveTurn(Sweep& sweep);
  void StoreJob(Sweep& sweep, Effects& effects);
  // How many ended trials a retry is about, from its cursor on; notes which.
  static int64_t MarkTrialsToRetry(Sweep& sweep, const SweepJob& job, const std::function<bool(int64_t)>& matches);

  void CountOutcome(const WorkerEntry& worker, Effects& effects);

  // An attempt's ends. Each leaves no live attempt behind.
  void Accept(Attempt& attempt, Result result, const Now& now, Effects& effects);
  // Computed from other files than the sweep's accepted results: costs the trial nothing, it runs again. Several in a
  // row pause the sweep, so that a base that was replaced for good does not burn its time.
  void RefuseInputs(Attempt& attempt, const std::string& why, const Now& now, Effects& effects);
  void Fail(Attempt& attempt, Failure failure, const Now& now, Effects& effects);
  void Lose(Attempt& attempt, const std::string& why, const Now& now, Effects& effects);
  void GiveBack(Attempt& attempt, const Now& now, Effects& effects);
  void Forget(Attempt& attempt);
  void Requeue(Sweep& sweep, int64_t index, absl::Duration not_before, const Now& now);

  // Adds the attempt to `running` where it goes on.
  Verdict HandleReport(WorkerEntry& worker, const AttemptReport& report, const ResultExaminer& examine, const Now& now,
                       std::set<TrialKey>& running, Effects& effects);
  // Of a live attempt's result: accepts it, or says why not.
  absl::Status HandleResult(Attempt& attempt, const Result& result, const ResultExaminer& examine, const Now& now,
                            Effects& effects);
  Verdict RefuseStale(const AttemptReport& report, Effects& effects);
  // False when the attempt reports more metrics than one may.
  bool NoteProgress(Attempt& attempt, const AttemptReport& report, const Now& now, Effects& effects);
  void Renew(Attempt& attempt, const Now& now);
  int64_t FinishAfter(const TrialKey& trial) const;
  absl::StatusOr<WorkerEntry*> Admit(const SyncRequest& request, const Now& now, Effects& effects);
  bool GrantOne(WorkerEntry& worker, const Now& now, Effects& effects);
  // scheduler_packs.cc. The sweep whose turn it is and the queue of its next trial, for this worker; or nothing.
  struct Next {
    Sweep* sweep = nullptr;
    size_t of_class = 0;
  };
  std::optional<Next> NextFor(const WorkerEntry& worker);
  // The next trial that fits all those that the worker holds. While these are new to it, any of their sweep; later only
  // the one whose turn it is anyway, so that nothing waits for longer than a pack takes.
  std::optional<Next> NextForPack(const WorkerEntry& worker);
  // Another loss would quarantine it.
  static bool OnLastChance(Sweep& sweep, int64_t index);
  // Whether it may join what the worker holds without taking from the other workers' share.
  bool IsWithinShare(const WorkerEntry& worker, const Next& next, const Now& now);
  void NoteWorkLeft(Attempt& attempt);
  static bool HasBegun(const Attempt& attempt);
  void Wake(const std::string& worker);

  // scheduler_needs.cc. Who is connected, as of one moment.
  struct Fleet {
    absl::Duration at;
    int64_t slots = 0;
    // How many have these, of those that are not leaving.
    std::map<WorkerAbilities, int64_t> abilities;
    // And of those that are given something new.
    std::map<WorkerAbilities, int64_t> takers;
  };
  const Fleet& FleetAt(const Now& now) const;
  bool HasWorkFor(const WorkerAbilities& worker) const;
  // The sweep whose turn it is among those with something for this worker, or nullptr.
  Sweep* NextSweepFor(const WorkerAbilities& worker);
  // Of its latest accepted trials; nothing before the first.
  static std::optional<double> MedianSeconds(const Sweep& sweep);
  void AddWaiting(const Sweep& sweep, size_t of_class, const Now& now, std::vector<WaitingTrials>& waiting) const;

  const SchedulerOptions options_;
  RandomSource& random_;
  SweepKey next_key_ = 1;
  std::map<SweepKey, std::unique_ptr<Sweep>> sweeps_;
  std::map<std::string, SweepKey> keys_by_id_;
  // Active sweeps with something to run, by what that needs: (−priority, running, last grant, key). Different needs are
  // few, however many sweeps there are.
  std::map<TrialNeeds, std::set<RunnableKey>> runnable_;
  uint64_t grant_sequence_ = 0;
  std::map<TrialKey, std::unique_ptr<Attempt>> attempts_;
  std::set<std::pair<absl::Duration, TrialKey>> expiries_;
  // Trials that wait out their back-off.
  std::set<std::pair<absl::Duration, TrialKey>> delayed_;
  WorkerTable workers_;
  mutable std::optional<Fleet> fleet_;
  // Fleet::takers, counted once a second at most: a share need not be exact.
  std::map<WorkerAbilities, int64_t> crowd_;
  absl::Duration crowd_counted_ = -absl::InfiniteDuration();
  std::set<std::string> woken_;
  std::map<std::string, RecordRequest> requests_;
  std::deque<std::string> requests_in_order_;
  SchedulerCounters counters_;
  // Clients with jobs, whose turn is next in front; each with its sweeps in the order in which they came.
  std::deque<std::pair<std::string, std::deque<SweepKey>>> turns_;
  int64_t turn_rows_;
  int64_t rows_left_;
  // Deletions: each notes itself here when its last row is gone.
  std::shared_ptr<std::vector<SweepKey>> purged_ = std::make_shared<std::vector<SweepKey>>();
};

// FNV-1a over the result's scores, bit for bit: tells a repeated completion from a different one.
uint64_t DigestOf(const Result& result);

}  // namespace loupe::coordinator::scheduler
