// Task 0's side of a job step (job_step.h), and that of a rank which a host has started.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "worker/ranks/job_step.h"
#include "worker/ranks/rank_group.h"

namespace loupe::worker::ranks {

// Thread-safe.
class StepHub {
 public:
  // Throws std::runtime_error when it cannot listen or write the file, which goes with it.
  explicit StepHub(const StepPlace& place);
  // The hosts end well.
  ~StepHub();
  StepHub(const StepHub&) = delete;
  StepHub& operator=(const StepHub&) = delete;

  int tasks() const;
  // Has hosts 1 … ranks − 1 start a rank each of this job, in place of what they had. What rank 0 meets them with.
  RankGroup::Options Start(const std::string& job, int ranks);
  // Which rank or host ended since, and how; empty while all are well.
  std::string WhyEnded();
  // Which host has gone, for good: no job with its rank can be run any more; empty while all are there.
  std::string WhyUnable();
  // Has the ranks end.
  void Stop();

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

// In the process of a rank that a host has started: what it meets the others with. Throws std::runtime_error.
RankGroup::Options JoinStep(const std::string& file, int rank, int64_t job_number);

}  // namespace loupe::worker::ranks
