#include "worker/tasks/epoch_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/seed.h"

namespace loupe::worker::tasks {
namespace {

TEST(EpochOrderTest, SeesEveryItemOnceBeforeAnyTwice) {
  EpochOrder order(5, runtime::RandomStream(3));
  for (int pass = 0; pass < 3; ++pass) {
    EXPECT_THAT(order.Next(5), ::testing::UnorderedElementsAre(0, 1, 2, 3, 4));
  }
}

TEST(EpochOrderTest, ABatchMayRunOverTheEndOfAPass) {
  EpochOrder whole(3, runtime::RandomStream(3)), parts(3, runtime::RandomStream(3));
  std::vector<int64_t> joined = parts.Next(2);
  for (const int64_t index : parts.Next(7)) joined.push_back(index);
  EXPECT_EQ(whole.Next(9), joined);
}

TEST(EpochOrderTest, GoesOnFromASavedStateInTheMiddleOfAPass) {
  EpochOrder order(4, runtime::RandomStream(9));
  order.Next(3);
  EpochOrder resumed(4, runtime::RandomStream(0));
  resumed.Restore(order.Save());
  EXPECT_EQ(order.Next(10), resumed.Next(10));
}

TEST(RandomStreamTest, IsTorchsGeneratorUnderTheSameSeed) {
  runtime::RandomStream stream(1234);
  torch::manual_seed(1234);
  EXPECT_TRUE(torch::equal(stream.Normal({2, 17}), torch::randn({2, 17})));
  EXPECT_TRUE(torch::equal(stream.Integers(1000, {5}), torch::randint(0, 1000, {5})));
}

TEST(RandomStreamTest, StreamsOfOneReplicateDifferAndDoNotDependOnAnythingElse) {
  const auto stream = [](int64_t replicate, const char* name) {
    return runtime::RandomStream(DeriveSeed(7, replicate, name));
  };
  runtime::RandomStream noise = stream(1, "noise"), again = stream(1, "noise"), timesteps = stream(1, "timesteps"),
                        other = stream(2, "noise");
  const auto first = noise.Normal({8});
  EXPECT_TRUE(torch::equal(first, again.Normal({8})));
  EXPECT_FALSE(torch::equal(first, timesteps.Normal({8})));
  EXPECT_FALSE(torch::equal(first, other.Normal({8})));
}

}  // namespace
}  // namespace loupe::worker::tasks
