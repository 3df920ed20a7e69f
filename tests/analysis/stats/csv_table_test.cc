#include "analysis/stats/csv_table.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace loupe::analysis {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

const CsvOptions kOptions{.response = "y", .factors = {"a"}, .block = "", .status_column = ""};

std::string ErrorOf(const std::string& csv, const CsvOptions& options = kOptions) {
  const auto table = ReadCsvTable(csv, options);
  return table.ok() ? "no error" : std::string(table.status().message());
}

TEST(CsvTableTest, ErrorsNameLineAndColumn) {
  EXPECT_THAT(ErrorOf("a,y\nx,1\nz,fast\n"), AllOf(HasSubstr("line 3, column 'y': 'fast'"), HasSubstr("expected a decimal")));
  EXPECT_THAT(ErrorOf("a,y\nx,inf\n"), HasSubstr("line 2, column 'y'"));
  EXPECT_THAT(ErrorOf("a,y\nx,1e999\n"), HasSubstr("not a finite number"));
  EXPECT_THAT(ErrorOf("a,y\nx,0x10\n"), HasSubstr("not a finite number"));
  EXPECT_THAT(ErrorOf("a,y\nx,1,2\n"), HasSubstr("line 2: 3 fields where the header has 2"));
  EXPECT_THAT(ErrorOf("a,y\n\"x,1\n"), HasSubstr("line 2: a quoted field is never closed"));
  EXPECT_THAT(ErrorOf("a,a,y\nx,x,1\n"), HasSubstr("names column 'a' twice"));
  EXPECT_THAT(ErrorOf("A,y\nx,1\n"), HasSubstr("no column 'a' for a factor"));
  EXPECT_THAT(ErrorOf("a,Y\nx,1\n"), HasSubstr("no column 'y' for the response"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("empty"));
  EXPECT_THAT(ErrorOf("a,y\n"), HasSubstr("no data rows"));
  EXPECT_THAT(ErrorOf("a,s,y\nx,wat,1\n", {.response = "y", .factors = {"a"}, .block = "", .status_column = "s"}),
              HasSubstr("line 2, column 's': unknown status 'wat'"));
  EXPECT_THAT(ErrorOf("a,y\nx,1\n", {.response = "y", .factors = {"a", "a"}, .block = "", .status_column = ""}),
              HasSubstr("given twice"));
}

TEST(CsvTableTest, SeparatorsInQuotesDoNotDecideWhichOneItIs) {
  const auto table = ReadCsvTable("\"a;b;\"\";c\",y\n\"x;z\",1\n",
                                  {.response = "y", .factors = {"a;b;\";c"}, .block = "", .status_column = ""});
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_THAT(table->factors[0].levels, ElementsAre("x;z"));
}

TEST(CsvTableTest, QuotesSeparatorsAndLineEndsAreRead) {
  const auto table = ReadCsvTable("\xEF\xBB\xBF# made by hand\r\na;y\r\n\"x; \"\"1\"\"\";1.5\r\n\"two\nlines\";2\r\n\r\n", kOptions);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_THAT(table->factors[0].levels, ElementsAre("x; \"1\"", "two\nlines"));
  EXPECT_DOUBLE_EQ(table->Response(0), 1.5);
  EXPECT_DOUBLE_EQ(table->Response(1), 2);
}

TEST(CsvTableTest, NumericLevelsAscendAndOthersKeepTheirOrder) {
  const auto table = ReadCsvTable("a,b,y\n4,silu,1\n0.5,relu,2\n10,silu,3\n",
                                  {.response = "y", .factors = {"a", "b"}, .block = "", .status_column = ""});
  ASSERT_TRUE(table.ok());
  EXPECT_THAT(table->factors[0].levels, ElementsAre("0.5", "4", "10"));
  EXPECT_THAT(table->factors[0].codes, ElementsAre(1, 0, 2));
  EXPECT_THAT(table->factors[1].levels, ElementsAre("silu", "relu"));
}

TEST(CsvTableTest, MissingValuesAreKeptAsMissing) {
  const auto table = ReadCsvTable("a,y\nx,\nNA,2\nz,nan\n", kOptions);
  ASSERT_TRUE(table.ok());
  EXPECT_TRUE(std::isnan(table->Response(0)));
  EXPECT_EQ(table->factors[0].codes[1], kMissingLevel);
  EXPECT_TRUE(std::isnan(table->Response(2)));
}

TEST(CsvTableTest, RepeatedLinesAreReported) {
  const auto table = ReadCsvTable("a,y\nx,1\nz,2\nx,1\n", kOptions);
  ASSERT_TRUE(table.ok());
  EXPECT_THAT(table->warnings, ElementsAre(AllOf(HasSubstr("1 line repeats"), HasSubstr("line 4 repeats line 2"))));
}

// Deviations are exact in decimal, with 13 leading digits and with more digits than 64-bit integers hold.
TEST(CsvTableTest, DeviationsAreExactInDecimal) {
  for (const std::string lead : {"1000000000000", "100000000000000000000000000"}) {
    const auto table = ReadCsvTable("a,y\nx," + lead + ".4\nx," + lead + ".3\nx," + lead + ".1\n", kOptions);
    ASSERT_TRUE(table.ok()) << table.status();
    EXPECT_NEAR(table->response_deviation[0] - table->response_deviation[1], 0.1, 1e-16);
    EXPECT_NEAR(table->response_deviation[1] - table->response_deviation[2], 0.2, 1e-16);
  }
  const auto tiny = ReadCsvTable("a,y\nx,1e-30\nx,3e-30\nx,-2.5E-30\n", kOptions);
  EXPECT_NEAR(tiny->Response(1), 3e-30, 1e-45);
  // More digits than a double's, at an exponent that no decimal type holds: 0 as far as a double can tell.
  const auto vanishing = ReadCsvTable("a,y\nx,3201456789012340123456789012345678e-400690123456700\nx,2\n", kOptions);
  ASSERT_TRUE(vanishing.ok()) << vanishing.status();
  EXPECT_EQ(vanishing->Response(0), 0.0);
  const auto mixed = ReadCsvTable("a,y\nx,1e300\nx,-1e-300\nx,+7.\nx,.5\n", kOptions);
  EXPECT_DOUBLE_EQ(mixed->Response(0), 1e300);
}

}  // namespace
}  // namespace loupe::analysis
