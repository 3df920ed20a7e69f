// Methods at an equal number of trained parameters, against R (tests/analysis/stats/reference/equal_parameters.R), and
// in every format of a report.
#include "analysis/report/equal_parameters.h"

#include <cmath>

#include "analysis/report/method_comparison.h"
#include "analysis/stats/nesting.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/analysis/stats/reference_files.h"

namespace loupe::analysis::report {
namespace {

using Json = nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// The script's rule.
std::vector<double> ParametersOf(const stats::DataTable& table) {
  const auto level = [&](const std::string& name, size_t row) -> std::string {
    const stats::Factor& factor = table.factors[table.FactorIndex(name).value()];
    const int32_t code = factor.codes[row];
    return code < 0 ? "" : factor.levels[static_cast<size_t>(code)];
  };
  std::vector<double> parameters;
  for (size_t row = 0; row < table.factors.front().codes.size(); ++row) {
    const std::string method = level("method", row);
    parameters.push_back(method == "lora"
                             ? 1000 * std::stod(level("rank", row)) * (level("targets", row) == "all" ? 2 : 1)
                         : method == "adapter" ? (level("activation", row) == "silu" ? 18000 : 14000)
                         : method == "bitfit"  ? 3000
                                               : 860000);
  }
  return parameters;
}

struct Fitted {
  stats::DataTable table;
  std::unique_ptr<stats::LinearModel> model;
  std::vector<double> parameters;
};

void Fit(const Json& reference, Fitted& fitted) {
  const std::string block = reference["block"];
  std::vector<std::string> factors = {"method", "activation", "scale", "rank", "targets"};
  const stats::DataTable plain = stats::ReadReferenceTable(reference["file"], "y", factors, block);
  fitted.parameters = ParametersOf(plain);
  fitted.table = stats::NestFactors(plain, "method", block).value();
  fitted.model =
      stats::LinearModel::Fit(fitted.table, {.formula = "method + activation + scale + rank + targets", .block = block})
          .value();
}

const std::vector<MethodSettings> kMethods = {
    {"adapter", {"activation", "scale"}}, {"bitfit", {}}, {"full", {}}, {"lora", {"rank", "targets"}}};

TEST(EqualParametersTest, AgreesWithRowsOfTheModelInR) {
  for (const Json& reference : stats::ReadReferenceJson("equal_parameters.json")) {
    SCOPED_TRACE(reference.dump());
    Fitted fitted;
    Fit(reference, fitted);
    const auto found =
        CompareAtEqualParameters(*fitted.model, "method", kMethods, fitted.parameters,
                                 {reference["budget"], reference["tolerance"]}, reference["baseline"], 0.95);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->baseline, reference["baseline"].get<std::string>());
    EXPECT_EQ(found->equal.df, reference["equal_df"].get<double>());
    EXPECT_LT(stats::RelativeError(found->equal.f, reference["equal_f"]), 1e-8);
    ASSERT_THAT(found->methods, SizeIs(reference["methods"].size()));
    for (size_t i = 0; i < found->methods.size(); ++i) {
      const Json& expected = reference["methods"][i];
      const MethodAtBudget& method = found->methods[i];
      EXPECT_EQ(method.method, expected["method"].get<std::string>());
      EXPECT_THAT(method.settings, SizeIs(expected["settings"].get<size_t>()));
      EXPECT_EQ(method.least, expected["least"].get<double>());
      EXPECT_EQ(method.most, expected["most"].get<double>());
      EXPECT_LT(stats::RelativeError(method.mean.mean, expected["value"]), 1e-11);
      EXPECT_LT(stats::RelativeError(method.mean.std_error, expected["std_error"]), 1e-9);
    }
    ASSERT_THAT(found->with_baseline, SizeIs(reference["with_baseline"].size()));
    for (size_t i = 0; i < found->with_baseline.size(); ++i) {
      const Json& expected = reference["with_baseline"][i];
      EXPECT_EQ(found->with_baseline[i].first, expected["method"].get<std::string>());
      EXPECT_LT(std::abs(found->with_baseline[i].difference - expected["value"].get<double>()), 1e-11);
      EXPECT_LT(stats::RelativeError(found->with_baseline[i].std_error, expected["std_error"]), 1e-9);
      EXPECT_LT(stats::RelativeError(found->with_baseline[i].p, expected["p"]), 1e-8);
    }
  }
}

TEST(EqualParametersTest, NamesWhatHasNoSettingThere) {
  Fitted fitted;
  Fit(stats::ReadReferenceJson("equal_parameters.json")[0], fitted);
  const auto found =
      CompareAtEqualParameters(*fitted.model, "method", kMethods, fitted.parameters, {16000, 0.25}, "full", 0.95);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->baseline, "adapter") << "full has none, so the first that has";
  EXPECT_THAT(found->methods[1].settings, ElementsAre("rank 16, targets attention"));
  EXPECT_THAT(
      found->sentences,
      ElementsAre("bitfit: no setting within 25 % of 16000 parameters (its settings have 3000): not compared.",
                  "full: no setting within 25 % of 16000 parameters (its settings have 860000): not compared."));
  const auto alone =
      CompareAtEqualParameters(*fitted.model, "method", kMethods, fitted.parameters, {860000, 0.1}, "full", 0.95);
  ASSERT_TRUE(alone.ok()) << alone.status();
  EXPECT_THAT(alone->with_baseline, IsEmpty());
  EXPECT_THAT(alone->sentences, SizeIs(3));
}

}  // namespace
}  // namespace loupe::analysis::report
