#include <cmath>
#include <limits>

#include "analysis/report/anova_format.h"
#include "analysis/report/number_format.h"
#include "analysis/report/picture_source.h"
#include "analysis/report/svg_figure.h"
#include "analysis/report/text_table.h"
#include "common/text.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace loupe::analysis::report {
namespace {

using ::testing::DoubleEq;
using ::testing::ElementsAre;
using ::testing::Pointwise;

TEST(NumberFormatTest, KeepsSignificantDigitsAndStaysPlainWhileShort) {
  EXPECT_EQ(FormatNumber(0.82134), "0.8213");
  EXPECT_EQ(FormatNumber(12.345), "12.35");
  EXPECT_EQ(FormatNumber(1203.4), "1203");
  EXPECT_EQ(FormatNumber(-0.5), "−0.5000");
  EXPECT_EQ(FormatNumber(1.5e-7), "1.50e-07");
  EXPECT_EQ(FormatNumber(3e9), "3.00e+09");
  EXPECT_EQ(FormatNumber(0), "0");
  EXPECT_EQ(FormatNumber(std::numeric_limits<double>::quiet_NaN()), "–");
}

TEST(NumberFormatTest, AmountsAndSizesHaveThreeDigits) {
  EXPECT_EQ(FormatAmount(52224), "52224");
  EXPECT_EQ(FormatAmount(999999), "999999");
  EXPECT_EQ(FormatAmount(1203456), "1.20 M");
  EXPECT_EQ(FormatAmount(859520964), "860 M");
  EXPECT_EQ(FormatAmount(1.3e9), "1.30 G");
  EXPECT_EQ(FormatSize(0), "0 B");
  EXPECT_EQ(FormatSize(999), "999 B");
  EXPECT_EQ(FormatSize(1000), "1.00 kB");
  EXPECT_EQ(FormatSize(168384), "168 kB");
  EXPECT_EQ(FormatSize(999700), "1.00 MB");
  EXPECT_EQ(FormatSize(24012345), "24.0 MB");
  EXPECT_EQ(FormatSize(1.72e9), "1.72 GB");
  EXPECT_EQ(FormatSize(std::nan("")), "–");
}

TEST(NumberFormatTest, SmallProbabilitiesAreBounded) {
  EXPECT_EQ(FormatP(0.04999), "0.0500");
  EXPECT_EQ(FormatP(1e-12), "<0.0001");
  EXPECT_EQ(SignificanceStars(0.0499), "*");
  EXPECT_EQ(SignificanceStars(0.05), "");
  EXPECT_EQ(SignificanceStars(std::numeric_limits<double>::quiet_NaN()), "");
}

TEST(NumberFormatTest, WidthCountsLettersAndNotBytes) {
  EXPECT_EQ(DisplayWidth("η² – 1"), 6u);
  EXPECT_EQ(PadLeft("η", 3), "  η");
}

TEST(TicksTest, AreRoundNumbersInsideTheRange) {
  const Ticks ticks = RoundTicks(0.737, 0.851, 5);
  EXPECT_THAT(ticks.values, Pointwise(DoubleEq(), {0.75, 0.80, 0.85}));
  EXPECT_EQ(ticks.Label(ticks.values[1]), "0.80");
  EXPECT_EQ(RoundTicks(-1, 1, 4).Label(-1e-17), "0.0");
  EXPECT_EQ(RoundTicks(5, 5, 4).values.size(), 1u);
}

TEST(CsvTest, QuotesOnlyWhereItMust) {
  EXPECT_EQ(CsvField("plain"), "plain");
  EXPECT_EQ(CsvField("a,\"b\""), "\"a,\"\"b\"\"\"");
  EXPECT_EQ(CsvNumber(0.1), "0.1");
}

TEST(Base64Test, AgreesWithTheStandardsVectors) {
  // RFC 4648 §10.
  EXPECT_EQ(EncodeBase64(""), "");
  EXPECT_EQ(EncodeBase64("f"), "Zg==");
  EXPECT_EQ(EncodeBase64("fo"), "Zm8=");
  EXPECT_EQ(EncodeBase64("foo"), "Zm9v");
  EXPECT_EQ(EncodeBase64("foobar"), "Zm9vYmFy");
}

TEST(WrapTextTest, BreaksAtBlanksAndIndentsWhatFollows) {
  EXPECT_EQ(WrapText("one two three", 9, "- ", "  "), "- one two\n  three\n");
}

TEST(SequentialColourTest, LightnessRisesSoThatItPrintsInGrey) {
  int last = -1;
  for (int i = 0; i <= 20; ++i) {
    const std::string fill = SequentialColour(i / 20.0).fill;
    const int r = std::stoi(fill.substr(1, 2), nullptr, 16), g = std::stoi(fill.substr(3, 2), nullptr, 16),
              b = std::stoi(fill.substr(5, 2), nullptr, 16);
    const int luminance = 299 * r + 587 * g + 114 * b;
    EXPECT_GT(luminance, last);
    last = luminance;
  }
}

}  // namespace
}  // namespace loupe::analysis::report
