#include "tests/simulation/simulator.h"

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <set>
#include <utility>

#include "common/error_details.h"
#include "coordinator/engine/engine.h"
#include "coordinator/store/migrations.h"
#include "coordinator/store/sqlite_store.h"
#include "fmt/format.h"
#include "tests/testing/fake_clock.h"
#include "tests/testing/fake_random.h"
#include "tests/testing/memory_vfs.h"

namespace loupe::simulation {
namespace {

namespace co = loupe::coordinator;

constexpr char kDatabase[] = "/coordinator.db";
constexpr absl::Duration kLease = absl::Seconds(20);
constexpr absl::Duration kFaultyTime = absl::Seconds(300);
// Far beyond what is needed: (retries + 1) · (lease + grace) with the retries that the faults can have left.
constexpr absl::Duration kQuietTime = absl::Seconds(3000);
constexpr int kWorkers = 3;

// The score of a trial: what a clean run ends in.
double CleanScore(int64_t index) { return 1.0 / static_cast<double>(index + 3); }

// Bytes of an empty, migrated database: made once, so that a history need not create its tables.
const std::string& PristineDatabase() {
  static const std::string bytes = [] {
    testing::MemoryVfs disk;
    auto store = co::SqliteStore::Open({.path = kDatabase, .vfs = disk.name()});
    if (!store.ok()) std::abort();
    store->reset();  // closing the last connection folds the WAL into the file
    return disk.ReadFile(kDatabase);
  }();
  return bytes;
}

// Notes commits that a constraint refused: the schema is the last line of defence, and must never be needed.
class WatchedStore final : public co::Store {
 public:
  // `slow`: time that passes in every commit.
  WatchedStore(std::unique_ptr<co::SqliteStore> store, std::vector<std::string>& violations, SimulatorResult& result,
               std::function<void()> slow)
      : store_(std::move(store)), violations_(violations), result_(result), slow_(std::move(slow)) {}

  absl::Status Commit(const co::Effects& effects) override {
    const absl::Status status = store_->Commit(effects);
    if (!effects.empty()) {
      ++result_.commits;
      slow_();
    }
    if (!status.ok()) ++result_.failed_commits;
    if (status.code() == absl::StatusCode::kAlreadyExists || status.code() == absl::StatusCode::kInternal) {
      violations_.push_back(fmt::format("I1: the schema had to refuse a commit: {}", std::string(status.message())));
    }
    return status;
  }
  absl::Status Recover(co::RecoverySink& sink) override { return store_->Recover(sink); }
  absl::StatusOr<co::SweepRecord> GetSweep(const std::string& id) override { return store_->GetSweep(id); }
  absl::StatusOr<std::vector<co::SweepRecord>> ListSweeps(co::SweepKey before, int64_t limit) override {
    return store_->ListSweeps(before, limit);
  }
  absl::StatusOr<co::TrialCounts> CountTrials(co::SweepKey sweep) override { return store_->CountTrials(sweep); }
  absl::StatusOr<co::TrialRow> GetTrial(co::TrialKey trial) override { return store_->GetTrial(trial); }
  absl::StatusOr<std::vector<co::TrialRow>> ListTrials(co::SweepKey sweep, const co::TrialFilter& filter) override {
    return store_->ListTrials(sweep, filter);
  }
  absl::StatusOr<std::string> GetCellLevelsJson(co::SweepKey sweep, int64_t cell) override {
    return store_->GetCellLevelsJson(sweep, cell);
  }
  absl::StatusOr<std::vector<int64_t>> FindTrials(co::SweepKey sweep, const std::set<TrialState>& states) override {
    return store_->FindTrials(sweep, states);
  }
  absl::StatusOr<std::vector<co::MetricPoint>> ListPoints(co::TrialKey trial, int64_t epoch, const std::string& metric,
                                                          const std::optional<co::PointPosition>& after,
                                                          int64_t limit) override {
    return store_->ListPoints(trial, epoch, metric, after, limit);
  }
  absl::StatusOr<std::vector<co::ArtifactRecord>> ListArtifacts(co::TrialKey trial) override {
    return store_->ListArtifacts(trial);
  }
  absl::StatusOr<co::ArtifactRecord> GetArtifact(co::TrialKey trial, int64_t epoch, const std::string& name) override {
    return store_->GetArtifact(trial, epoch, name);
  }
  absl::StatusOr<std::vector<co::AttemptRow>> ListAttempts(const co::AttemptFilter& filter) override {
    return store_->ListAttempts(filter);
  }
  absl::StatusOr<co::TrialColumns> ReadColumns(co::SweepKey sweep, int64_t first, int64_t limit) override {
    return store_->ReadColumns(sweep, first, limit);
  }
  absl::StatusOr<std::vector<co::ResultSeconds>> ListResultSeconds(co::SweepKey sweep, int64_t limit) override {
    return store_->ListResultSeconds(sweep, limit);
  }
  absl::StatusOr<co::ScoreSummary> SummariseScore(co::SweepKey sweep, const std::string& score,
                                                  bool smaller_is_better) override {
    return store_->SummariseScore(sweep, score, smaller_is_better);
  }
  absl::StatusOr<int64_t> CountAcceptedSince(co::SweepKey sweep, absl::Time since) override {
    return store_->CountAcceptedSince(sweep, since);
  }
  absl::StatusOr<std::map<std::string, std::string>> GetProvenance(co::TrialKey trial) override {
    return store_->GetProvenance(trial);
  }
  absl::StatusOr<co::SweepSnapshot> Snapshot(const std::string& id) override { return store_->Snapshot(id); }

