// Ten thousand histories, and a few that must go wrong.
//
// LOUPE_SIMULATION_SEED=n replays one seed and prints its events; LOUPE_SIMULATION_SEEDS=n changes how many are run.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "fmt/format.h"
#include "spdlog/spdlog.h"
#include "tests/simulation/simulator.h"

namespace loupe::simulation {
namespace {

using Mutation = coordinator::scheduler::SchedulerOptions::Mutation;

int64_t FromEnvironment(const char* name, int64_t fallback) {
  const char* text = std::getenv(name);
  return text == nullptr ? fallback : std::strtoll(text, nullptr, 10);
}

// The store's refusals are the point here, not news.
class SimulationTest : public ::testing::Test {
 protected:
  SimulationTest() { spdlog::set_level(spdlog::level::off); }
};

TEST_F(SimulationTest, OneSeedReplayed) {
  const int64_t wanted = FromEnvironment("LOUPE_SIMULATION_SEED", 0);
  const uint64_t seed = wanted == 0 ? 1 : static_cast<uint64_t>(wanted);
  for (const std::string& violation : Simulate({.seed = seed, .verbose = wanted != 0}).violations) {
    ADD_FAILURE() << violation;
  }
}

TEST_F(SimulationTest, TheSameSeedGivesTheSameHistory) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    const SimulatorResult first = Simulate({.seed = seed});
    const SimulatorResult second = Simulate({.seed = seed});
    EXPECT_EQ(first.events, second.events);
    EXPECT_EQ(first.commits, second.commits);
    EXPECT_EQ(first.stale_writes_refused, second.stale_writes_refused);
  }
}

// A coordinator that is stopped, suspended, or waits for its disk: nothing else goes wrong, so nothing may be lost.
TEST_F(SimulationTest, NobodyPaysForStalls) {
  int64_t stalls = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    const SimulatorResult result = Simulate({.seed = seed, .with_commands = false, .only_stalls = true});
    for (const std::string& violation : result.violations) ADD_FAILURE() << violation;
    if (HasFailure()) break;
    stalls += result.stalls;
  }
  EXPECT_GT(stalls, 3000);
}

// One process per slice, so that ctest can run them side by side.
class SimulationSlices : public SimulationTest, public ::testing::WithParamInterface<int> {};

TEST_P(SimulationSlices, EveryInvariantHoldsInEveryHistory) {
  const int64_t seeds = FromEnvironment("LOUPE_SIMULATION_SEEDS", 10000) / 4;
  SimulatorResult total;
  for (int64_t i = 0; i < seeds; ++i) {
    const auto seed = static_cast<uint64_t>(GetParam() * seeds + i + 1);
    const SimulatorResult result = Simulate({.seed = seed, .with_commands = seed % 2 == 0});
    for (const std::string& violation : result.violations) ADD_FAILURE() << violation;
    if (HasFailure()) break;
    total.commits += result.commits;
    total.coordinator_crashes += result.coordinator_crashes;
    total.crashes_inside_commits += result.crashes_inside_commits;
    total.failed_commits += result.failed_commits;
    total.worker_crashes += result.worker_crashes;
    total.leases_expired += result.leases_expired;
    total.stale_writes_refused += result.stale_writes_refused;
    total.messages_lost += result.messages_lost;
    total.messages_duplicated += result.messages_duplicated;
    total.stalls += result.stalls;
    total.jobs_resumed += result.jobs_resumed;
    total.sweeps_deleted += result.sweeps_deleted;
    total.packs += result.packs;
    total.packs_halved += result.packs_halved;
    total.told_to_finish += result.told_to_finish;
    total.finished_early += result.finished_early;
  }
  fmt::print(
      "{} seeds: {} commits, {} failed commits, {} coordinator crashes ({} inside a commit), {} worker crashes, {} leases "
      "expired, {} stale writes refused, {} messages lost, {} duplicated, {} stalls, {} jobs resumed, {} sweeps deleted, {} answers with packs, {} packs halved, "
      "{} trials told to end early, {} that did\n",
      seeds, total.commits, total.failed_commits, total.coordinator_crashes, total.crashes_inside_commits,
      total.worker_crashes, total.leases_expired, total.stale_writes_refused, total.messages_lost,
      total.messages_duplicated, total.stalls, total.jobs_resumed, total.sweeps_deleted, total.packs,
      total.packs_halved, total.told_to_finish, total.finished_early);
  // A simulation in which nothing happens proves nothing.
  EXPECT_GT(total.crashes_inside_commits, seeds / 4);
  EXPECT_GT(total.failed_commits, seeds / 4);
  EXPECT_GT(total.leases_expired, seeds / 4);
  EXPECT_GT(total.stale_writes_refused, seeds / 4);
  EXPECT_GT(total.stalls, seeds / 4);
  EXPECT_GT(total.jobs_resumed, seeds / 40);
  EXPECT_GT(total.sweeps_deleted, seeds / 4);
  EXPECT_GT(total.packs, seeds);
  EXPECT_GT(total.packs_halved, seeds / 40);
  EXPECT_GT(total.told_to_finish, seeds / 4);
  EXPECT_GT(total.finished_early, seeds / 4);
}

INSTANTIATE_TEST_SUITE_P(Quarters, SimulationSlices, ::testing::Range(0, 4));

// Seeds until the broken program is caught, or -1.
int SeedsUntilCaught(Mutation mutation, bool forget_fsync, const std::string& invariant) {
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    const SimulatorResult result = Simulate({.seed = seed, .mutation = mutation, .forget_fsync = forget_fsync});
    for (const std::string& violation : result.violations) {
      if (violation.starts_with(invariant)) return static_cast<int>(seed);
    }
    if (!result.violations.empty() && invariant.empty()) return static_cast<int>(seed);
  }
  return -1;
}

TEST_F(SimulationTest, ASchedulerThatSkipsTheTokenCheckIsCaught) {
  EXPECT_GT(SeedsUntilCaught(Mutation::kSkipTokenCheck, false, "I4"), 0);
}

TEST_F(SimulationTest, ASchedulerThatForgetsTheEpochIsCaught) {
  EXPECT_GT(SeedsUntilCaught(Mutation::kForgetEpoch, false, ""), 0);
}

TEST_F(SimulationTest, ASchedulerThatLeasesATrialTwiceIsCaught) {
  EXPECT_GT(SeedsUntilCaught(Mutation::kDoubleLease, false, "I1"), 0);
}

TEST_F(SimulationTest, ASchedulerThatLeasesToAnybodyIsCaught) {
  EXPECT_GT(SeedsUntilCaught(Mutation::kLeaseToAnybody, false, "I9"), 0);
}

TEST_F(SimulationTest, ASchedulerThatPacksAnythingIsCaught) {
  EXPECT_GT(SeedsUntilCaught(Mutation::kPackAnything, false, "I10"), 0);
}

TEST_F(SimulationTest, ASchedulerThatForgetsRungsIsCaught) {
  EXPECT_GT(SeedsUntilCaught(Mutation::kForgetRungs, false, ""), 0);
}

TEST_F(SimulationTest, ADiskThatForgetsFsyncIsCaught) { EXPECT_GT(SeedsUntilCaught(Mutation::kNone, true, ""), 0); }

}  // namespace
}  // namespace loupe::simulation
