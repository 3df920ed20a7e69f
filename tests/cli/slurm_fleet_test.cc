// The batch script of a fleet, what Slurm's programs say, and what the command keeps.
#include "cli/slurm_fleet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/run_program.h"

namespace loupe::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

SlurmFleetOptions SomeFleet() {
  SlurmFleetOptions options;
  options.workers = 64;
  options.partition = "gpu";
  options.gpus_per_worker = 1;
  options.worker_program = "/opt/loupe worker/bin/loupe-worker";
  options.credentials = "/home/anna's/farm.pem";
  options.log_folder = "/home/anna/logs";
  return options;
}

TEST(SlurmFleetTest, ScriptIsOneArrayJob) {
  SlurmFleetOptions options = SomeFleet();
  options.array_limit = 16;
  options.time = "4:00:00";
  options.sbatch = {"--account=lab --exclusive"};
  options.setup = {"module load cuda"};
  ASSERT_TRUE(CheckSlurmOptions(options).ok());
  const std::string script = SlurmScript(options);
  for (const char* line :
       {"#!/bin/sh\n", "#SBATCH --job-name=loupe-loupe\n", "#SBATCH --array=0-63%16\n", "#SBATCH --partition=gpu\n",
        "#SBATCH --gres=gpu:1\n", "#SBATCH --time=4:00:00\n", "#SBATCH --signal=B:USR2@25\n", "#SBATCH --requeue\n",
        "#SBATCH --account=lab --exclusive\n", "\nmodule load cuda\n", "--device auto", "--until \"$left\"",
        "'/home/anna'\\''s/farm.pem'", "exec '/opt/loupe worker/bin/loupe-worker' run"}) {
    EXPECT_THAT(script, HasSubstr(line));
  }
  EXPECT_THAT(script, Not(HasSubstr("--mem"))) << "what was not asked for is the cluster's";
  EXPECT_EQ(script.find("\nexec "), script.rfind("\nexec "));
}

TEST(SlurmFleetTest, SeveralGpusAreTasksOfOneStep) {
  SlurmFleetOptions options = SomeFleet();
  options.gpus_per_worker = 4;
  options.nodes_per_worker = 2;
  options.cpus_per_worker = 6;
  ASSERT_TRUE(CheckSlurmOptions(options).ok());
  const std::string script = SlurmScript(options);
  for (const char* line : {"#SBATCH --nodes=2\n#SBATCH --ntasks=4\n#SBATCH --ntasks-per-node=2\n",
                           "#SBATCH --gres=gpu:2\n", "#SBATCH --cpus-per-task=6\n", "--device cuda --threads",
                           "step='/home/anna/logs'/step-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}\nrm -f \"$step\"\n",
                           "exec srun --nodes=2 --ntasks=4 --ntasks-per-node=2 --distribution=block --cpus-per-task=6 "
                           "--mpi=none --kill-on-bad-exit=1 \\\n  '/opt/loupe worker/bin/loupe-worker' run",
                           "--step-file \"$step\" --slots 1 --passes auto --until"}) {
    EXPECT_THAT(script, HasSubstr(line));
  }
  options.gpus_per_worker = 3;
  EXPECT_FALSE(CheckSlurmOptions(options).ok()) << "three ranks on two nodes";
  options.nodes_per_worker = 1;
  options.ranks_per_worker = 2;
  EXPECT_FALSE(CheckSlurmOptions(options).ok()) << "three GPUs for two ranks";
  options.gpus_per_worker = 0;
  EXPECT_THAT(SlurmScript(options), ::testing::AllOf(Not(HasSubstr("--gres")), HasSubstr("--device cpu "),
                                                     HasSubstr("exec srun --nodes=1 --ntasks=2 ")));
  options.ranks_per_worker = 0;
  EXPECT_THAT(SlurmScript(options), Not(HasSubstr("srun")));
}

// The shell is the judge: the worker's command line as the script makes it, on a node with and without Slurm's times.
TEST(SlurmFleetTest, ScriptGivesTheWorkerItsEnd) {
  SlurmFleetOptions options = SomeFleet();
  options.worker_program = "echo";
  options.worker_data = "/scratch/anna data";
  options.packs = {.slots = "auto", .passes = "shared"};
  const std::string script = SlurmScript(options);
  const std::string with_times =
      "squeue() { [ \"$3\" = 1230_4 ] && echo 3:59:50; }\nSLURM_JOB_ID=1234 SLURM_ARRAY_JOB_ID=1230 "
      "SLURM_ARRAY_TASK_ID=4 SLURM_CLUSTER_NAME=Big_Farm SLURM_CPUS_ON_NODE=8\n";
  const auto said = [&](const std::string& before) {
    std::string body = script;
    body.replace(body.find("exec "), 5, "");
    const absl::StatusOr<ProgramEnd> end = RunProgram({"sh", "-euc", before + body + "rmdir \"$scratch\"\n"});
    EXPECT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(end->exit_code, 0) << end->errors;
    return end->output;
  };
  const std::string asked = said(with_times);
  EXPECT_THAT(asked, HasSubstr("run --credentials /home/anna's/farm.pem --id slurm-big-farm-1234-0 --scratch "));
  EXPECT_THAT(asked,
              HasSubstr(" --data /scratch/anna data --device auto --threads 8 --slots auto --passes shared --until "
                        "3:59:50 --until-idle 10m"));
  EXPECT_THAT(
      said(with_times + "SLURM_JOB_START_TIME=1800000000 SLURM_JOB_END_TIME=1800003600 SLURM_RESTART_COUNT=2\n"),
      ::testing::AllOf(HasSubstr("--id slurm-big-farm-1234-2"), HasSubstr("--until 3600s")));
}

