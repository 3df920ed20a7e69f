// What FitAnova says about data that cannot answer the question, and properties that need no outside reference.
#include "analysis/stats/anova.h"

#include <cmath>

#include "analysis/stats/csv_table.h"
#include "analysis/stats/one_way.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/analysis/stats/reference_files.h"

namespace loupe::analysis::stats {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

DataTable Table(const std::string& csv, const std::vector<std::string>& factors, const std::string& block = "",
                const std::string& status = "") {
  auto table = ReadCsvTable(csv, {.response = "y", .factors = factors, .block = block, .status_column = status});
  if (!table.ok()) throw std::runtime_error(std::string(table.status().message()));
  return *std::move(table);
}

std::string ErrorOf(const DataTable& data, const AnovaOptions& options) {
  const auto table = FitAnova(data, options);
  return table.ok() ? "no error" : std::string(table.status().message());
}

const AnovaTerm& Term(const AnovaTable& table, const std::string& name) {
  for (const AnovaTerm& term : table.terms) {
    if (term.term == name) return term;
  }
  throw std::runtime_error("no term " + name);
}

TEST(AnovaTest, ConstantResponseIsRefusedWithAdvice) {
  EXPECT_THAT(ErrorOf(Table("a,y\nx,1\nz,1\nx,1\n", {"a"}), {}),
              AllOf(HasSubstr("'y' is the same (1)"), HasSubstr("check")));
}

TEST(AnovaTest, OneLevelIsRefusedOrLeftOutOnRequest) {
  const DataTable data = Table("a,b,y\nx,p,1\nx,q,2\nx,p,3\nx,q,5\n", {"a", "b"});
  EXPECT_THAT(ErrorOf(data, {}), AllOf(HasSubstr("'a' has only one level ('x')"), HasSubstr("leave it out")));
  const auto table = FitAnova(data, {.drop_single_level_factors = true});
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->formula, "b");
  EXPECT_THAT(table->warnings, ElementsAre(HasSubstr("Factor a was left out")));
}

