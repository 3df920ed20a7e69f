#include "coordinator/scheduler/run_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

namespace loupe::coordinator::scheduler {
namespace {

RunQueue Full(int64_t cells, int32_t replicates, uint64_t seed) {
  RunQueue queue(cells, replicates, seed);
  for (int64_t i = 0; i < cells * replicates; ++i) queue.AddFresh(i);
  return queue;
}

std::vector<int64_t> Drain(RunQueue& queue) {
  std::vector<int64_t> order;
  while (const auto index = queue.Pop()) order.push_back(*index);
  return order;
}

TEST(RunQueueTest, EveryTrialComesOnceAndReplicatesCompleteInOrder) {
  RunQueue queue = Full(50, 4, 3);
  const std::vector<int64_t> order = Drain(queue);
  ASSERT_EQ(order.size(), 200u);
  EXPECT_EQ(std::set<int64_t>(order.begin(), order.end()).size(), 200u);
  for (size_t i = 0; i < order.size(); ++i) EXPECT_EQ(order[i] / 50, static_cast<int64_t>(i / 50));
}

TEST(RunQueueTest, CellsComeInARandomOrderThatTheSeedFixesAndThatDiffersBetweenReplicates) {
  RunQueue first = Full(50, 2, 3);
  RunQueue same = Full(50, 2, 3);
  RunQueue other = Full(50, 2, 4);
  const std::vector<int64_t> order = Drain(first);
  EXPECT_EQ(order, Drain(same));
  EXPECT_NE(order, Drain(other));
  EXPECT_FALSE(std::is_sorted(order.begin(), order.begin() + 50));
  std::vector<int64_t> second_block(order.begin() + 50, order.end());
  for (int64_t& index : second_block) index -= 50;
  EXPECT_NE(second_block, std::vector<int64_t>(order.begin(), order.begin() + 50));
}

TEST(RunQueueTest, ATrialThatComesBackRunsBeforeFreshOnesOfItsReplicateButNotBeforeEarlierOnes) {
  RunQueue queue = Full(3, 2, 1);
  const int64_t first = *queue.Pop();
  queue.AddAgain(first);
  EXPECT_EQ(*queue.Pop(), first);
  queue.AddAgain(5);  // of replicate 1, as if it had run already
  queue.Remove(5);
  EXPECT_EQ(queue.size(), 4);
  EXPECT_LT(*queue.Pop(), 3);
}

TEST(RunQueueTest, RemovedAndClearedTrialsDoNotCome) {
  RunQueue queue = Full(4, 1, 1);
  queue.Remove(2);
  EXPECT_EQ(queue.size(), 3);
  for (const int64_t index : Drain(queue)) EXPECT_NE(index, 2);
  RunQueue cleared = Full(4, 1, 1);
  cleared.Clear();
  EXPECT_TRUE(cleared.empty());
  EXPECT_FALSE(cleared.Pop().has_value());
}

}  // namespace
}  // namespace loupe::coordinator::scheduler
