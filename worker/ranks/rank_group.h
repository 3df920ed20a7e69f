// The processes that train one trial together: ranks 0 … n − 1, each with a device of its own. Rank 0 is the worker's
// process and the only one that reports, writes and decides; the others follow (executor/rank_follower.h).
//
// Small things and whatever lies on the CPU go by Gloo, over the loopback interface where all are on one machine;
// gradients on GPUs go by NCCL. The ranks meet in a file of the attempt's own folder, or, as tasks of a job step, in
// task 0's memory (job_step.h). Nobody else can meet them there.
#pragma once

#include <torch/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/runtime/row_share.h"

namespace c10d {
class ProcessGroup;
}  // namespace c10d

namespace loupe::worker::ranks {

struct RankMeeting;  // rank_meeting.h

// Every call is a collective: all ranks make the same calls in the same order. Each throws c10::Error or
// std::runtime_error when another rank has ended, at once, and when one stays away for longer than `patience`. Not
// thread-safe. A process that makes one ignores SIGPIPE from then on.
class RankGroup {
 public:
  struct Options {
    // Where there is no `meeting`: a path at which there was no file before; on a disk of this machine.
    std::string meeting_file = "";
    std::shared_ptr<RankMeeting> meeting = nullptr;
    // Numeric: where the other ranks reach this one. Not the machine's own name, which may lead anywhere.
    std::string interface = "127.0.0.1";
    int rank = 0;
    int ranks = 1;
    torch::Device device = torch::kCPU;
    // What one rank does alone while the others wait (reading the data, scores) must be over by then.
    std::chrono::milliseconds patience = std::chrono::hours(2);
  };
  explicit RankGroup(const Options& options);
  ~RankGroup();
  RankGroup(const RankGroup&) = delete;
  RankGroup& operator=(const RankGroup&) = delete;

  int rank() const { return options_.rank; }
  int ranks() const { return options_.ranks; }
  runtime::RowShare ShareOf(int64_t total) const { return runtime::ShareOf(total, rank(), ranks()); }

  // `values` (CPU, any shape) becomes the sum of all ranks', the same bits on each.
  void SumOnCpu(torch::Tensor values);
  // Rank 0's bytes, on every rank.
  std::string FromLeader(std::string bytes);
  // On rank 0: every rank's rows in the order of the ranks, where rank r has rows[r] of them; elsewhere undefined.
  // `own`: [rows[rank], …] on the CPU, contiguous, of one type and row shape everywhere.
  torch::Tensor GatherRows(const torch::Tensor& own, const std::vector<int64_t>& rows);

  // The other way round: of rank 0's `all`, [n, …] uint8 on the CPU, this rank's rows, where a row is of `row_shape`.
  torch::Tensor ScatterRows(const torch::Tensor& all, const std::vector<int64_t>& row_shape,
                            const std::vector<int64_t>& rows);

  // For sums on the device: c10d's group with the device's backend.
  const c10::intrusive_ptr<c10d::ProcessGroup>& group() const { return group_; }

 private:
  const Options options_;
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
};

// Before the ranks meet: a rank other than 0 says in the meeting file that it has come as far, and rank 0 asks whether
// all others have. So that rank 0 can wait and watch them at the same time.
void SayReady(const RankGroup::Options& options);
bool AllReady(const RankGroup::Options& options);

}  // namespace loupe::worker::ranks
