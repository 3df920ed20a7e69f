// A rank other than 0 of a trial on several devices: a process of its own, which does what rank 0 announces.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace loupe::worker::executor {

// How a rank that a job step's task has started (ranks/job_step.h) finds the others.
struct StepRank {
  std::string file;  // empty: it is a process of the worker's own
  int64_t job_number = 0;
  std::string device;
};

// Rank `rank` of the job in `job_file` (rank_team.h), until rank 0 has ended. Writes nothing but caches. An error ends
// the trial's attempt: its process must then end.
absl::Status FollowRank(const std::string& job_file, int rank, const StepRank& step = {});

}  // namespace loupe::worker::executor
