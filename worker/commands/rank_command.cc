#include <memory>
#include <string>

#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/commands/commands.h"
#include "worker/executor/rank_follower.h"
#include "worker/ranks/rank_processes.h"

namespace loupe::worker::commands {
namespace {

struct RankFlags {
  std::string job;
  int rank = 0;
  int parent = 0;
  executor::StepRank step;
};

absl::Status RunRank(const RankFlags& flags) {
  ranks::EndWithParent(flags.parent);
  LOUPE_RETURN_IF_ERROR(InitLogging("loupe-worker", "warn"));
  return executor::FollowRank(flags.job, flags.rank, flags.step);
}

}  // namespace

void AddRankCommand(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("rank", "One of the other processes of a trial on several devices");
  // Nobody starts it by hand: --help does not list it.
  command->group("");
  const auto flags = std::make_shared<RankFlags>();
  command->add_option("--job", flags->job, "What the trial is")->required();
  command->add_option("--rank", flags->rank, "Which of its ranks, from 1")->required();
  command->add_option("--parent", flags->parent, "Rank 0's process, with which this one ends")->required();
  command->add_option("--step-file", flags->step.file, "Of a job step's task: the step's file");
  command->add_option("--job-number", flags->step.job_number, "Of a job step's task: which of its trials");
  command->add_option("--device", flags->step.device, "Of a job step's task: its device");
  command->callback([flags, &exit_code] { exit_code = Report("rank", RunRank(*flags)); });
}

}  // namespace loupe::worker::commands
