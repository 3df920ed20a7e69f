#include "analysis/stats/csv_table.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "analysis/stats/anova.h"
#include "analysis/stats/cell_table.h"
#include "analysis/stats/decimal_column.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/analysis/stats/reference_files.h"

namespace loupe::analysis::stats {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const CsvOptions kOptions{.response = "y", .factors = {"a"}, .block = "", .status_column = ""};

std::string ErrorOf(const std::string& csv, const CsvOptions& options = kOptions) {
  const auto table = ReadCsvTable(csv, options);
  return table.ok() ? "no error" : std::string(table.status().message());
}

TEST(CsvTableTest, ErrorsNameLineAndColumn) {
  EXPECT_THAT(ErrorOf("a,y\nx,1\nz,fast\n"),
              AllOf(HasSubstr("line 3, column 'y': 'fast'"), HasSubstr("expected a decimal")));
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
  const auto table =
      ReadCsvTable("\xEF\xBB\xBF# made by hand\r\na;y\r\n\"x; \"\"1\"\"\";1.5\r\n\"two\nlines\";2\r\n\r\n", kOptions);
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

CsvOptions OptionsOf(std::vector<std::string> factors) {
  return {.response = "y", .factors = std::move(factors), .block = "", .status_column = ""};
}

TEST(CsvTableTest, LevelsThatBeginWithHashAreRows) {
  const auto table =
      ReadCsvTable("# two colours\ncolour,lr,y\n#ff0000,a,1\n#00ff00,b,2\nblack,a,3\n", OptionsOf({"colour", "lr"}));
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_THAT(table->factors[0].levels, ElementsAre("#ff0000", "#00ff00", "black"));
  EXPECT_EQ(table->rows(), 3u);
  EXPECT_THAT(table->warnings, ElementsAre());
}

TEST(CsvTableTest, HeaderMayBeWrittenAsComment) {
  for (const std::string header : {"# made by hand, y\n#a,y\n", "#\n# a,y\n"}) {
    const auto table = ReadCsvTable(header + "x,1\n#z,2\n", kOptions);
    ASSERT_TRUE(table.ok()) << table.status();
    EXPECT_THAT(table->factors[0].levels, ElementsAre("x", "#z"));
  }
  const auto named = ReadCsvTable("#a,y\nx,1\n", OptionsOf({"#a"}));
  EXPECT_TRUE(named.ok()) << named.status();
}

TEST(CsvTableTest, CommentsAmongRowsAreReported) {
  const auto table = ReadCsvTable("a,y\nx,1\n# second day\nz,2\n", kOptions);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->rows(), 2u);
  EXPECT_THAT(table->warnings, ElementsAre(AllOf(HasSubstr("1 line that begins with '#'"), HasSubstr("line 3"))));
  EXPECT_THAT(ErrorOf("a,b,y\n#x,1\n"), HasSubstr("line 2: 2 fields where the header has 3"));
}

TEST(CsvTableTest, SpellingsOfOneNumberAreOneLevel) {
  const auto table = ReadCsvTable("a,y\n0.001,1\n1e-4,2\n0.0001,3\n1E-04,4\n1.0e-03,5\n+1e-3,6\n.001,7\n", kOptions);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_THAT(table->factors[0].levels, ElementsAre("1e-4", "0.001"));
  EXPECT_THAT(table->factors[0].codes, ElementsAre(1, 0, 0, 0, 1, 1, 1));
  EXPECT_THAT(table->warnings,
              ::testing::UnorderedElementsAre(HasSubstr("'1e-4', '0.0001', '1E-04' are one number"),
                                              HasSubstr("'0.001', '1.0e-03', '+1e-3', '.001' are one number")));
  const auto mixed = ReadCsvTable("a,y\n1,1\nauto,2\n1.0,3\n-0,4\n0,5\n", kOptions);
  EXPECT_THAT(mixed->factors[0].levels, ElementsAre("1", "auto", "-0"));
  // More digits than a double's: other numbers.
  const auto fine = ReadCsvTable("a,y\n1.00000000000000000001,1\n1,2\n", kOptions);
  EXPECT_EQ(fine->factors[0].levels.size(), 2u);
  EXPECT_THAT(fine->warnings, ElementsAre(HasSubstr("rounding error")));
}

TEST(CsvTableTest, LevelsThatLookAlikeAreReported) {
  const auto table = ReadCsvTable("a,y\nReLU,1\nrelu,2\nsi lu,3\n\xC2\xA0silu\xC2\xA0,4\n", kOptions);
  ASSERT_TRUE(table.ok());
  EXPECT_THAT(table->factors[0].levels, ElementsAre("ReLU", "relu", "si lu", "silu"));
  EXPECT_THAT(table->warnings, ElementsAre(HasSubstr("'ReLU', 'relu'"), HasSubstr("'si lu', 'silu'")));
}

TEST(CsvTableTest, MarkersOfMissingValuesAreNoLevels) {
  for (const std::string marker :
       {".", "-", "<NA>", "#N/A", "NA", "n/a", "NaN", "NULL", "", "\\N", "?", "—", "#DIV/0!", "1.#IND", "(null)"}) {
    const auto table = ReadCsvTable(fmt::format("a,y\nx,1\n{0},2\nz,{0}\n", marker), kOptions);
    ASSERT_TRUE(table.ok()) << marker << table.status();
    EXPECT_THAT(table->factors[0].levels, ElementsAre("x", "z")) << marker;
    EXPECT_EQ(table->factors[0].codes[1], kMissingLevel) << marker;
    EXPECT_TRUE(std::isnan(table->Response(2))) << marker;
  }
  const auto coded = ReadCsvTable("a,y\n+,1\n-,2\n", kOptions);  // a two-level design
  EXPECT_THAT(coded->factors[0].levels, ElementsAre("+", "-"));
  const auto none = ReadCsvTable("a,y\nNone,1\nx,None\n", kOptions);
  ASSERT_TRUE(none.ok());
  EXPECT_THAT(none->factors[0].levels, ElementsAre("None", "x"));
  EXPECT_THAT(none->warnings, ElementsAre(HasSubstr("'None' is read as a level")));
}

std::string Utf16(std::string_view ascii, bool little, bool mark) {
  std::string bytes = !mark ? "" : little ? "\xFF\xFE" : "\xFE\xFF";
  for (const char c : ascii) bytes += little ? std::string{c, '\0'} : std::string{'\0', c};
  return bytes;
}

TEST(CsvTableTest, EncodingsAreReadOrNamed) {
  const std::string text = "a\ty\nrelu\t1\nsilu\t2\n";
  for (const bool little : {true, false}) {
    for (const bool mark : {true, false}) {
      const auto table = ReadCsvTable(Utf16(text, little, mark), kOptions);
      ASSERT_TRUE(table.ok()) << table.status();
      EXPECT_THAT(table->factors[0].levels, ElementsAre("relu", "silu"));
    }
  }
  const std::string latin1 = "a,y\ncaf\xe9,1\nth\xe9,2\n";
  EXPECT_THAT(ErrorOf(latin1),
              AllOf(HasSubstr("line 2: the byte \\xe9 is not UTF-8"), HasSubstr("--encoding windows-1252")));
  CsvOptions named = kOptions;
  named.encoding = "windows-1252";
  EXPECT_THAT(ReadCsvTable(latin1, named)->factors[0].levels, ElementsAre("café", "thé"));
  named.encoding = "klingon";
  EXPECT_THAT(ErrorOf(latin1, named), HasSubstr("there is no encoding 'klingon'"));
  named.encoding = "utf-8";
  EXPECT_THAT(ErrorOf(latin1, named), HasSubstr("line 2: not utf-8 text"));
  EXPECT_THAT(ErrorOf(std::string("a,y\nx,1\n\0,2\n", 12)), HasSubstr("line 3: a zero byte"));
  EXPECT_THAT(ErrorOf("PK\x03\x04..."), HasSubstr("spreadsheet"));
  EXPECT_THAT(ErrorOf("\x1f\x8b..."), HasSubstr("gzip"));
}

TEST(CsvTableTest, LinesMayEndInCarriageReturns) {
  const auto table = ReadCsvTable("a,y\rx,1\r\r\"z\rw\",2\r", kOptions);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_THAT(table->factors[0].levels, ElementsAre("x", "z\rw"));
  EXPECT_THAT(ErrorOf("a,y\rx,1\r\r\"z\rw\",2\rv,fast\r"), HasSubstr("line 6, column 'y'"));
}

TEST(CsvTableTest, SeparatorFollowsItsLineOrTheHeader) {
  const auto named = ReadCsvTable("\xEF\xBB\xBFsep=;\r\na,b,c,d;y\r\nx;1\r\n", OptionsOf({"a,b,c,d"}));
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_THAT(named->factors[0].levels, ElementsAre("x"));
  EXPECT_THAT(ErrorOf("sep=;\na;y\nx;fast\n"), HasSubstr("line 3"));
  for (const std::string text : {"a;b;c,y\nx,1\n", "a;b;c\ty\nx\t1\n", "a;b;c|y\nx|1\n"}) {
    const auto table = ReadCsvTable(text, OptionsOf({"a;b;c"}));
    EXPECT_TRUE(table.ok()) << table.status();
  }
  EXPECT_THAT(ErrorOf("a;y\nx;1,5\n"), HasSubstr("write a decimal point: 1.5"));
}

TEST(CsvTableTest, PieceOfNameWithCommaIsExplained) {
  EXPECT_THAT(ErrorOf("\"lr, x10\",y\n1,1\n", OptionsOf({"lr"})), HasSubstr("goes in back-quotes: `lr, x10`"));
}

TEST(CsvTableTest, RepeatedLinesAreReported) {
  const auto table = ReadCsvTable("a,y\nx,1\nz,2\nx,1\n", kOptions);
  ASSERT_TRUE(table.ok());
  EXPECT_THAT(table->warnings, ElementsAre(AllOf(HasSubstr("1 line repeats"), HasSubstr("line 4 repeats line 2"))));
}

// Deviations are exact in decimal, with 13 leading digits and with more digits than 64-bit integers hold.
TEST(CsvTableTest, DeviationsAreExactInDecimal) {
  for (const std::string lead : {"1000000000000", "100000000000000000000000000"}) {
    const auto table = ReadCsvTable(fmt::format("a,y\nx,{0}.4\nx,{0}.3\nx,{0}.1\n", lead), kOptions);
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

// reference/csv_readers.R: encodings, line ends, separators, quotes, '#', missing values, spellings, a response
// ×1e-160.
TEST(CsvTableTest, TablesAreReadAsRReadsThem) {
  for (const nlohmann::json& expected : ReadReferenceJson("csv_readers.json")) {
    SCOPED_TRACE(expected["file"].get<std::string>());
    CsvOptions options;
    options.response = "y";
    options.factors = expected["factors"].get<std::vector<std::string>>();
    options.encoding = expected["encoding"];
    const auto table = ReadCsvTable(ReadReference(expected["file"]), options);
    ASSERT_TRUE(table.ok()) << table.status();
    EXPECT_EQ(table->rows(), expected["rows"].get<size_t>());
    const auto anova = FitAnova(*table, {});
    ASSERT_TRUE(anova.ok()) << anova.status();
    EXPECT_EQ(anova->sample.used, expected["used"].get<int64_t>());
    EXPECT_LT(RelativeError(anova->terms.back().f, expected["last_f"]), 1e-10);
    EXPECT_LT(RelativeError(anova->terms.back().p, expected["last_p"]), 1e-10);
    std::vector<size_t> factors(table->factors.size());
    std::iota(factors.begin(), factors.end(), size_t{0});
    for (const Factor& factor : table->factors) {
      std::map<std::string, std::pair<int64_t, double>> found;
      SampleAccount account;
      for (size_t row = 0; row < table->rows(); ++row) {
        if (!RowIsUsed(*table, row, factors, false, account)) continue;
        auto& [n, sum] = found[factor.levels[static_cast<size_t>(factor.codes[row])]];
        ++n;
        sum += table->Response(row);
      }
      const nlohmann::json& levels = expected["levels"][factor.name];
      EXPECT_EQ(found.size(), levels.size());
      const bool numbers =
          std::find(expected["numbers"].begin(), expected["numbers"].end(), factor.name) != expected["numbers"].end();
      for (const nlohmann::json& level : levels) {
        // R writes a number in its own way.
        const auto at = std::find_if(found.begin(), found.end(), [&](const auto& entry) {
          return numbers ? DecimalValue(entry.first) == DecimalValue(level["level"].get<std::string>())
                         : level["level"] == entry.first;
        });
        ASSERT_NE(at, found.end()) << level;
        EXPECT_EQ(at->second.first, level["n"].get<int64_t>()) << level;
        EXPECT_LT(RelativeError(at->second.second / static_cast<double>(at->second.first), level["mean"]), 1e-13)
            << level;
      }
    }
  }
}

}  // namespace
}  // namespace loupe::analysis::stats
