// A fleet of workers on a Slurm cluster: one array job, each task a worker. Pure text: the job's script, what squeue
// says, the file in which the command keeps what it has submitted. What runs which trial is the coordinator's to know,
// by its leases; what Slurm says of a job is shown and decides nothing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/pack_options.h"

namespace loupe::cli {

struct SlurmFleetOptions {
  std::string fleet = "loupe";
  int workers = 1;
  // How many of them run at a time; 0: as many as the cluster gives. Fewer than `workers` is how a fleet outlives its
  // time limit: as one job ends, the next begins.
  int array_limit = 0;
  std::string partition;
  // As sbatch's --time; empty: the partition's.
  std::string time;
  int gpus_per_worker = 0;
  // Tasks of one job step, each a rank of the worker's trials; 0: one for each GPU, or one.
  int ranks_per_worker = 0;
  int nodes_per_worker = 1;
  // Of each rank.
  int cpus_per_worker = 0;

  int ranks() const { return ranks_per_worker > 0 ? ranks_per_worker : std::max(1, gpus_per_worker); }
  // As sbatch's --mem.
  std::string memory;
  // Further options of sbatch, in its own words, and shell lines that run before the worker.
  std::vector<std::string> sbatch;
  std::vector<std::string> setup;
  // Absolute paths that mean the same on every node.
  std::string worker_program;
  std::string credentials;
  std::string log_folder;
  // The worker's --data; empty: its default.
  std::string worker_data;
  PackOptions packs;
  std::string until_idle = "10m";
  // From a signal to the worker's end. Less than Slurm's KillWait (30 s by default), after which it kills.
  int grace_seconds = 25;
};

// OK, or INVALID_ARGUMENT: names or options with a line break or (the name) anything but letters, digits, dots, dashes
// and underscores; ranks that have not one GPU each, or cannot be spread evenly over the nodes.
absl::Status CheckSlurmOptions(const SlurmFleetOptions& options);

// The job's name: by which squeue finds a fleet's jobs.
std::string SlurmJobName(const std::string& fleet);

// sbatch's --array for so many tasks. `limit` 0: none.
std::string SlurmArray(int workers, int limit);

// The batch script. Each task replaces its shell by one worker, which so gets the signals that Slurm sends to the batch
// shell: USR2 shortly before the time limit, TERM at preemption, cancellation and the limit. No secret is in it. With
// several ranks it is srun that replaces it, which hands the signals on: task 0 of its step is the worker, the others
// are its ranks, and whichever ends badly ends them all.
std::string SlurmScript(const SlurmFleetOptions& options);

// One task of an array job, as squeue says.
struct SlurmTask {
  std::string job;    // the array's id
  std::string index;  // of the task
  // SLURM_JOB_ID of a task that has begun.
  std::string id;
  std::string state;  // "PENDING", "RUNNING", …
  std::string node;
  std::string time_left;
  // Why it waits.
  std::string reason;

  // What scancel takes.
  std::string name() const { return job + "_" + index; }
  bool pending() const { return state == "PENDING"; }
};

// squeue's options for ParseSqueue's input.
std::vector<std::string> SqueueWords(const std::string& fleet);
// Tasks of the jobs in `jobs`; others of that name are another user's. INVALID_ARGUMENT for lines of another form.
absl::StatusOr<std::vector<SlurmTask>> ParseSqueue(std::string_view text, const std::set<std::string>& jobs);

// sbatch --parsable: "123" or "123;cluster".
absl::StatusOr<std::string> ParseSbatch(std::string_view text);

// "slurm-farm-1234-0" was started by job 1234 of the cluster "farm", at its first start: SLURM_JOB_ID, or nothing.
std::optional<std::string> JobOfWorker(std::string_view worker);

// The tasks to cancel where there are `surplus` too many, those that cost least first: what has not begun (latest
// first), what runs no trial (SLURM_JOB_ID in `idle`), the rest (latest first).
std::vector<SlurmTask> TasksToCancel(std::vector<SlurmTask> tasks, const std::set<std::string>& idle, size_t surplus);

// What the command keeps of a fleet, in DIR/FLEET.json.
struct SlurmFleet {
  std::string fleet;
  std::vector<std::string> jobs;
  std::string script;
  int array_limit = 0;
};
std::string ToJson(const SlurmFleet& fleet);
// INVALID_ARGUMENT names the path.
absl::StatusOr<SlurmFleet> ParseSlurmFleet(std::string_view json, const std::string& path);

}  // namespace loupe::cli
