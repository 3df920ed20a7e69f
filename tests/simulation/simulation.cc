#include "tests/simulation/simulation.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "coordinator/store/sqlite_store.h"
#include "tests/simulation/mixed_needs.h"

namespace loupe::simulation {
namespace {

constexpr char kDatabase[] = "/coordinator.db";
constexpr absl::Duration kLease = absl::Seconds(20);
constexpr absl::Duration kFaultyTime = absl::Seconds(300);
// Far beyond what is needed: (retries + 1) · (lease + grace) with the retries that the faults can have left.
constexpr absl::Duration kQuietTime = absl::Seconds(3000);

// Bytes of an empty, migrated database: made once, so that a history need not create its tables.
const std::string& PristineDatabase() {
  static const std::string bytes = [] {
    testing::MemoryVfs disk;
    auto store = coordinator::store::SqliteStore::Open({.path = kDatabase, .vfs = disk.name()});
    if (!store.ok()) std::abort();
    store->reset();  // closing the last connection folds the WAL into the file
    return disk.ReadFile(kDatabase);
  }();
  return bytes;
}

}  // namespace

Simulation::Simulation(const SimulatorOptions& options)
    : options_(options), random_(options.seed), tokens_(options.seed) {
  disk_.WriteFile(kDatabase, PristineDatabase());
  disk_.IgnoreSyncs(options.forget_fsync);
  scheduler_options_.lease = kLease;
  scheduler_options_.mutation = options.mutation;
  scheduler_options_.workers.losses_to_set_aside = 5;
  scheduler_options_.workers.set_aside_for = absl::Seconds(20);
  scheduler_options_.job_rows = 2;
  for (int i = 0; i < kWorkers; ++i) workers_.push_back({.name = fmt::format("w{}", i), .pack_slots = MostTogether(i)});
  partitions_.resize(kWorkers);
}

SimulatorResult Simulation::Run() {
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

void Simulation::StartCoordinator() {
  auto store = coordinator::store::SqliteStore::Open({.path = kDatabase, .vfs = disk_.name()});
  if (store.ok()) {
    store_ = std::make_unique<WatchedStore>(*std::move(store), result_.violations, result_, [this] {
      if (clock_.MonotonicNow() < slow_disk_until_) clock_.Advance(absl::Milliseconds(Uniform(100, 9000)));
    });
    engine_ = std::make_unique<coordinator::engine::Engine>(
        scheduler_options_,
        coordinator::engine::Engine::Deps{
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
  if (!Faulty()) Violation(fmt::format("I5: the coordinator cannot start: {}", std::string(store.status().message())));
  After(absl::Seconds(1), [this] {
    disk_.Heal();
    if (!engine_) StartCoordinator();
  });
}

void Simulation::StopCoordinator() {
  if (engine_) engine_->CancelAll();
  engine_.reset();
  store_.reset();
}

void Simulation::CrashCoordinator() {
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

void Simulation::Feed(std::vector<coordinator::engine::EngineInput> inputs) {
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

void Simulation::ScheduleEngine() {
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

SimulatorResult Simulate(const SimulatorOptions& options) { return Simulation(options).Run(); }

}  // namespace loupe::simulation
