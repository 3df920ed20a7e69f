#include "coordinator/api/convert.h"

#include "coordinator/api/rpc_status.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"

namespace loupe::coordinator::api {
namespace {

v1::SynchronizeRequest ReportOf(const std::string& message) {
  v1::SynchronizeRequest request;
  request.set_worker("workers/w1");
  request.set_session_id("s");
  request.set_slots(1);
  auto* report = request.add_attempts();
  report->mutable_lease()->set_trial("sweeps/quick/trials/0");
  report->mutable_failure()->set_message(message);
  return request;
}

TEST(ConvertTest, LongFailureIsCutBetweenCharacters) {
  const auto request = FromProto(ReportOf(std::string(4095, 'a') + "é"));
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(std::get<scheduler::Failure>(request->attempts[0].outcome).message, std::string(4093, 'a') + "…");
}

// Rows of older versions end within a character: the message that holds them must still be one that clients can read.
TEST(ConvertTest, TextStoredBadlyIsListed) {
  scheduler::SweepRecord sweep;
  sweep.id = "quick";
  store::TrialRow trial;
  trial.last_failure = scheduler::Failure{scheduler::FailureClass::kUserError, std::string(4095, 'a') + "\xc3"};
  v1::Trial read;
  ASSERT_TRUE(read.ParseFromString(ToProto(sweep, trial).SerializeAsString()));
  EXPECT_EQ(read.last_failure().message(), std::string(4095, 'a') + "\\xc3");
}

TEST(ConvertTest, StatusWithAnyBytesIsRead) {
  google::rpc::Status read;
  ASSERT_TRUE(read.ParseFromString(
      ToRpcStatus(absl::InvalidArgumentError("caf\xe9" + std::string(3000, 'b'))).SerializeAsString()));
  EXPECT_TRUE(read.message().starts_with("caf\\xe9bbb"));
  EXPECT_LE(read.message().size(), 1500u);
}

}  // namespace
}  // namespace loupe::coordinator::api
