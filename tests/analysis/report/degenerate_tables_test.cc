// Tables at the edge of what can be analysed, thrown at the whole analysis and its formats: nothing aborts or throws,
// and what is said about them is true.
#include "tests/analysis/report/degenerate_tables.h"

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "analysis/report/anova_format.h"
#include "analysis/report/factorial_analysis.h"
#include "analysis/stats/anova.h"
#include "analysis/stats/box_cox.h"
#include "analysis/stats/csv_table.h"
#include "analysis/stats/group_tests.h"
#include "analysis/stats/importance.h"
#include "analysis/stats/mixed_model.h"
#include "analysis/stats/permutation_test.h"
#include "fmt/format.h"
#include "gtest/gtest.h"

namespace loupe::analysis::report {
namespace {

AnalysisOptions Options(const std::string& formula, const std::string& block) {
  AnalysisOptions options;
  options.anova.formula = formula;
  options.anova.block = block;
  options.anova.drop_single_level_factors = true;
  options.allow_no_table = true;
  return options;
}

bool Says(const FactorialAnalysis& analysis, const std::string& part) {
  std::string all = analysis.problem;
  for (const std::string& note : analysis.notes) all += note;
  if (analysis.details != nullptr) {
    for (const std::string& sentence : analysis.details->assumptions.sentences) all += sentence;
  }
  return all.find(part) != std::string::npos;
}

bool IsSortedOut(double value) { return std::isnan(value) || (value >= 0 && value <= 1); }

TEST(DegenerateTablesTest, WholeAnalysisIsFiniteOrSaysWhyNot) {
  for (const DegenerateTable& test : DegenerateTables()) {
    for (const auto& [formula, block] : {std::pair("", ""), std::pair("a*b", "replicate")}) {
      SCOPED_TRACE(fmt::format("{}, formula '{}', block '{}'", test.name, formula, block));
      const auto analysis = AnalyseFactorial(test.table, Options(formula, block));
      if (!analysis.ok()) {
        EXPECT_FALSE(analysis.status().message().empty());
        continue;
      }
      EXPECT_EQ(analysis->anova.terms.empty(), !analysis->problem.empty());
      const bool positive = [&] {
        for (size_t row = 0; row < test.table.rows(); ++row) {
          if (test.table.Response(row) <= 0) return false;
        }
        return true;
      }();
      EXPECT_FALSE(positive && Says(*analysis, "positive"));
      for (const stats::AnovaTerm& term : analysis->anova.terms) {
        EXPECT_TRUE(IsSortedOut(term.p)) << term.p;
        EXPECT_FALSE(std::isinf(term.f)) << term.term;
        EXPECT_TRUE(IsSortedOut(term.effect.partial_eta_sq)) << term.effect.partial_eta_sq;
        EXPECT_TRUE(IsSortedOut(term.effect.partial_eta_sq_high)) << term.effect.partial_eta_sq_high;
        EXPECT_TRUE(!std::isnan(term.f) || !term.estimable || Says(*analysis, "reproduces every response exactly"))
            << term.term;
      }
      EXPECT_FALSE(FormatAnovaText(*analysis).empty());
      EXPECT_FALSE(FormatAnovaJson(*analysis).empty());
      for (const std::string& table : CsvTableNames()) {
        const auto csv = FormatCsvTable(*analysis, table);
        ASSERT_TRUE(csv.ok());
        EXPECT_TRUE(csv->find(",inf") == std::string::npos && csv->find(",-inf") == std::string::npos &&
                    csv->find(",nan") == std::string::npos)
            << table << *csv;
      }
    }
  }
}

TEST(DegenerateTablesTest, EachStatisticAloneIsFiniteOrSaysWhyNot) {
  for (const DegenerateTable& test : DegenerateTables()) {
    SCOPED_TRACE(test.name);
    const stats::AnovaOptions options = Options("a + b", "replicate").anova;
    for (const stats::VarianceMethod method :
         {stats::VarianceMethod::kReml, stats::VarianceMethod::kExpectedMeanSquares}) {
      const auto mixed = stats::FitMixedModel(test.table, options, method);
      if (!mixed.ok()) {
        EXPECT_FALSE(mixed.status().message().empty());
        continue;
      }
      EXPECT_TRUE(std::isnan(mixed->intraclass_correlation) ||
                  (mixed->intraclass_correlation >= 0 && mixed->intraclass_correlation <= 1));
      for (const stats::MixedTerm& term : mixed->terms) EXPECT_TRUE(IsSortedOut(term.p)) << term.term << term.p;
    }
    const auto groups = stats::GroupValues(test.table, "a");
    ASSERT_TRUE(groups.ok());
    for (const auto& result : {stats::WelchAnova(*groups), stats::KruskalWallis(*groups), stats::Levene(*groups),
                               stats::BrownForsythe(*groups)}) {
      if (result.ok()) {
        EXPECT_TRUE(IsSortedOut(result->p)) << result->p;
      }
    }
    const auto permuted = stats::PermutationF(test.table, options, {.permutations = 99});
    if (permuted.ok()) {
      for (const stats::PermutationTerm& term : permuted->terms) EXPECT_TRUE(IsSortedOut(term.p));
    }
    const auto importance = stats::ComputeImportance(test.table, {.factors = {"a", "b"}, .trees = 4});
    if (importance.ok()) {
      // A share is a difference of variances over their sum: rounding takes it past its ends by a few units.
      constexpr double kRounding = 1e-14;
      for (const stats::ImportanceShare& share : importance->shares)
        EXPECT_TRUE(share.share >= -kRounding && share.share <= 1 + kRounding) << share.share;
    }
  }
}

TEST(DegenerateTablesTest, ReproducedResponseHasNoF) {
  const auto analysis =
      AnalyseFactorial(Grid(3, 3, 3, [](int a, int b, int) { return 0.1 * a + 0.7 * b + 1; }), Options("a + b", ""));
  ASSERT_TRUE(analysis.ok());
  for (const stats::AnovaTerm& term : analysis->anova.terms) EXPECT_TRUE(std::isnan(term.f));
  EXPECT_EQ(analysis->anova.residual.sum_sq, 0.0);
  EXPECT_TRUE(Says(*analysis, "there are no errors whose normality"));
}

TEST(DegenerateTablesTest, PowerOfTwoChangesNoDigitOfF) {
  const stats::DataTable plain = Grid(4, 3, 3, Noise);
  const auto expected = stats::FitAnova(plain, Options("a*b", "replicate").anova);
  ASSERT_TRUE(expected.ok());
  for (const int exponent : {-990, -300, -1, 1, 300, 1000}) {
    const auto scaled =
        stats::FitAnova(Grid(4, 3, 3, [&](int a, int b, int r) { return std::ldexp(Noise(a, b, r), exponent); }),
                        Options("a*b", "replicate").anova);
    ASSERT_TRUE(scaled.ok());
    for (size_t t = 0; t < expected->terms.size(); ++t) {
      EXPECT_EQ(scaled->terms[t].f, expected->terms[t].f) << exponent;
      EXPECT_EQ(scaled->terms[t].p, expected->terms[t].p);
      EXPECT_EQ(scaled->terms[t].effect.partial_eta_sq_low, expected->terms[t].effect.partial_eta_sq_low);
    }
  }
}

TEST(DegenerateTablesTest, UnitOf1e300GivesTheSameAnswers) {
  const auto read = [](const std::string& suffix) {
    std::string csv = "y,a,b\n";
    for (int i = 0; i < 24; ++i)
      csv += fmt::format("{:.6f}{},a{},b{}\n", 3 + Noise(i % 3, i % 4, i), suffix, i % 3, i % 4);
    auto table = stats::ReadCsvTable(csv, {.response = "y", .factors = {"a", "b"}, .block = "", .status_column = ""});
    EXPECT_TRUE(table.ok());
    return *AnalyseFactorial(*std::move(table), Options("", ""));
  };
  const FactorialAnalysis plain = read("");
  for (const char* suffix : {"e-300", "e-160", "e160", "e300"}) {
    const FactorialAnalysis scaled = read(suffix);
    EXPECT_TRUE(Says(scaled, "outside what a double holds"));
    for (size_t t = 0; t < plain.anova.terms.size(); ++t) {
      EXPECT_NEAR(scaled.anova.terms[t].f, plain.anova.terms[t].f, 1e-12 * plain.anova.terms[t].f) << suffix;
      EXPECT_EQ(scaled.anova.terms[t].sum_sq.Decimal(6).substr(0, 7).size(), 7u);
    }
    EXPECT_NEAR(scaled.details->assumptions.normality.p, plain.details->assumptions.normality.p, 1e-9);
  }
}

TEST(DegenerateTablesTest, FortyFactorsAreNoCombinationsToCount) {
  stats::DataTable table = Grid(4, 25, 3, Noise);
  for (int f = 0; f < 40; ++f) {
    stats::Factor factor{fmt::format("f{}", f), {"x", "y", "z", "w"}, {}};
    for (size_t row = 0; row < table.rows(); ++row) {
      factor.codes.push_back(
          static_cast<int32_t>(2 + 2 * std::sin(1.7 * f + 3.1 * static_cast<double>(row * (f + 1)))) % 4);
    }
    table.factors.push_back(factor);
  }
  const auto anova = stats::FitAnova(table, {});
  ASSERT_TRUE(anova.ok()) << anova.status().message();
  EXPECT_GT(anova->cells_possible, 9e18);
  EXPECT_EQ(anova->terms.size(), 43u);
}

TEST(DegenerateTablesTest, BoxCoxNamesWhatIsTheMatter) {
  stats::AnovaOptions options;
  options.formula = "a + b";
  const auto of = [&](const std::function<double(int, int, int)>& y) {
    return std::string(stats::BoxCox(Grid(3, 3, 3, y), options).status().message());
  };
  EXPECT_NE(of([](int a, int b, int r) { return Noise(a, b, r) > 0 ? 1.0 : 2.0; }).find("two different values"),
            std::string::npos);
  EXPECT_NE(of([](int a, int b, int) { return std::exp(0.3 * a + 0.7 * b); }).find("reproduces it exactly"),
            std::string::npos);
  EXPECT_NE(of([](int a, int b, int) { return 0.1 * a + 0.7 * b + 1; }).find("reproduces every response"),
            std::string::npos);
  EXPECT_NE(of(Noise).find("positive response"), std::string::npos);
  EXPECT_EQ(of([](int a, int b, int r) { return std::pow(10, 10 * Noise(a, b, r)); }), "");
}

}  // namespace
}  // namespace loupe::analysis::report