 private:
  const std::unique_ptr<co::SqliteStore> store_;
  std::vector<std::string>& violations_;
  SimulatorResult& result_;
  const std::function<void()> slow_;
};

// What a job needs of a sweep's plan.
absl::StatusOr<co::CellFunctions> CellsOf(const co::SweepRecord& sweep) {
  co::CellFunctions cells{[](int64_t) { return "{}"; }, nullptr};
  if (!sweep.job->cell_filter.empty()) {
    cells.matches = [wanted = std::stoll(sweep.job->cell_filter)](int64_t cell) { return cell == wanted; };
  }
  return cells;
}

// Two cells in five are of a method that only newer workers run; one of them fits the others as a pack, and one fits
// none.
const std::shared_ptr<const co::SweepNeeds>& MixedNeeds() {
  static const auto needs =
      std::make_shared<const co::SweepNeeds>(co::SweepNeeds{.classes = {{.method = "adapter"},
                                                                        {.settings_version = 2, .method = "lora"},
                                                                        {.settings_version = 2, .method = "lora"}},
                                                            .class_of_cell = {0, 1, 0, 2, 0},
                                                            .pack_of_class = {0, 1, 0}});
  return needs;
}

// The sweep "main" is a study, "side" is a search.
const std::shared_ptr<const co::SweepNeeds>& NeedsOfSweep(const std::string& id) {
  static const auto search = [] {
    auto needs = std::make_shared<co::SweepNeeds>(*MixedNeeds());
    needs->search = co::SearchRules{.curve = "loss", .smaller_is_better = true, .reduction = 2, .min_steps = 1};
    return std::shared_ptr<const co::SweepNeeds>(std::move(needs));
  }();
  return id == "side" ? search : MixedNeeds();
}

std::shared_ptr<const co::SweepNeeds> NeedsOf(const co::SweepRecord& sweep) {
  return sweep.id.starts_with("brief") ? nullptr : NeedsOfSweep(sweep.id);
}

// The first worker is an older program, the second runs the newer method alone, the third is now the one and now the
// other with everything, from process to process.
co::WorkerAbilities AbilitiesOf(int index, int session) {
  co::WorkerAbilities abilities;
  if (index == 0 || (index == 2 && session % 2 == 1)) return abilities;
  abilities.settings_version = 2;
  abilities.methods = index == 1 ? std::set<std::string>{"lora"} : std::set<std::string>{"adapter", "lora"};
  return abilities;
}

// The first worker is older than packs.
int32_t MostTogether(int index) { return index == 0 ? 0 : index + 2; }

// What a worker process believes it holds.
struct Held {
  co::LeaseClaim lease;
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

std::string KeyOf(const co::LeaseClaim& lease) {
  return fmt::format("{}/{}/{}", lease.sweep_id, lease.index, lease.epoch);
}
std::string TrialOf(const co::LeaseClaim& lease) { return fmt::format("{}/{}", lease.sweep_id, lease.index); }

class Simulation {
 public:
  explicit Simulation(const SimulatorOptions& options)
      : options_(options), random_(options.seed), tokens_(options.seed) {
    disk_.WriteFile(kDatabase, PristineDatabase());
    disk_.IgnoreSyncs(options.forget_fsync);
    scheduler_options_.lease = kLease;
    scheduler_options_.mutation = options.mutation;
    scheduler_options_.workers.losses_to_set_aside = 5;
    scheduler_options_.workers.set_aside_for = absl::Seconds(20);
    scheduler_options_.job_rows = 2;
    for (int i = 0; i < kWorkers; ++i)
      workers_.push_back({.name = fmt::format("w{}", i), .pack_slots = MostTogether(i)});
    partitions_.resize(kWorkers);
  }

  SimulatorResult Run() {
    StartCoordinator();
    for (int i = 0; i < kWorkers; ++i) ScheduleTick(i, Uniform(0, 1000));
    CreateSweep("main", 0);
    if (options_.with_commands) {
      CreateSweep("side", 0);
      After(absl::Seconds(20), [this] { RandomCommand(); });
    }
    ScheduleFault();
    ScheduleEngine();
    const absl::Duration start = clock_.MonotonicNow();
    faults_end_ = start + kFaultyTime;
    const absl::Duration end = faults_end_ + kQuietTime;
    while (!queue_.empty() && result_.violations.empty()) {
      const Event event = queue_.top();
      queue_.pop();
      if (event.at > end) break;
      if (event.at > clock_.MonotonicNow()) clock_.Advance(event.at - clock_.MonotonicNow());
      ++result_.events;
      event.run();
      if (Done()) break;
    }
    if (engine_) {
      CheckCounters();
      CheckEnd();
      if (options_.only_stalls) CheckNobodyPaid();
      result_.leases_expired += engine_->scheduler().counters().leases_expired;
      result_.stale_writes_refused += engine_->scheduler().counters().stale_writes_refused;
    } else if (result_.violations.empty()) {
      Violation("I5: the coordinator is down at the end");
    }
    StopCoordinator();
    return result_;
  }

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

