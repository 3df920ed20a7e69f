// Packs: several trials of one worker that can be trained together. Which fit each other is the plan's affair
// (SweepNeeds::pack_of_class); here is who gets how many of them, and when.
//
// The oldest first, and nobody waits for ever: a pack begins with the trial whose turn it is, and is then filled with
// the next ones of its sweep that fit, though others may stand between them. Once its worker has begun, a place that
// becomes free goes to the next trial in turn or to nobody: a trial that does not fit waits until the pack has ended,
// and no longer.
//
// And no worker takes what another could have: one more joins a pack if that is within the worker's share of all that
// is left to do of the sweep, running trials counted by the steps that they have before them, or if the others have as
// much to do as it has. So the last trials are dealt out evenly, at the beginning of packs and where places become
// free. There the worker is given no more while what it was given waits for the others of its pack: one that samples
// begins with nothing new, and who is ready first takes what is left.
//
// A trial that ends its worker's process costs every trial of its pack a loss. So the last chance before quarantine is
// one alone: who is at fault is found, and nobody is quarantined for another.
#include <algorithm>
#include <string_view>

#include "coordinator/scheduler/scheduler.h"
#include "coordinator/scheduler/scheduler_parts.h"

namespace loupe::coordinator::scheduler {
namespace {

constexpr absl::Duration kCountEvery = absl::Seconds(1);
// The phase whose steps tell how much of a trial is done, and the one before a worker has begun with it.
constexpr std::string_view kTrains = "train";
constexpr std::string_view kQueued = "queued";

}  // namespace

std::optional<Scheduler::Next> Scheduler::NextFor(const WorkerEntry& worker) {
  const WorkerAbilities& abilities = worker.record.description.abilities;
  Sweep* const sweep = NextSweepFor(abilities);
  if (sweep == nullptr) return std::nullopt;
  const bool any = options_.mutation == SchedulerOptions::Mutation::kLeaseToAnybody;
  const std::optional<size_t> of_class =
      sweep->NextClass([&](size_t i) { return any || CanRun(abilities, sweep->needs->classes[i]); });
  return of_class ? std::optional(Next{sweep, *of_class}) : std::nullopt;
}

bool Scheduler::OnLastChance(Sweep& sweep, int64_t index) {
  return sweep.trial(index).worker_losses + 1 >= sweep.record.limits.max_worker_losses;
}

bool Scheduler::HasBegun(const Attempt& attempt) { return !attempt.phase.empty() && attempt.phase != kQueued; }

std::optional<Scheduler::Next> Scheduler::NextForPack(const WorkerEntry& worker) {
  if (options_.mutation == SchedulerOptions::Mutation::kPackAnything) return NextFor(worker);
  Sweep* sweep = nullptr;
  int32_t pack = SweepNeeds::kAlone;
  bool some_run = false, some_wait = false;
  for (const TrialKey& trial : worker.attempts) {
    Sweep* const its = sweeps_.at(trial.sweep).get();
    const int32_t its_pack = its->needs->pack_of(its->needs->class_of(CellOf(its->record, trial.index)));
    const bool others = sweep != nullptr && (its != sweep || its_pack != pack);
    (HasBegun(*attempts_.at(trial)) ? some_run : some_wait) = true;
    if (others || its_pack == SweepNeeds::kAlone || OnLastChance(*its, trial.index)) return std::nullopt;
    sweep = its;
    pack = its_pack;
  }
  if (sweep == nullptr || (some_run && some_wait && !worker.gathers)) return std::nullopt;
  const auto fits = [&](size_t of_class) { return sweep->needs->pack_of(of_class) == pack; };
  std::optional<Next> next;
  if (worker.gathers) {
    const WorkerAbilities& abilities = worker.record.description.abilities;
    const std::optional<size_t> of_class = sweep->NextClass(
        [&](size_t i) { return fits(i) && sweep->runnable_keys[i] && CanRun(abilities, sweep->needs->classes[i]); });
    if (of_class) next = Next{sweep, *of_class};
  } else {
    next = NextFor(worker);
  }
  if (!next || next->sweep != sweep || !fits(next->of_class)) return std::nullopt;
  if (OnLastChance(*sweep, *sweep->queues[next->of_class].Peek())) return std::nullopt;
  return next;
}

bool Scheduler::IsWithinShare(const WorkerEntry& worker, const Next& next, const Now& now) {
  if (now.monotonic - crowd_counted_ >= kCountEvery) {
    crowd_ = FleetAt(now).takers;
    crowd_counted_ = now.monotonic;
  }
  const Sweep& sweep = *next.sweep;
  int64_t workers = 0;
  for (const auto& [abilities, count] : crowd_) {
    if (CanRun(abilities, sweep.needs->classes[next.of_class])) workers += count;
  }
  int64_t queued = 0;
  for (size_t i = 0; i < sweep.queues.size(); ++i) {
    if (CanRun(worker.record.description.abilities, sweep.needs->classes[i])) queued += sweep.queues[i].size();
  }
  int64_t its = 0;
  for (const TrialKey& trial : worker.attempts) its += attempts_.at(trial)->left;
  const int64_t all = queued * kWorkOfTrial + sweep.running_left;
  return (its + kWorkOfTrial) * workers <= all || its * workers <= sweep.running_left;
}

void Scheduler::NoteWorkLeft(Attempt& attempt) {
  if (attempt.phase != kTrains || attempt.total_steps <= 0) return;
  const int64_t steps = std::clamp<int64_t>(attempt.step, 0, attempt.total_steps);
  const auto left =
      static_cast<int64_t>(static_cast<double>(kWorkOfTrial) * static_cast<double>(attempt.total_steps - steps) /
                           static_cast<double>(attempt.total_steps));
  sweeps_.at(attempt.trial.sweep)->running_left += left - attempt.left;
  attempt.left = left;
}

}  // namespace loupe::coordinator::scheduler
