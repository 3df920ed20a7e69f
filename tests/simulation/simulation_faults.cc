// What goes wrong.
#include <algorithm>
#include <utility>

#include "tests/simulation/mixed_needs.h"
#include "tests/simulation/simulation.h"

namespace loupe::simulation {

void Simulation::ScheduleFault() {
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

void Simulation::RandomStall() {
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

void Simulation::RandomFault() {
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
    case 3: {
      // One draw after the other: in what order a call's arguments are evaluated is the compiler's affair.
      const bool persistent = Chance(0.5);
      disk_.FailAt(Uniform(1, 20), testing::MemoryVfs::Fault::kIoError, persistent);
      After(absl::Milliseconds(Uniform(1, 15000)), [this] { disk_.Heal(); });
      break;
    }
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

void Simulation::SendConfusedReport(int index) {
  if (highest_epoch_.empty()) return;
  auto target = highest_epoch_.begin();
  std::advance(target, Uniform(0, static_cast<int64_t>(highest_epoch_.size()) - 1));
  const size_t slash = target->first.find('/');
  coordinator::scheduler::AttemptReport report;
  report.lease = {target->first.substr(0, slash), std::stoll(target->first.substr(slash + 1)), target->second,
                  ToHex(tokens_.NextToken())};
  report.outcome = coordinator::scheduler::Result{{{"score", 99.0}}};
  coordinator::scheduler::SyncRequest request;
  request.worker = workers_[static_cast<size_t>(index)].name;
  request.session = fmt::format("s{}", workers_[static_cast<size_t>(index)].session);
  request.description.abilities = AbilitiesOf(index, workers_[static_cast<size_t>(index)].session);
  request.attempts.push_back(std::move(report));
  Receive(index, request, 0);
}

}  // namespace loupe::simulation