  // ---- The coordinator ----

  void StartCoordinator() {
    auto store = co::SqliteStore::Open({.path = kDatabase, .vfs = disk_.name()});
    if (store.ok()) {
      store_ = std::make_unique<WatchedStore>(*std::move(store), result_.violations, result_, [this] {
        if (clock_.MonotonicNow() < slow_disk_until_) clock_.Advance(absl::Milliseconds(Uniform(100, 9000)));
      });
      engine_ = std::make_unique<co::Engine>(
          scheduler_options_,
          co::Engine::Deps{
              .store = store_.get(), .clock = &clock_, .random = &tokens_, .cells = CellsOf, .needs = NeedsOf});
      if (engine_->Recover().ok()) {
        ++generation_;
        result_.jobs_resumed += engine_->scheduler().HasWork() ? 1 : 0;
        CheckCounters();
        CheckAcknowledged();
        return;
      }
    }
    // The disk fails just now: whoever supervises the coordinator starts it again.
    engine_.reset();
    store_.reset();
    if (!Faulty())
      Violation(fmt::format("I5: the coordinator cannot start: {}", std::string(store.status().message())));
    After(absl::Seconds(1), [this] {
      disk_.Heal();
      if (!engine_) StartCoordinator();
    });
  }

  void StopCoordinator() {
    if (engine_) engine_->CancelAll();
    engine_.reset();
    store_.reset();
  }

  void CrashCoordinator() {
    if (!engine_) return;
    Log("coordinator loses power");
    waiting_.clear();
    ++result_.coordinator_crashes;
    result_.leases_expired += engine_->scheduler().counters().leases_expired;
    result_.stale_writes_refused += engine_->scheduler().counters().stale_writes_refused;
    ++generation_;  // answers that have not left are lost
    // Closing may write (a checkpoint): nothing of that reaches a disk without power.
    disk_.FreezeAt(0);
    engine_.reset();
    store_.reset();
    disk_.Crash(random_);
    After(absl::Milliseconds(Uniform(1, 40000)), [this] {
      if (!engine_) StartCoordinator();
    });
  }

  void Feed(std::vector<co::EngineInput> inputs) {
    if (!engine_) return;
    if (clock_.MonotonicNow() < stopped_until_) {
      // Lies in a socket that nobody reads.
      waiting_.insert(waiting_.end(), std::make_move_iterator(inputs.begin()), std::make_move_iterator(inputs.end()));
      return;
    }
    engine_->Process(inputs);
    if (disk_.frozen()) {
      ++result_.crashes_inside_commits;
      CrashCoordinator();
    }
    ScheduleEngine();
  }

  void ScheduleEngine() {
    if (!engine_) return;
    const absl::Duration next = std::max(engine_->NextDeadline(), clock_.MonotonicNow() + absl::Milliseconds(1));
    if (next == absl::InfiniteDuration() || next == engine_wake_) return;
    engine_wake_ = next;
    After(next - clock_.MonotonicNow(), [this, next] {
      if (engine_wake_ != next) return;
      engine_wake_ = absl::ZeroDuration();
      Feed({});
    });
  }

  // ---- Clients ----

  void CreateSweep(const std::string& id, int tries) {
    // The client repeats until it hears of a success, always with the same request id.
    const uint64_t generation = generation_;
    co::SweepRecord sweep;
    sweep.id = id;
    sweep.uid = "uid-" + id;
    sweep.cells = 5;
    sweep.replicates = 2;
    sweep.seed = options_.seed;
    // Whatever the faults do, nothing may fail for good: the end is compared with a clean run.
    sweep.limits.max_trial_attempts = 1000;
    sweep.limits.max_worker_losses = 255;
    sweep.limits.backoff = absl::Milliseconds(100);
    Feed({co::Job([=, this](co::Scheduler& scheduler, const co::Now& now, co::Effects& effects) -> co::Reply {
      const absl::StatusOr<co::SweepRecord> made = scheduler.OnCreate(
          sweep, [](int64_t) { return "{}"; }, "request-" + id, "f", now, effects, "", NeedsOfSweep(id));
      return [=, this](const absl::Status& durable) {
        if (generation != generation_ || !durable.ok() || disk_.frozen()) return;
        if (!made.ok())
          Violation(fmt::format("I1: a repeated create was refused: {}", std::string(made.status().message())));
        created_.insert(id);
      };
    })});
    if (!created_.contains(id))
      After(absl::Seconds(2), [this, id, tries] {
        if (!created_.contains(id)) CreateSweep(id, tries + 1);
      });
  }

  // Sweeps that come and go, each under a name of its own.
  void CreateBrief() {
    const std::string id = fmt::format("brief-{}", brief_keys_.size());
    brief_keys_.emplace(id, 0);
    co::SweepRecord sweep;
    sweep.id = id;
    sweep.uid = "uid-" + id;
    sweep.cells = 4;
    sweep.replicates = 3;
    const uint64_t generation = generation_;
    Feed({co::Job([=, this](co::Scheduler& scheduler, const co::Now& now, co::Effects& effects) -> co::Reply {
      const absl::StatusOr<co::SweepRecord> made = scheduler.OnCreate(
          sweep, [](int64_t) { return "{}"; }, "", "", now, effects, "brief");
      return [=, this](const absl::Status& durable) {
        if (generation != generation_ || !durable.ok() || disk_.frozen() || !made.ok()) return;
        brief_keys_[id] = made->key;
        // Its deletion may have been asked for before this answer came (both waited for a coordinator that stood
        // still).
        if (!asked_to_go_.contains(id)) standing_.insert(id);
      };
    })});
  }

