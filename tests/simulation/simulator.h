// One seed, one history: the production engine, scheduler and store, with virtual time, an unreliable network, workers
// that crash, freeze and come back as zombies, and a coordinator that is stopped, suspended, slow, and loses power at
// any write, under one pseudo-random hand. Jobs on whole sweeps take many steps there, a row or two each.
//
// The same seed gives the same history, so a failure is replayed by its number alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/scheduler/scheduler.h"

namespace loupe::simulation {

struct SimulatorOptions {
  uint64_t seed = 1;
  // The scheduler broken on purpose.
  coordinator::scheduler::SchedulerOptions::Mutation mutation =
      coordinator::scheduler::SchedulerOptions::Mutation::kNone;
  // The disk that says "synced" and is not.
  bool forget_fsync = false;
  // Also pauses, resumes, stops, cancels and retries a second sweep at random, and creates and deletes others.
  bool with_commands = true;
  // Nothing goes wrong but the coordinator's own time: it is stopped, suspended, or waits for its disk. Nobody may pay
  // for that.
  bool only_stalls = false;
  // Prints every event.
  bool verbose = false;
};

struct SimulatorResult {
  // What was broken, a sentence each, beginning with the invariant's name (I1 … I7); empty when all held.
  std::vector<std::string> violations;
  // What the history contained: so that a test can show that the faults really happened.
  int64_t events = 0;
  int64_t commits = 0;
  int64_t coordinator_crashes = 0;
  int64_t crashes_inside_commits = 0;
  int64_t failed_commits = 0;
  int64_t worker_crashes = 0;
  int64_t leases_expired = 0;
  int64_t stale_writes_refused = 0;
  int64_t messages_lost = 0;
  int64_t messages_duplicated = 0;
  int64_t stalls = 0;
  // Jobs that a restart found unfinished.
  int64_t jobs_resumed = 0;
  int64_t sweeps_deleted = 0;
  // Answers by which a worker held several trials, and times that one gave some back since its memory had run out.
  int64_t packs = 0;
  int64_t packs_halved = 0;
  // Trials of a search that were told to end early, and results that say that they did.
  int64_t told_to_finish = 0;
  int64_t finished_early = 0;
};

// Invariants (checked while it runs, after every restart, and at the end):
//   I1 exactly one accepted result per trial          I5 every trial ends within a bound after the faults stop
//   I2 an acknowledged completion is never lost       I6 the counters equal a recount of the rows
//   I3 epochs of a trial strictly rise                I7 the scores are, bit for bit, those of a run without faults
//   I4 no write under an old epoch or wrong token is accepted
//   I8 with only_stalls: no lease expires, no trial is lost, nobody is set aside
//   I9 no worker is given a trial that it cannot run, nor more than it can hold
//   I10 the trials that a worker holds beyond its one slot fit each other, as a pack
//   I11 nothing of a study is ended early; what was said of a search's trial is said again, to whoever runs it, also
//   after
//       a restart
SimulatorResult Simulate(const SimulatorOptions& options);

}  // namespace loupe::simulation
