#include "cli/size_text.h"

#include <gtest/gtest.h>

namespace loupe::cli {
namespace {

TEST(SizeTextTest, HasThreeDigitsAtMostAndTheUnitThatLeavesThem) {
  EXPECT_EQ(SizeText(0), "0 B");
  EXPECT_EQ(SizeText(999), "999 B");
  EXPECT_EQ(SizeText(1000), "1.0 KiB");
  EXPECT_EQ(SizeText(1536), "1.5 KiB");
  EXPECT_EQ(SizeText(10 << 10), "10 KiB");
  EXPECT_EQ(SizeText(999 << 10), "999 KiB");
  EXPECT_EQ(SizeText((1 << 20) - 1), "1.0 MiB");
  EXPECT_EQ(SizeText(int64_t{5} << 40), "5.0 TiB");
  EXPECT_EQ(SizeText(int64_t{5000} << 40), "5000 TiB") << "there is no larger unit";
}

}  // namespace
}  // namespace loupe::cli