  void DeleteBrief(const std::string& id) {
    asked_to_go_.insert(id);
    standing_.erase(id);
    const uint64_t generation = generation_;
    Feed({co::Job([=, this](co::Scheduler& scheduler, const co::Now& now, co::Effects& effects) -> co::Reply {
      const absl::Status going = scheduler.OnDelete(id, true, "", now, effects, "brief");
      return [=, this](const absl::Status& durable) {
        if (generation == generation_ && durable.ok() && !disk_.frozen() && going.ok() && deleted_.insert(id).second) {
          ++result_.sweeps_deleted;
        }
      };
    })});
  }

  void RandomCommand() {
    const int64_t what = Uniform(0, 6);
    const bool last = !Faulty();
    if (last) {
      for (const auto& [id, key] : brief_keys_) DeleteBrief(id);
    } else if (what == 5) {
      CreateBrief();
    } else if (what == 6 && !brief_keys_.empty()) {
      auto victim = brief_keys_.begin();
      std::advance(victim, Uniform(0, static_cast<int64_t>(brief_keys_.size()) - 1));
      DeleteBrief(victim->first);
    }
    Feed({co::Job([this, what,
                   last](co::Scheduler& scheduler,
                         const co::Now& now, co::Effects& effects) -> co::
                                                                       Reply {
                                                                         if (last || what >= 4) {
                                                                           // At the end everything is brought back, so
                                                                           // that the sweep can be compared with a
                                                                           // clean one.
                                                                           scheduler
                                                                               .OnVerb("side", co::SweepVerb::kResume,
                                                                                       "", now, effects)
                                                                               .IgnoreError();
                                                                           const bool all = last || what == 4;
                                                                           scheduler
            .OnRetry("side", {TrialState::kFailed, TrialState::kCancelled, TrialState::kQuarantined},
                     all ? std::function<bool(int64_t)>() : [](int64_t cell) { return cell == 1; }, "", "", now, effects,
                     all ? "" : "1")
            .IgnoreError();
                                                                         } else {
                                                                           scheduler
                                                                               .OnVerb("side",
                                                                                       static_cast<co::SweepVerb>(what),
                                                                                       "", now, effects)
                                                                               .IgnoreError();
                                                                         }
                                                                         return [this](const absl::Status&) {};
                                                                       })});
    if (!last || !Done()) After(absl::Milliseconds(Uniform(5000, 40000)), [this] { RandomCommand(); });
  }

  // ---- Workers ----

  void ScheduleTick(int index, int64_t milliseconds) {
    const uint64_t timer = ++workers_[static_cast<size_t>(index)].timer;
    After(absl::Milliseconds(milliseconds), [this, index, timer] {
      if (workers_[static_cast<size_t>(index)].timer == timer) TickWorker(index);
    });
  }

  void TickWorker(int index) {
    Worker& worker = workers_[static_cast<size_t>(index)];
    const absl::Duration now = clock_.MonotonicNow();
    if (!worker.alive) return;
    if (now < worker.frozen_until) return ScheduleTick(index, Uniform(100, 1000));
    co::SyncRequest request;
    request.worker = worker.name;
    request.session = fmt::format("s{}", worker.session);
    request.description.abilities = AbilitiesOf(index, worker.session);
    request.slots = 1;
    // Memory runs out now and then, with room for half of the pack from then on: the others are given back.
    size_t keeps = worker.held.size();
    if (Hostile() && worker.pack_slots > 1 && keeps > 1 && Chance(0.1)) {
      keeps /= 2;
      // What it holds may be more than it asks for: what has ended is held until that is acknowledged.
      worker.pack_slots = std::min(worker.pack_slots, static_cast<int32_t>(keeps));
      ++result_.packs_halved;
    }
    request.pack_slots = worker.pack_slots;
    for (auto it = worker.held.begin(); it != worker.held.end();) {
      Held& held = it->second;
      const bool given_back = static_cast<size_t>(std::distance(worker.held.begin(), it)) >= keeps;
      if (now >= held.until && !worker.zombie) {
        it = worker.held.erase(it);
        continue;
      }
      if (held.work_left > 0 && --held.work_left >= 0) ++held.points;
      const bool early = held.work_left > 0 && held.finish_after > 0 && held.points >= held.finish_after;
      if (early) held.work_left = 0;
      co::AttemptReport report;
      report.lease = held.lease;
      report.phase = "train";
      report.step = held.points;
      for (int64_t point = held.acknowledged + 1; point <= held.points; ++point) {
        report.points.push_back(
            {"loss", point, static_cast<double>(1 + held.lease.index) / static_cast<double>(point)});
      }
      report.point_sequence = held.points;
      if (given_back) {
        report.outcome = co::Stopped{};
      } else if (held.work_left == 0) {
        // Now and then an attempt fails for its own reasons, but not for ever.
        if (Faulty() && (held.lease.epoch + held.lease.index) % 5 == 0) {
          report.outcome = co::Failure{co::FailureClass::kRetryable, "a failure on purpose"};
        } else {
          co::Result result{{{"score", CleanScore(held.lease.index)}}};
          if (early) {
            result.stopped_at_step = held.points;
            ++result_.finished_early;
          }
          report.outcome = std::move(result);
        }
      }
      request.attempts.push_back(std::move(report));
      ++it;
    }
    Send(index, request);
    ScheduleTick(index, Uniform(1000, 9000));
  }

