// A rank other than 0 of a trial on several devices: a process of its own, which does what rank 0 announces.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace loupe::worker {

// Rank `rank` of the job in `job_file` (rank_team.h), until rank 0 says that it has ended. Writes nothing but caches.
// An error ends the trial's attempt: its process must then end.
absl::Status FollowRank(const std::string& job_file, int rank);

}  // namespace loupe::worker
