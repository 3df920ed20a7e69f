// When and how a worker goes: its time limit, and the signals of whoever started it.
#pragma once

#include <string_view>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/agent/agent.h"

namespace loupe::worker::agent {

// How much time `until` leaves from `now` on, which is this machine's wall clock; never negative. A length of time is
// safer than a point in time, since two machines' clocks may differ:
//
//   "90m", "3h30m", "45s"                    a length
//   "30:00", "4:00:00", "2-12:00:00"         a length as Slurm writes it: [days-][hours:]minutes:seconds
//   "UNLIMITED", "NOT_SET", "N/A", "NONE", ""   no end: infinite
//   "INVALID"                                a length that is over, as Slurm writes it: zero
//   "2026-11-28T18:00:00"                    a point in local time, as Slurm writes it; with "Z" or "+01:00" in that
//   zone "1795888800"                             a point in Unix time: SLURM_JOB_END_TIME
//
// INVALID_ARGUMENT for anything else.
absl::StatusOr<absl::Duration> TimeLeft(std::string_view until, absl::Time now);

// How `grace` is used, from the first signal to the end of the process: what runs may finish in the first half, and in
// all but 30 s of it where that is more; the rest is for a checkpoint, the hand-over and the coordinator's answer.
absl::Duration FinishWithin(absl::Duration grace);

// Sets `options` so that the worker leaves in time: `left` as TimeLeft gives it, at monotonic time `now`.
void LeaveBy(absl::Duration left, absl::Duration grace, absl::Duration now, AgentOptions& options);

// Takes over the signals that LeaveOnSignal waits for: call it before this program makes a thread. Threads that are
// there already do no harm: libraries (OpenBLAS) start some when they are loaded, and a signal that is blocked
// everywhere else goes to those.
void CatchLeaveSignals();

// Waits for signals on a thread of its own. TERM, USR2 and HUP mean the same, whoever sends which (Slurm sends TERM
// when it preempts, cancels or ends a job and USR2 where it was asked for a warning; systemd TERM; a lost terminal
// HUP): take nothing new, finish what runs if that takes no longer than FinishWithin(grace), else write a checkpoint
// and hand it back. INT, or another of them: hand it back at once. More of them change nothing, since engines repeat
// them; more INTs end the process.
class LeaveOnSignal {
 public:
  // `agent` must outlive it.
  LeaveOnSignal(Agent& agent, absl::Duration grace) : thread_([this, &agent, grace] { Wait(agent, grace); }) {}
  ~LeaveOnSignal();
  LeaveOnSignal(const LeaveOnSignal&) = delete;
  LeaveOnSignal& operator=(const LeaveOnSignal&) = delete;

 private:
  void Wait(Agent& agent, absl::Duration grace);

  std::thread thread_;
};

}  // namespace loupe::worker::agent