  void Send(int index, const co::SyncRequest& request) {
    const uint64_t number = ++workers_[static_cast<size_t>(index)].latest_call;
    const int copies = Hostile() && Chance(0.05) ? 2 : 1;
    if (copies == 2) ++result_.messages_duplicated;
    for (int copy = 0; copy < copies; ++copy) {
      if (Hostile() &&
          (Chance(0.05) || clock_.MonotonicNow() < partitions_[static_cast<size_t>(index)].until_to_coordinator)) {
        ++result_.messages_lost;
        continue;
      }
      // Sometimes a message is very late: it overtakes nothing and is overtaken by much.
      const int64_t delay = Hostile() && Chance(0.05) ? Uniform(1000, 60000) : Uniform(1, 200);
      After(absl::Milliseconds(delay), [this, index, request, number] { Receive(index, request, number); });
    }
  }

  void Receive(int index, const co::SyncRequest& request, uint64_t number) {
    if (!engine_) return;
    const uint64_t generation = generation_;
    const int session = workers_[static_cast<size_t>(index)].session;
    co::SyncCall call;
    call.request = request;
    call.max_wait = request.attempts.empty() ? absl::Seconds(20) : absl::ZeroDuration();
    call.id = ++next_call_;
    call.reply = [this, index, request, generation, session, number](const absl::StatusOr<co::SyncAnswer>& answer) {
      // A coordinator whose disk is frozen in this very commit is gone before the answer leaves.
      if (generation != generation_ || disk_.frozen()) return;
      CheckAnswer(request, answer);
      if (Hostile() &&
          (Chance(0.05) || clock_.MonotonicNow() < partitions_[static_cast<size_t>(index)].until_from_coordinator)) {
        ++result_.messages_lost;
        return;
      }
      const int64_t delay = Hostile() && Chance(0.03) ? Uniform(1000, 40000) : Uniform(1, 200);
      After(absl::Milliseconds(delay), [this, index, request, answer, session, number] {
        if (workers_[static_cast<size_t>(index)].latest_call == number) Answered(index, request, answer, session);
      });
    };
    std::vector<co::EngineInput> batch;
    batch.emplace_back(std::move(call));
    Feed(std::move(batch));
  }

  void Answered(int index, const co::SyncRequest& request, const absl::StatusOr<co::SyncAnswer>& answer, int session) {
    Worker& worker = workers_[static_cast<size_t>(index)];
    if (!worker.alive || worker.session != session || clock_.MonotonicNow() < worker.frozen_until) return;
    if (!answer.ok()) {
      if (ReasonOf(answer.status()) == kReasonSessionSuperseded) RestartWorker(index);
      return;
    }
    for (size_t i = 0; i < answer->verdicts.size(); ++i) {
      const co::AttemptReport& report = request.attempts[i];
      const std::string key = KeyOf(report.lease);
      const auto held = worker.held.find(key);
      if (held == worker.held.end()) continue;
      if (!answer->verdicts[i].status.ok() || report.outcome.index() != 0) {
        if (answer->verdicts[i].status.ok() || !worker.zombie) {
          worker.held.erase(held);
        }
      } else {
        held->second.acknowledged =
            std::max(held->second.acknowledged, answer->verdicts[i].acknowledged_point_sequence);
      }
    }
    for (const co::DesiredAttempt& desired : answer->desired) {
      const co::LeaseClaim lease{desired.sweep_id, desired.trial.index, desired.epoch, ToHex(desired.token)};
      const std::string key = KeyOf(lease);
      const absl::Duration until = clock_.MonotonicNow() + answer->lease;
      const auto [held, is_new] =
          worker.held.try_emplace(key, Held{lease, until, static_cast<int>(Uniform(1, 6)), 0, 0, 0});
      held->second.until = std::max(held->second.until, until);
      held->second.finish_after = desired.finish_after_step;
    }
  }

  void RestartWorker(int index) {
    Worker& worker = workers_[static_cast<size_t>(index)];
    worker.alive = true;
    ++worker.session;
    worker.held.clear();
    worker.zombie = false;
    worker.pack_slots = MostTogether(index);
    ScheduleTick(index, Uniform(10, 2000));
  }

  // ---- Faults ----

  void ScheduleFault() {
    After(absl::Milliseconds(Uniform(500, 20000)), [this] {
      if (!Faulty()) {
        disk_.Heal();
        for (int i = 0; i < kWorkers; ++i) {
          workers_[static_cast<size_t>(i)].zombie = false;
          if (!workers_[static_cast<size_t>(i)].alive) RestartWorker(i);
        }
        return;
      }
      RandomFault();
      ScheduleFault();
    });
  }

