// Webhooks of a coordinator that is really killed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include "common/private_file.h"
#include "tests/integration/process_fixture.h"
#include "tests/testing/http_receiver.h"
#include "tests/testing/small_spec.h"

namespace loupe {
namespace {

class DeliveriesTest : public ProcessTest {};

// Killed while the receiver has not answered: told again, under the same id, before what happens after.
TEST_F(DeliveriesTest, KilledCoordinatorTellsAfterItsRestart) {
  testing::HttpReceiver receiver({0});
  ASSERT_EQ(::mkdir(data_.c_str(), 0700), 0);
  ASSERT_TRUE(WritePrivateFile(data_ + "/webhooks.json", fmt::format(R"([{{"name": "here", "allow_private": true,
      "url": "http://127.0.0.1:{}/", "secret": "sixteen-letters!"}}])",
                                                                     receiver.port()))
                  .ok());
  StartCoordinator();
  const auto cancel = [&](const std::string& id) {
    Create(id, testing::SmallSpec(2, 1));
    v1::SweepVerbRequest request;
    request.set_name("sweeps/" + id);
    v1::Sweep sweep;
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    connection_->Prepare(context);
    ASSERT_TRUE(v1::SweepService::NewStub(connection_->channel())->CancelSweep(&context, request, &sweep).ok());
  };
  cancel("first-sweep");
  ASSERT_EQ(receiver.Wait(1).size(), 1U);
  coordinator_->Kill(SIGKILL);
  coordinator_->StartAgain();
  connection_ = coordinator_->Connect();
  cancel("second-sweep");
  const auto posts = receiver.Wait(3);
  ASSERT_EQ(posts.size(), 3U);
  EXPECT_EQ(posts[1].headers.at("loupe-delivery"), posts[0].headers.at("loupe-delivery"));
  EXPECT_EQ(posts[1].body, posts[0].body);
  EXPECT_THAT(posts[2].body, ::testing::HasSubstr("\"sweeps/second-sweep\""));
}

}  // namespace
}  // namespace loupe