TEST(AnovaTest, AFormulaMayNotCostWhatItLikes) {
  const DataTable data =
      Table("a,b,c,d,e,f,g,h,i,y\n1,1,1,1,1,1,1,1,1,1\n", {"a", "b", "c", "d", "e", "f", "g", "h", "i"});
  // Each parenthesis was a call of the parser: some ten thousand of them ended the program.
  EXPECT_THAT(ErrorOf(data, {.formula = std::string(100'000, '(')}), HasSubstr("more than 64 parentheses"));
  EXPECT_THAT(ErrorOf(data, {.formula = std::string(64, '(') + "z" + std::string(64, ')')}), HasSubstr("'z'"));
  EXPECT_THAT(ErrorOf(data, {.formula = "(a+b+c+d+e+f+g+h+i)^9"}), HasSubstr("at most 256"));
  std::string products = "(a+b+c+d+e+f+g+h)^8";
  for (int i = 0; i < 100'000; ++i) products += "*(a+b+c+d+e+f+g+h)^8";
  EXPECT_THAT(ErrorOf(data, {.formula = products}), HasSubstr("too many terms"));
}

TEST(AnovaTest, SaturatedModelWithoutReplicatesIsRefusedWithAdvice) {
  const DataTable data = Table("a,b,y\n1,1,1\n1,2,2\n2,1,4\n2,2,3\n", {"a", "b"});
  EXPECT_THAT(
      ErrorOf(data, {.formula = "a*b"}),
      AllOf(HasSubstr("one row per cell"), HasSubstr("leave out the interactions"), HasSubstr("add replicates")));
  EXPECT_TRUE(FitAnova(data, {.formula = "a+b"}).ok());
}

TEST(AnovaTest, UnknownFactorNamesTheNearest) {
  const DataTable data = Table("input,y\nx,1\nz,2\nx,3\n", {"input"});
  EXPECT_THAT(ErrorOf(data, {.formula = "imput"}), HasSubstr("did you mean 'input'?"));
  EXPECT_THAT(ErrorOf(data, {.formula = "input*"}), HasSubstr("a factor is missing at the end"));
  EXPECT_THAT(ErrorOf(data, {.formula = "z ~ input"}), HasSubstr("the response is 'y', not 'z'"));
  EXPECT_TRUE(FitAnova(data, {.formula = "y ~ input"}).ok());
}

TEST(AnovaTest, PerfectFitHasNoFAndSaysWhy) {
  const auto table = FitAnova(Table("a,y\n1,1\n1,1\n2,2\n2,2\n", {"a"}), {});
  ASSERT_TRUE(table.ok());
  EXPECT_TRUE(std::isnan(table->terms[0].f));
  EXPECT_TRUE(std::isnan(table->terms[0].p));
  EXPECT_THAT(table->warnings, ::testing::Contains(HasSubstr("no error to test against")));
}

TEST(AnovaTest, FactorThatRepeatsAnotherIsNotEstimableAndSaysWhich) {
  const DataTable data = Table("a,b,y\n1,p,1\n1,p,2\n2,q,4\n2,q,3\n3,r,7\n3,r,6\n", {"a", "b"});
  for (const SumOfSquares type : {SumOfSquares::kType2, SumOfSquares::kType3}) {
    const auto table = FitAnova(data, {.ss_type = type});
    ASSERT_TRUE(table.ok());
    for (const AnovaTerm& term : table->terms) {
      EXPECT_FALSE(term.estimable);
      EXPECT_EQ(term.df, 0);
      EXPECT_TRUE(std::isnan(term.f) && std::isnan(term.p) && std::isnan(term.effect.partial_eta_sq));
      EXPECT_THAT(term.note, HasSubstr("Not estimable"));
    }
    EXPECT_THAT(table->terms[0].aliased_with, ElementsAre("b"));
  }
  const auto sequential = FitAnova(data, {.ss_type = SumOfSquares::kType1});
  EXPECT_TRUE(sequential->terms[0].estimable);
  EXPECT_FALSE(sequential->terms[1].estimable);
}

TEST(AnovaTest, LegalPositionPairsLoseTheTwoContrastsBetweenTheirThreeGroups) {
  const DataTable data = ReadReferenceTable("positions.csv", "score", {"input", "output", "activation"});
  const auto table = FitAnova(data, {.formula = "input*output + activation"});
  ASSERT_TRUE(table.ok());
  const AnovaTerm& input = Term(*table, "input");
  EXPECT_EQ(input.nominal_df, 9);
  EXPECT_EQ(input.df, 7);
  EXPECT_THAT(input.aliased_with, ElementsAre("output"));
  EXPECT_THAT(input.note,
              HasSubstr("{SA_in, SA_out, CA_in, CA_out, FFN_in, FFN_out, Trans_out}, {CA_c}, {Res_in, Res_out}"));
  EXPECT_THAT(Term(*table, "input:output").note, HasSubstr("20 of 70 combinations"));
  EXPECT_EQ(Term(*table, "input:output").df, 6);  // 20 pairs − 14 of the main effects
  EXPECT_EQ(table->cells_observed, 80);
  EXPECT_EQ(table->cells_possible, 280);

  const auto type3 = FitAnova(data, {.formula = "input*output + activation", .ss_type = SumOfSquares::kType3});
  EXPECT_FALSE(Term(*type3, "input").estimable);
  EXPECT_THAT(Term(*type3, "input").note, HasSubstr("Use Type II"));
  EXPECT_TRUE(Term(*type3, "activation").estimable);
}

TEST(AnovaTest, TermWithoutItsMarginsHasAllCellsAsDegreesOfFreedom) {
  const DataTable data = ReadReferenceTable("tooth_unbalanced.csv", "len", {"supp", "dose"});
  const auto cells = FitAnova(data, {.formula = "supp:dose"});
  EXPECT_EQ(cells->terms[0].nominal_df, 5);
  EXPECT_EQ(cells->terms[0].df, 5);
  EXPECT_EQ(cells->terms[0].note, "");
  const auto nested = FitAnova(data, {.formula = "supp + supp:dose", .ss_type = SumOfSquares::kType1});
  EXPECT_EQ(nested->terms[1].nominal_df, 4);
  EXPECT_EQ(nested->terms[1].note, "");
}

TEST(AnovaTest, InteractionConfoundedWithBlocksIsNamed) {
  const DataTable data = ReadReferenceTable("npk.csv", "yield", {"N", "P", "K"}, "block");
  const auto table = FitAnova(data, {.formula = "N*P*K", .block = "block"});
  ASSERT_TRUE(table.ok());
  EXPECT_TRUE(table->terms[0].is_block);
  EXPECT_FALSE(Term(*table, "N:P:K").estimable);
  EXPECT_THAT(Term(*table, "N:P:K").aliased_with, ElementsAre("block"));
}

TEST(AnovaTest, TrialsThatDidNotFinishAreCountedNotMixedIn) {
  const std::string csv =
      "a,state,y\n1,complete,1\n1,complete,2\n2,complete,5\n2,complete,6\n2,stopped_early,50\n1,failed,\n"
      "1,cancelled,\n2,complete,NA\n,complete,3\n";
  const auto table = FitAnova(Table(csv, {"a"}, "", "state"), {});
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->sample.used, 4);
  EXPECT_EQ(table->sample.stopped_early, 1);
  EXPECT_EQ(table->sample.failed, 1);
  EXPECT_EQ(table->sample.cancelled, 1);
  EXPECT_EQ(table->sample.missing_response, 1);
  EXPECT_EQ(table->sample.missing_level, 1);
  EXPECT_DOUBLE_EQ(table->terms[0].f, 32.0);
  EXPECT_THAT(table->warnings,
              ::testing::Contains("9 rows: 4 used, 1 failed, 1 cancelled, 1 stopped early (left out), 1 "
                                  "without a response, 1 without a factor level."));
  const auto with = FitAnova(Table(csv, {"a"}, "", "state"), {.include_stopped_early = true});
  EXPECT_EQ(with->sample.used, 5);
  EXPECT_EQ(with->sample.stopped_early_included, 1);
}

// A second formula: on balanced data all types agree and the sums of squares add up to the total.
TEST(AnovaTest, BalancedDataGiveTheSameTableForEveryType) {
  const DataTable data = ReadReferenceTable("warpbreaks.csv", "breaks", {"wool", "tension"});
  double by_type[3] = {};
  for (int type = 1; type <= 3; ++type) {
    const auto table = FitAnova(data, {.formula = "wool*tension", .ss_type = static_cast<SumOfSquares>(type)});
    double sum = table->residual.sum_sq;
    for (const AnovaTerm& term : table->terms) sum += term.sum_sq;
    EXPECT_NEAR(sum, table->total_sum_sq, 1e-11 * sum);
    by_type[type - 1] = Term(*table, "tension").sum_sq;
  }
  EXPECT_NEAR(by_type[0], by_type[1], 1e-11 * by_type[0]);
  EXPECT_NEAR(by_type[0], by_type[2], 1e-11 * by_type[0]);
}

// A second formula: adding 10^9 to the response, or reading it in another order, changes nothing that is tested.
TEST(AnovaTest, FIsUnchangedByAnOffsetWrittenInDecimal) {
  std::string plain = "a,y\n", shifted = "a,y\n";
  const char* digits[] = {"01", "05", "03", "09", "02", "08"};
  for (int i = 0; i < 6; ++i) {
    plain += (i < 3 ? "p,0.0" : "q,0.0") + std::string(digits[i]) + "\n";
    shifted += (i < 3 ? "p,123456789012.0" : "q,123456789012.0") + std::string(digits[i]) + "\n";
  }
  EXPECT_DOUBLE_EQ(FitAnova(Table(plain, {"a"}), {})->terms[0].f, FitAnova(Table(shifted, {"a"}), {})->terms[0].f);
}

TEST(OneWayTest, GroupsFromMemoryMatchTheTextbookFormula) {
  const auto result = OneWayAnova({{1, 2, 3}, {2, 3, 4}, {5, 6, 7}});
  ASSERT_TRUE(result.ok());
  EXPECT_DOUBLE_EQ(result->f, 13.0);  // means 2, 3, 6 about 11/3: MSB = 26/2 = 13, MSW = 6/6 = 1
  EXPECT_FALSE(OneWayAnova({{1.0}, {2.0}}).ok());
  EXPECT_FALSE(OneWayAnova({{1.0, NAN}, {2.0, 3.0}}).ok());
  EXPECT_FALSE(OneWayAnova({{1.0, 2.0}}).ok());
}

}  // namespace
}  // namespace loupe::analysis::stats
