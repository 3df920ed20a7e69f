// Clients: sweeps are created and deleted, commands are given.
#include "tests/simulation/mixed_needs.h"
#include "tests/simulation/simulation.h"

namespace loupe::simulation {

void Simulation::CreateSweep(const std::string& id, int tries) {
  // The client repeats until it hears of a success, always with the same request id.
  const uint64_t generation = generation_;
  coordinator::scheduler::SweepRecord sweep;
  sweep.id = id;
  sweep.uid = "uid-" + id;
  sweep.cells = 5;
  sweep.replicates = 2;
  sweep.seed = options_.seed;
  // Whatever the faults do, nothing may fail for good: the end is compared with a clean run.
  sweep.limits.max_trial_attempts = 1000;
  sweep.limits.max_worker_losses = 255;
  sweep.limits.backoff = absl::Milliseconds(100);
  Feed({coordinator::engine::Job([=, this](coordinator::scheduler::Scheduler& scheduler,
                                           const coordinator::scheduler::Now& now,
                                           coordinator::scheduler::Effects& effects) -> coordinator::engine::Reply {
    const absl::StatusOr<coordinator::scheduler::SweepRecord> made = scheduler.OnCreate(
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

void Simulation::CreateBrief() {
  const std::string id = fmt::format("brief-{}", brief_keys_.size());
  brief_keys_.emplace(id, 0);
  coordinator::scheduler::SweepRecord sweep;
  sweep.id = id;
  sweep.uid = "uid-" + id;
  sweep.cells = 4;
  sweep.replicates = 3;
  const uint64_t generation = generation_;
  Feed({coordinator::engine::Job([=, this](coordinator::scheduler::Scheduler& scheduler,
                                           const coordinator::scheduler::Now& now,
                                           coordinator::scheduler::Effects& effects) -> coordinator::engine::Reply {
    const absl::StatusOr<coordinator::scheduler::SweepRecord> made = scheduler.OnCreate(
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

void Simulation::DeleteBrief(const std::string& id) {
  asked_to_go_.insert(id);
  standing_.erase(id);
  const uint64_t generation = generation_;
  Feed({coordinator::engine::Job([=, this](coordinator::scheduler::Scheduler& scheduler,
                                           const coordinator::scheduler::Now& now,
                                           coordinator::scheduler::Effects& effects) -> coordinator::engine::Reply {
    const absl::Status going = scheduler.OnDelete(id, true, "", now, effects, "brief");
    return [=, this](const absl::Status& durable) {
      if (generation == generation_ && durable.ok() && !disk_.frozen() && going.ok() && deleted_.insert(id).second) {
        ++result_.sweeps_deleted;
      }
    };
  })});
}

void Simulation::RandomCommand() {
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
  const auto command = [what, last](coordinator::scheduler::Scheduler& scheduler,
                                    const coordinator::scheduler::Now& now, coordinator::scheduler::Effects& effects) {
    if (last || what >= 4) {
      // At the end everything is brought back, so that the sweep can be compared with a clean one.
      scheduler.OnVerb("side", coordinator::scheduler::SweepVerb::kResume, "", now, effects).IgnoreError();
      const bool all = last || what == 4;
      scheduler
          .OnRetry(
              "side", {TrialState::kFailed, TrialState::kCancelled, TrialState::kQuarantined},
              all ? std::function<bool(int64_t)>() : [](int64_t cell) { return cell == 1; }, "", "", now, effects,
              all ? "" : "1")
          .IgnoreError();
    } else {
      scheduler.OnVerb("side", static_cast<coordinator::scheduler::SweepVerb>(what), "", now, effects).IgnoreError();
    }
    return coordinator::engine::Reply([](const absl::Status&) {});
  };
  Feed({coordinator::engine::Job(command)});
  if (!last || !Done()) After(absl::Milliseconds(Uniform(5000, 40000)), [this] { RandomCommand(); });
}

}  // namespace loupe::simulation