  // The coordinator's own time: nothing is lost, it comes late.
  void RandomStall() {
    ++result_.stalls;
    const absl::Duration length = absl::Milliseconds(Uniform(1000, 60000));
    switch (Uniform(0, 2)) {
      case 0:  // SIGSTOP
        Log("coordinator is stopped");
        stopped_until_ = std::max(stopped_until_, clock_.MonotonicNow() + length);
        After(length, [this] { Feed(std::exchange(waiting_, {})); });
        break;
      case 1:  // the whole machine, workers and all
        Log("machine is suspended");
        clock_.Advance(length);
        break;
      default:
        Log("disk is slow");
        slow_disk_until_ = clock_.MonotonicNow() + length;
    }
  }

  void RandomFault() {
    if (options_.only_stalls) return RandomStall();
    const int index = static_cast<int>(Uniform(0, kWorkers - 1));
    Worker& worker = workers_[static_cast<size_t>(index)];
    switch (Uniform(0, 11)) {
      case 0:
        CrashCoordinator();
        break;
      case 1:
      case 2:
        // Power is lost inside a commit: at its n-th write or sync.
        disk_.FreezeAt(Uniform(1, 40));
        break;
      case 3:
        disk_.FailAt(Uniform(1, 20), testing::MemoryVfs::Fault::kIoError, Chance(0.5));
        After(absl::Milliseconds(Uniform(1, 15000)), [this] { disk_.Heal(); });
        break;
      case 4:
        disk_.FailAt(Uniform(1, 20), testing::MemoryVfs::Fault::kFull, true);
        After(absl::Milliseconds(Uniform(1, 15000)), [this] { disk_.Heal(); });
        break;
      case 5:
        Log(fmt::format("{} crashes", worker.name));
        ++result_.worker_crashes;
        worker.alive = false;
        After(absl::Milliseconds(Uniform(100, 120000)), [this, index] {
          if (!workers_[static_cast<size_t>(index)].alive) RestartWorker(index);
        });
        break;
      case 6:
        worker.frozen_until = clock_.MonotonicNow() + absl::Milliseconds(Uniform(1000, 120000));
        worker.zombie = Chance(0.5);
        break;
      case 7:
        partitions_[static_cast<size_t>(index)].until_to_coordinator =
            clock_.MonotonicNow() + absl::Milliseconds(Uniform(1000, 120000));
        break;
      case 8:
        partitions_[static_cast<size_t>(index)].until_from_coordinator =
            clock_.MonotonicNow() + absl::Milliseconds(Uniform(1000, 120000));
        break;
      case 9:
        SendConfusedReport(index);
        break;
      case 10:
        RandomStall();
        break;
      default:
        clock_.JumpWall(absl::Hours(Uniform(-100000, 100000)));
    }
  }

  // A worker with a bug: it hands in a result for a trial that it does not hold, under the right epoch.
  void SendConfusedReport(int index) {
    if (highest_epoch_.empty()) return;
    auto target = highest_epoch_.begin();
    std::advance(target, Uniform(0, static_cast<int64_t>(highest_epoch_.size()) - 1));
    const size_t slash = target->first.find('/');
    co::AttemptReport report;
    report.lease = {target->first.substr(0, slash), std::stoll(target->first.substr(slash + 1)), target->second,
                    ToHex(tokens_.NextToken())};
    report.outcome = co::Result{{{"score", 99.0}}};
    co::SyncRequest request;
    request.worker = workers_[static_cast<size_t>(index)].name;
    request.session = fmt::format("s{}", workers_[static_cast<size_t>(index)].session);
    request.description.abilities = AbilitiesOf(index, workers_[static_cast<size_t>(index)].session);
    request.attempts.push_back(std::move(report));
    Receive(index, request, 0);
  }

  // ---- Invariants ----

  // An answer is about to leave the coordinator: what it says must be true and must stay true.
  void CheckAnswer(const co::SyncRequest& request, const absl::StatusOr<co::SyncAnswer>& answer) {
    if (!answer.ok()) return;
    for (size_t i = 0; i < answer->verdicts.size(); ++i) {
      const co::AttemptReport& report = request.attempts[i];
      if (!answer->verdicts[i].status.ok()) continue;
      const std::string trial = TrialOf(report.lease);
      const auto accepted = acknowledged_.find(trial);
      const bool repeated = accepted != acknowledged_.end() && accepted->second.first == report.lease.epoch;
      if (report.lease.epoch < highest_epoch_[trial] && !repeated) {
        Violation(fmt::format("I4: a write under epoch {} of {} was accepted after epoch {} was handed out",
                              report.lease.epoch, trial, highest_epoch_[trial]));
      }
      const auto token = tokens_given_.find(KeyOf(report.lease));
      if (token == tokens_given_.end() ||
          token->second != fmt::format("{} {} {}", report.lease.token_hex, request.worker, request.session)) {
        Violation(fmt::format("I4: a write by {} with a lease that it was never given was accepted", request.worker));
      }
      if (const co::Result* result = std::get_if<co::Result>(&report.outcome)) {
        if (accepted != acknowledged_.end() && !repeated) {
          Violation(fmt::format("I1: a second result of {} was accepted (epochs {} and {})", trial,
                                accepted->second.first, report.lease.epoch));
        }
        acknowledged_[trial] = {report.lease.epoch, result->scores.at("score")};
      }
    }
    CheckPack(request, *answer);
    for (const co::DesiredAttempt& desired : answer->desired) {
      CheckFinish(desired);
      const bool mixed = created_.contains(desired.sweep_id);
      if (mixed &&
          !co::CanRun(request.description.abilities, MixedNeeds()->classes[MixedNeeds()->class_of(desired.cell)])) {
        Violation(fmt::format("I9: {} was given trial {} of {}, which it cannot run", request.worker,
                              desired.trial.index, desired.sweep_id));
      }
      const co::LeaseClaim lease{desired.sweep_id, desired.trial.index, desired.epoch, ToHex(desired.token)};
      const std::string holder = fmt::format("{} {} {}", lease.token_hex, request.worker, request.session);
      const auto [given, is_new] = tokens_given_.emplace(KeyOf(lease), holder);
      int64_t& highest = highest_epoch_[TrialOf(lease)];
      if (!is_new && given->second != holder) {
        Violation(fmt::format("I3: epoch {} of {} was handed out twice", lease.epoch, TrialOf(lease)));
      }
      if (is_new && lease.epoch <= highest) {
        Violation(fmt::format("I3: epoch {} of {} was handed out after {}", lease.epoch, TrialOf(lease), highest));
      }
      highest = std::max(highest, lease.epoch);
    }
  }