TEST(SlurmFleetTest, OptionsOfOneLineOnly) {
  SlurmFleetOptions options = SomeFleet();
  options.sbatch = {"--account=lab\nrm -rf /"};
  EXPECT_EQ(CheckSlurmOptions(options).code(), absl::StatusCode::kInvalidArgument);
  options = SomeFleet();
  options.partition = "gpu --wrap=x";
  EXPECT_EQ(CheckSlurmOptions(options).code(), absl::StatusCode::kInvalidArgument);
  for (const char* name : {"", "a b", "../x", "-x", "a/b"}) {
    options = SomeFleet();
    options.fleet = name;
    EXPECT_EQ(CheckSlurmOptions(options).code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

TEST(SlurmFleetTest, SqueueIsReadAndForeignJobsAreNot) {
  const auto tasks = ParseSqueue(
      "12|10|31|RUNNING|n3|3:59:01|None\n12|2|22|PENDING||4:00:00|(Priority)\n99|0|99|RUNNING|n1|1:00|None\n", {"12"});
  ASSERT_TRUE(tasks.ok()) << tasks.status();
  ASSERT_EQ(tasks->size(), 2u);
  EXPECT_EQ((*tasks)[0].name(), "12_2");
  EXPECT_TRUE((*tasks)[0].pending());
  EXPECT_EQ((*tasks)[1].id, "31");
  EXPECT_EQ((*tasks)[1].node, "n3");
  EXPECT_FALSE(ParseSqueue("slurm_load_jobs error", {"12"}).ok());
}

TEST(SlurmFleetTest, SbatchSaysTheJob) {
  EXPECT_EQ(*ParseSbatch("123\n"), "123");
  EXPECT_EQ(*ParseSbatch("123;farm\n"), "123");
  EXPECT_EQ(*ParseSbatch("Welcome to the farm\n123\n"), "123");
  EXPECT_FALSE(ParseSbatch("").ok());
  EXPECT_FALSE(ParseSbatch("Submitted batch job").ok());
}

TEST(SlurmFleetTest, WorkersNameTheirJobs) {
  EXPECT_EQ(JobOfWorker("slurm-farm-1234-0"), "1234");
  EXPECT_EQ(JobOfWorker("slurm-big-farm-1234-3"), "1234");
  EXPECT_EQ(JobOfWorker("local-1"), std::nullopt);
  EXPECT_EQ(JobOfWorker("slurm-farm-x-0"), std::nullopt);
}

TEST(SlurmFleetTest, CheapestTasksAreCancelled) {
  const std::vector<SlurmTask> tasks = {{"1", "0", "10", "RUNNING"},
                                        {"1", "1", "11", "RUNNING"},
                                        {"1", "2", "12", "RUNNING"},
                                        {"1", "3", "1", "PENDING"}};
  std::vector<std::string> names;
  for (const SlurmTask& task : TasksToCancel(tasks, {"10"}, 3)) names.push_back(task.name());
  EXPECT_THAT(names, ElementsAre("1_3", "1_0", "1_2"));
  EXPECT_EQ(TasksToCancel(tasks, {}, 9).size(), 4u);
}

TEST(SlurmFleetTest, StateSurvivesAndDamageIsNamed) {
  const SlurmFleet fleet{.fleet = "f", .jobs = {"12", "13"}, .script = "/x/f.sbatch", .array_limit = 4};
  const auto read = ParseSlurmFleet(ToJson(fleet), "f.json");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->jobs, fleet.jobs);
  EXPECT_EQ(read->script, fleet.script);
  EXPECT_EQ(read->array_limit, 4);
  for (const char* text : {"", "[]", "{}", R"({"fleet":"f","jobs":["--all"],"script":"x"})"}) {
    EXPECT_THAT(std::string(ParseSlurmFleet(text, "f.json").status().message()), HasSubstr("'f.json'")) << text;
  }
}

TEST(RunProgramTest, SaysHowItEndedAndHidesTokens) {
  ::setenv("LOUPE_TOKEN", "secret", 1);
  const auto end = RunProgram({"sh", "-c", "env; echo wrong >&2; exit 3"});
  ::unsetenv("LOUPE_TOKEN");
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->exit_code, 3);
  EXPECT_EQ(end->errors, "wrong\n");
  EXPECT_THAT(end->output, HasSubstr("PATH="));
  EXPECT_THAT(end->output, Not(HasSubstr("secret")));
  EXPECT_TRUE(absl::IsNotFound(RunProgram({"no-such-program-anywhere"}).status()));
}

}  // namespace
}  // namespace loupe::cli
