// A trial on several devices: what rank 0, the worker's own process, and the others say to each other
// (worker/ranks/rank_group.h). Rank 0 drives: before each thing that all have a part in, it names that thing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/executor/attempt.h"
#include "worker/ranks/job_step.h"
#include "worker/ranks/rank_group.h"
#include "worker/ranks/rank_processes.h"
#include "worker/tasks/picture_work.h"

namespace loupe::worker::executor {

// How a worker makes ranks: what is the same for all of its trials.
struct RankOptions {
  // Devices, as ParseDevice reads them; the first is the worker's own. A trial has as many ranks at most.
  std::vector<std::string> devices;
  // Of each rank's tensor code on the CPU; 0: LibTorch's own choice.
  int threads = 0;
  std::string cache_folder;
  // The program whose sub-command `rank` is FollowRank (rank_follower.h).
  std::string program;
  // Ranks are other tasks of the worker's job step, and not its own processes.
  std::shared_ptr<ranks::StepHub> step;
};

// What a rank other than 0 has to know: of all but RankCommand.
struct RankJob {
  AttemptSpec spec;
  RankOptions options;
  std::string meeting_file;

  int ranks() const { return static_cast<int>(spec.settings.Integer("train.devices")); }
};
std::string EncodeJob(const RankJob& job);
// INVALID_ARGUMENT when it is none.
absl::StatusOr<RankJob> DecodeJob(const std::string& bytes);

struct PicturesToEmbed {
  std::string network = tasks::kScorerNetwork;
  int64_t count = 0;
  // Of each.
  int64_t height = 0, width = 0;
};

struct RankCommand {
  enum class Kind {
    // What rank 0 has prepared lies in the cache: read it.
    kPrepare,
    // A slot in the trainer, from the checkpoint where there is one; then rank 0 says which step it is at.
    kJoin,
    kStep,
    // rank_shares.h. Before kJoin pictures are the untuned base's, afterwards those of the trained values (of their
    // average, where there is one).
    kSample,
    kEmbed,
    kValidate,
  };
  Kind kind = Kind::kStep;
  tasks::PictureOrder order = {};  // kSample
  PicturesToEmbed embed = {};      // kEmbed
};
std::string EncodeCommand(const RankCommand& command);
RankCommand DecodeCommand(const std::string& bytes);

// Rank 0's side. Destroying it ends the others, whatever they are at. Not thread-safe.
class RankTeam {
 public:
  // Starts them; they load the base while this process goes on. Throws UserError where the trial wants more ranks than
  // there are devices. The observer must outlive it.
  RankTeam(const AttemptSpec& spec, torch::Device device, const RankOptions& options, const AttemptObserver& observer);
  ~RankTeam();

  // The first call waits until all are ready and meets them. Throws Stopped when the observer says so, and
  // std::runtime_error when one has ended.
  ranks::RankGroup& group();
  void Announce(const RankCommand& command) { group().FromLeader(EncodeCommand(command)); }

  // In the middle of this rank's own work: throws std::runtime_error when another has ended.
  void CheckOthers();
  // After an error: which rank ended, and how; empty when none did. A rank that is killed closes its connections
  // shortly before it can be seen to have ended, so it waits for a moment.
  std::string WhyEnded();

 private:
  std::string OtherEnded();

  const RankJob job_;
  const int ranks_;
  ranks::RankGroup::Options place_;
  const AttemptObserver& observer_;
  std::unique_ptr<ranks::RankProcesses> others_;  // null: those of a job step
  std::unique_ptr<ranks::RankGroup> group_;
};

}  // namespace loupe::worker::executor
