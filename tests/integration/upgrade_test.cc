// A sweep whose second half runs under a program with another default.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "cli/create_sweep.h"
#include "clients/rpc/rpc_status.h"
#include "common/ids.h"
#include "common/settings/settings.h"
#include "coordinator/plan/plan.h"
#include "coordinator/plan_proto/spec_proto.h"
#include "tests/testing/changed_default.h"
#include "tests/testing/mini_sweep.h"

namespace loupe {
namespace {

using SettingMap = std::map<std::string, std::string>;

// Runs the sweep's next trial with score 0 and returns the settings that it was given.
SettingMap RunOne(testing::MiniSweep& mini, const std::string& session) {
  v1::SynchronizeRequest request;
  request.set_worker("workers/by-hand");
  request.set_session_id(session);
  request.set_slots(1);
  const auto synchronize = [&] {
    grpc::ClientContext context;
    mini.connection()->Prepare(context);
    v1::SynchronizeResponse response;
    const absl::Status status = clients::rpc::FromGrpcStatus(mini.workers().Synchronize(&context, request, &response));
    EXPECT_TRUE(status.ok()) << status;
    return response;
  };
  const v1::SynchronizeResponse begun = synchronize();
  if (begun.attempts_size() != 1) return {};
  const v1::TrialAssignment& assignment = begun.attempts(0).assignment();
  // It has said nothing of itself, so it gets what the first version knows.
  EXPECT_EQ(assignment.settings_version(), 1);
  v1::AttemptReport* report = request.add_attempts();
  *report->mutable_lease() = begun.attempts(0).lease();
  (*report->mutable_success()->mutable_scores())["clip_i"] = 0;
  request.set_draining(true);
  synchronize();
  return {assignment.settings().begin(), assignment.settings().end()};
}

TEST(UpgradeTest, AHalfRunSweepKeepsItsDefaults) {
  testing::MiniSweep mini;
  v1::SweepSpec spec = testing::SmallSpec(1, 2);
  spec.mutable_factors()->RemoveLast();
  spec.mutable_factors(0)->mutable_levels()->DeleteSubrange(1, 2);
  mini.Create("half", spec);
  const SettingMap before = RunOne(mini, "11111111111111111111111111111111");
  ASSERT_EQ(before.at("budget.batch"), "4");
  const testing::ChangedDefault upgrade("budget.batch", "64");
  mini.RestartCoordinator();
  EXPECT_EQ(RunOne(mini, "22222222222222222222222222222222"), before);
  EXPECT_EQ(mini.Get("half").state(), v1::Sweep::COMPLETED);
}

// What a file leaves out is not what tells sweeps apart: the sweep that is there goes on as it was begun.
TEST(UpgradeTest, TheSameFileIsTheSameSweep) {
  testing::MiniSweep mini;
  const auto plan_of = [](const v1::SweepSpec& proto) {
    return *coordinator::plan::Plan::Create(*coordinator::plan_proto::SpecFromProto(proto));
  };
  const SweepId id = *SweepId::FromId("same-file");
  v1::SweepSpec spec = testing::SmallSpec(1, 1);
  const absl::StatusOr<v1::Sweep> first = cli::CreateSweep(*mini.connection(), id, plan_of(spec), {});
  ASSERT_TRUE(first.ok()) << first.status();
  const testing::ChangedDefault upgrade("budget.batch", "64");
  const absl::StatusOr<v1::Sweep> again = cli::CreateSweep(*mini.connection(), id, plan_of(spec), {.exist_ok = true});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->uid(), first->uid());
  EXPECT_EQ(again->spec().defaults().values().at("budget.batch"), "4");
  // Under another name it is a new sweep, and another file is another sweep.
  const absl::StatusOr<v1::Sweep> other =
      cli::CreateSweep(*mini.connection(), *SweepId::FromId("other-name"), plan_of(spec), {});
  EXPECT_EQ(other->spec().defaults().values().at("budget.batch"), "64");
  (*spec.mutable_settings())["budget.batch"] = "8";
  EXPECT_THAT(cli::CreateSweep(*mini.connection(), id, plan_of(spec), {.exist_ok = true}).status().message(),
              ::testing::HasSubstr("from another file"));
}

}  // namespace
}  // namespace loupe
