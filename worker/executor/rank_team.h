// A trial on several devices: what rank 0, the worker's own process, and the others say to each other
// (worker/ranks/rank_group.h). Rank 0 drives: before each thing that all have a part in, it names that thing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/streams.h"
#include "worker/executor/attempt.h"
#include "worker/ranks/rank_group.h"
#include "worker/ranks/rank_processes.h"

namespace loupe::worker {

// How a worker makes ranks: what is the same for all of its trials.
struct RankOptions {
  // Devices, as ParseDevice reads them; the first is the worker's own. A trial has as many ranks at most.
  std::vector<std::string> devices;
  // Of each rank's tensor code on the CPU; 0: LibTorch's own choice.
  int threads = 0;
  std::string cache_folder;
  // The program whose sub-command `rank` is FollowRank (rank_follower.h).
  std::string program;
};

// What a rank other than 0 has to know: of all but RankCommand.
struct RankJob {
  AttemptSpec spec;
  RankOptions options;
  std::string meeting_file;

  RankGroup::Options group_of(int rank, torch::Device device) const;
};
std::string EncodeJob(const RankJob& job);
// INVALID_ARGUMENT when it is none.
absl::StatusOr<RankJob> DecodeJob(const std::string& bytes);

struct RankCommand {
  enum class Kind { kStep, kSample, kEnd };
  Kind kind = Kind::kEnd;
  // kSample: pictures of the trained values (their average, where there is one).
  std::vector<std::string> prompts = {};
  Stream stream = Stream::kSampleLatents;
  int64_t count = 0;
};
std::string EncodeCommand(const RankCommand& command);
RankCommand DecodeCommand(const std::string& bytes);

// Rank 0's side. Destroying it ends the others, whatever they are at. Not thread-safe.
class RankTeam {
 public:
  // Starts them; they load what they need while this process goes on. Throws UserError where the trial wants more ranks
  // than there are devices or rows in a batch.
  RankTeam(const AttemptSpec& spec, torch::Device device, const RankOptions& options);
  ~RankTeam();

  // Waits until all are ready and meets them. Throws Stopped when `observer` says so, and std::runtime_error when one
  // has ended.
  RankGroup& Meet(const AttemptObserver& observer);
  // After Meet.
  RankGroup& group() { return *group_; }
  void Announce(const RankCommand& command) { group_->FromLeader(EncodeCommand(command)); }

  // After an error: which rank ended, and how; empty when none did. A rank that is killed closes its connections
  // shortly before it can be seen to have ended, so it waits for a moment.
  std::string WhyEnded();

 private:
  const RankJob job_;
  const int ranks_;
  const torch::Device device_;
  std::unique_ptr<RankProcesses> others_;
  std::unique_ptr<RankGroup> group_;
};

}  // namespace loupe::worker
