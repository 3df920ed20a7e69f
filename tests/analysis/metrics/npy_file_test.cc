#include "analysis/metrics/npy_file.h"

#include <fstream>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace loupe::analysis::metrics {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Error(std::string_view bytes) {
  const auto parsed = ParseNpy(bytes);
  return parsed.ok() ? "" : std::string(parsed.status().message());
}

std::string ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

TEST(NpyFileTest, WritesTheBytesThatNumpyWrites) {
  // reference/two_by_three.npy: numpy.save of [[1, 2, 3], [4, 5, -0.5]] as float32, by make_npy.py.
  const FeatureMatrix features{2, 3, {1, 2, 3, 4, 5, -0.5f}};
  EXPECT_EQ(SerializeNpy(features), ReadBytes("tests/analysis/metrics/reference/two_by_three.npy"));
}

TEST(NpyFileTest, ReadsWhatNumpyWritesInDoublePrecisionAndVersionTwo) {
  const auto wide = ReadNpyFile("tests/analysis/metrics/reference/wide_version_2.npy");
  ASSERT_TRUE(wide.ok()) << wide.status();
  EXPECT_EQ(wide->rows, 1);  // one-dimensional: one row
  EXPECT_THAT(wide->values, ElementsAre(0.5f, -2.0f, 1e10f));
}

TEST(NpyFileTest, RoundTripKeepsEveryBit) {
  const FeatureMatrix features{1, 4, {0.1f, -0.0f, 1e-42f, 3.4e38f}};
  const auto back = ParseNpy(SerializeNpy(features));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->values, features.values);
  EXPECT_EQ(back->cols, 4);
  EXPECT_TRUE(ParseNpy(SerializeNpy({0, 7, {}})).ok());
}

TEST(NpyFileTest, EveryTruncationIsAnErrorAndNotACrash) {
  const std::string whole = SerializeNpy({2, 3, {1, 2, 3, 4, 5, 6}});
  for (size_t size = 0; size < whole.size(); ++size) EXPECT_FALSE(ParseNpy(whole.substr(0, size)).ok()) << size;
}

TEST(NpyFileTest, BadArraysGetASentence) {
  const std::string good = SerializeNpy({2, 3, {1, 2, 3, 4, 5, 6}});
  const auto with = [&](std::string_view from, std::string_view to) {
    std::string changed = good;
    changed.replace(changed.find(from), from.size(), to);
    return changed;
  };
  EXPECT_THAT(Error("not numpy at all"), HasSubstr("magic"));
  EXPECT_THAT(Error(with("<f4", "<i4")), HasSubstr("its type is '<i4'"));
  EXPECT_THAT(Error(with("False", "True ")), HasSubstr("Fortran order"));
  EXPECT_THAT(Error(with("(2, 3)", "(2, 4)")), HasSubstr("shape 2 × 4 needs 32 bytes but 24 follow"));
  EXPECT_THAT(Error(with("(2, 3)", "(x, 3)")), HasSubstr("shape is not a list"));
  EXPECT_THAT(Error(with("(2, 3), }", "(1, 2,3)}")), HasSubstr("3 dimensions"));
  EXPECT_THAT(Error(with("descr", "dexcr")), HasSubstr("lacks descr"));
  std::string huge = good;
  const std::string shape = "(9223372036854775807, 9223372036854775807)";
  huge.replace(huge.find("(2, 3)"), shape.size(), shape);  // overwrites the padding
  EXPECT_THAT(Error(huge), HasSubstr("absurdly large"));
}

}  // namespace
}  // namespace loupe::analysis::metrics
