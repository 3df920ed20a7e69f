#include "common/error_details.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace loupe {
namespace {

using ::testing::ElementsAreArray;
using ::testing::IsEmpty;
using namespace std::string_literals;

TEST(ErrorDetailsTest, ViolationsComeBackWhateverBytesTheyQuote) {
  const std::vector<FieldViolation> violations = {
      {"spec.factors[0].levels[0]", "'\0[0.5, 1]' is no number"s}, {"", ""}, {"3:a", "7:\n\xff\0\0"s}};
  const absl::Status status = WithFieldViolations(absl::InvalidArgumentError("wrong"), violations);
  EXPECT_THAT(FieldViolationsOf(status), ElementsAreArray(violations));
  EXPECT_THAT(FieldViolationsOf(absl::InvalidArgumentError("wrong")), IsEmpty());
  EXPECT_TRUE(WithFieldViolations(absl::OkStatus(), violations).ok());
}

}  // namespace
}  // namespace loupe