  void CheckFinish(const co::DesiredAttempt& desired) {
    const std::string trial = fmt::format("{}/{}", desired.sweep_id, desired.trial.index);
    const int64_t step = desired.finish_after_step;
    if (step > 0 && desired.sweep_id != "side") Violation(fmt::format("I11: {} of a study was told to end", trial));
    const auto [told, is_new] = told_to_finish_.emplace(trial, step);
    if (!is_new && told->second > 0 && step != told->second) {
      Violation(fmt::format("I11: {} was told to end after step {}, and now {}", trial, told->second, step));
    }
    if (step == 0 || told->second == step) {
      if (is_new && step > 0) ++result_.told_to_finish;
      return;
    }
    told->second = step;
    ++result_.told_to_finish;
  }

  void CheckPack(const co::SyncRequest& request, const co::SyncAnswer& answer) {
    const size_t held = answer.desired.size();
    if (held <= 1) return;
    ++result_.packs;
    // Whose memory has run out since may hold more than it asks for now: it gives that back itself.
    const auto room = static_cast<size_t>(std::max(1, MostTogether(request.worker.back() - '0')));
    if (held > room) {
      Violation(fmt::format("I9: {} was given {} trials at once, and can hold {}", request.worker, held, room));
    }
    const auto pack_of = [&](const co::DesiredAttempt& attempt) {
      return created_.contains(attempt.sweep_id) ? MixedNeeds()->pack_of(MixedNeeds()->class_of(attempt.cell)) : 0;
    };
    const co::DesiredAttempt& first = answer.desired.front();
    for (const co::DesiredAttempt& desired : answer.desired) {
      if (desired.sweep_id != first.sweep_id || pack_of(desired) != pack_of(first)) {
        Violation(fmt::format("I10: {} holds trial {} of {} and trial {} of {}, which cannot be trained together",
                              request.worker, first.trial.index, first.sweep_id, desired.trial.index,
                              desired.sweep_id));
      }
    }
  }

  void CheckCounters() {
    if (disk_.frozen()) return;
    for (const std::string& id : created_) {
      const absl::StatusOr<co::Scheduler::SweepView> view =
          engine_->scheduler().View(id, {clock_.MonotonicNow(), clock_.WallNow()});
      if (!view.ok()) {
        Violation(fmt::format("I2: the acknowledged sweep '{}' is gone", id));
        continue;
      }
      // Its counters are the plan's, until all trials are stored.
      if (view->record->has_job(co::JobKind::kCreate)) continue;
      const absl::StatusOr<co::TrialCounts> recount = store_->CountTrials(view->record->key);
      if (recount.ok() && !(*recount == view->counts)) {
        Violation(fmt::format("I6: the counters of '{}' differ from a recount ({} succeeded of {}, counted {} of {})",
                              id, view->counts.succeeded, view->counts.total(), recount->succeeded, recount->total()));
      }
    }
  }

  // What was said to be created is there, and what was said to go does not come back.
  void CheckBrief() {
    for (const std::string& id : standing_) {
      if (!ViewOf(id).ok()) Violation(fmt::format("I2: the acknowledged sweep '{}' is gone", id));
    }
    for (const std::string& id : deleted_) {
      const auto view = ViewOf(id);
      if (view.ok() && view->record->shown_state() != co::SweepState::kDeleting) {
        Violation(fmt::format("I2: the deleted sweep '{}' is back", id));
      }
    }
  }

  absl::StatusOr<co::Scheduler::SweepView> ViewOf(const std::string& id) const {
    return engine_->scheduler().View(id, {clock_.MonotonicNow(), clock_.WallNow()});
  }

