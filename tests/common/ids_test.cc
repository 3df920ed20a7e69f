#include "common/ids.h"

#include <gtest/gtest.h>

namespace loupe {
namespace {

TEST(TrialIdTest, EachTrialHasOneName) {
  const auto trial = TrialId::FromName("sweeps/first/trials/8");
  ASSERT_TRUE(trial.ok()) << trial.status();
  EXPECT_EQ(trial->name(), "sweeps/first/trials/8");
  for (const char* index : {"", "08", "+8", " 8", "8 ", "-8", "0x8", "8/", "99999999999999999999"}) {
    EXPECT_EQ(TrialId::FromName(std::string("sweeps/first/trials/") + index).status().code(),
              absl::StatusCode::kInvalidArgument)
        << index;
  }
}

}  // namespace
}  // namespace loupe