  void CheckNobodyPaid() {
    if (engine_->scheduler().counters().leases_expired > 0) {
      Violation(fmt::format("I8: {} leases expired", engine_->scheduler().counters().leases_expired));
    }
    for (const auto& [id, worker] : engine_->scheduler().workers().all()) {
      if (worker.set_aside_until > absl::ZeroDuration()) Violation(fmt::format("I8: {} was set aside", id));
    }
    const auto sweep = store_->GetSweep("main");
    const auto trials = sweep.ok() ? store_->ListTrials(sweep->key, {.limit = 1000}) : sweep.status();
    if (!trials.ok()) return Violation(fmt::format("I8: {}", std::string(trials.status().message())));
    for (const co::TrialRow& trial : *trials) {
      if (trial.worker_losses > 0)
        Violation(fmt::format("I8: trial {} was lost {} times", trial.index, trial.worker_losses));
    }
  }

  void CheckAcknowledged() {
    CheckBrief();
    for (const auto& [trial, accepted] : acknowledged_) {
      const size_t slash = trial.find('/');
      const absl::StatusOr<co::SweepRecord> sweep = store_->GetSweep(trial.substr(0, slash));
      // An I/O error; a missing sweep is CheckCounters' business. One that is being deleted goes row by row.
      if (!sweep.ok() || sweep->has_job(co::JobKind::kDelete)) continue;
      const absl::StatusOr<co::TrialRow> row = store_->GetTrial({sweep->key, std::stoll(trial.substr(slash + 1))});
      if (!row.ok()) continue;
      if (row->state != TrialState::kSucceeded || !row->scores.contains("score")) {
        Violation(fmt::format("I2: the acknowledged result of {} is lost", trial));
      } else if (row->scores.at("score") != accepted.second) {
        Violation(fmt::format("I1: the acknowledged result of {} has changed", trial));
      }
    }
  }

  bool Done() const {
    if (Faulty() || !engine_ || created_.size() < (options_.with_commands ? 2u : 1u)) return false;
    for (const std::string& id : created_) {
      const auto view = engine_->scheduler().View(id, {clock_.MonotonicNow(), clock_.WallNow()});
      if (!view.ok() || view->counts.succeeded != view->counts.total()) return false;
    }
    if (engine_->scheduler().HasWork()) return false;
    return std::none_of(brief_keys_.begin(), brief_keys_.end(),
                        [&](const auto& brief) { return ViewOf(brief.first).ok(); });
  }

  void CheckEnd() {
    CheckAcknowledged();
    if (!result_.violations.empty()) return;
    for (const auto& [id, key] : brief_keys_) {
      if (ViewOf(id).ok())
        Violation(fmt::format("I5: the deleted sweep '{}' is still there long after the faults stopped", id));
      if (key != 0 && store_->CountTrials(key)->total() > 0)
        Violation(fmt::format("I6: rows of the deleted sweep '{}' are left", id));
    }
    for (const std::string& id : created_) {
      const auto view = engine_->scheduler().View(id, {clock_.MonotonicNow(), clock_.WallNow()});
      if (!view.ok()) return Violation(fmt::format("I2: sweep '{}' is gone", id));
      if (view->counts.succeeded != view->counts.total()) {
        Violation(fmt::format(
            "I5: {} of {} trials of '{}' have succeeded long after the faults stopped ({} queued, {} running, "
            "{} failed, {} cancelled, {} quarantined)",
            view->counts.succeeded, view->counts.total(), id, view->counts.queued, view->counts.running,
            view->counts.failed, view->counts.cancelled, view->counts.quarantined));
        continue;
      }
      const absl::StatusOr<co::SweepSnapshot> snapshot = store_->Snapshot(id);
      if (!snapshot.ok()) return Violation(fmt::format("I2: {}", std::string(snapshot.status().message())));
      for (const co::SweepSnapshot::Trial& trial : snapshot->trials) {
        if (trial.scores.size() != 1) {
          Violation(fmt::format("I1: trial {} of '{}' has {} scores", trial.index, id, trial.scores.size()));
        } else if (trial.scores.at("score") != CleanScore(trial.index)) {
          Violation(fmt::format("I7: the score of trial {} of '{}' is not that of a clean run", trial.index, id));
        }
      }
    }
  }

  const SimulatorOptions options_;
  std::mt19937_64 random_;
  testing::FakeRandom tokens_;
  testing::FakeClock clock_;
  testing::MemoryVfs disk_;
  co::SchedulerOptions scheduler_options_;
  std::unique_ptr<WatchedStore> store_;
  std::unique_ptr<co::Engine> engine_;
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
  std::map<std::string, co::SweepKey> brief_keys_;
  std::set<std::string> standing_;
  std::set<std::string> asked_to_go_;
  std::set<std::string> deleted_;
  absl::Duration stopped_until_;
  absl::Duration slow_disk_until_;
  std::vector<co::EngineInput> waiting_;
  // What the coordinator has let out into the world.
  std::map<std::string, std::pair<int64_t, double>> acknowledged_;  // trial -> (epoch, score)
  std::map<std::string, int64_t> highest_epoch_;
  std::map<std::string, std::string> tokens_given_;
  std::map<std::string, int64_t> told_to_finish_;  // trial -> step; 0: to no end before its budget's
  SimulatorResult result_;
};

}  // namespace

SimulatorResult Simulate(const SimulatorOptions& options) { return Simulation(options).Run(); }

}  // namespace loupe::simulation
