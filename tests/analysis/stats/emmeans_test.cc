// Adjusted means, differences, simple effects and contrasts of incomplete designs against R's emmeans 1.8.4:
// reference/emmeans.json, made by reference/emmeans.R. And what must hold of them whatever the reference: a factor of
// two levels has the F of its own test.
#include <algorithm>
#include <cmath>
#include <map>

#include "analysis/stats/anova.h"
#include "analysis/stats/comparisons.h"
#include "analysis/stats/contrasts.h"
#include "analysis/stats/distributions.h"
#include "analysis/stats/random_stream.h"
#include "analysis/stats/studentized_range.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/analysis/stats/reference_files.h"

namespace loupe::analysis::stats {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;

const Json& Cases() {
  static const Json cases = ReadReferenceJson("emmeans.json");
  return cases;
}

DataTable Table(const Json& reference) {
  const std::string response = reference["file"] == "tooth_unbalanced.csv" ? "len" : "y";
  return ReadReferenceTable(reference["file"], response, reference["factors"]);
}

std::unique_ptr<LinearModel> FitModel(const DataTable& data, const std::string& formula) {
  auto model = LinearModel::Fit(data, {.formula = formula});
  if (!model.ok()) throw std::runtime_error(std::string(model.status().message()));
  return *std::move(model);
}

// R's NA is null. `scale` is what the reference's own rounding is measured by.
void ExpectSame(const Json& expected, bool estimable, double value, double scale, const std::string& what) {
  EXPECT_EQ(estimable, !expected.is_null()) << what;
  if (!expected.is_null() && estimable) {
    EXPECT_NEAR(value, expected.get<double>(), 1e-11 * scale) << what;
  }
}

// "first − second" and the other way round.
std::map<std::pair<std::string, std::string>, Comparison> ByNames(const std::vector<Comparison>& pairs) {
  std::map<std::pair<std::string, std::string>, Comparison> by_names;
  for (Comparison pair : pairs) {
    by_names[{pair.first, pair.second}] = pair;
    pair.difference = -pair.difference;
    std::swap(pair.first, pair.second);
    by_names[{pair.first, pair.second}] = pair;
  }
  return by_names;
}

// `reference` holds estimate, se, p, p_tukey of all pairs of `levels` in order, from `at` on.
void ExpectSamePairs(const Json& reference, size_t& at, const std::vector<std::string>& levels,
                     const std::vector<Comparison>& pairs) {
  const auto by_names = ByNames(pairs);
  for (size_t i = 0; i < levels.size(); ++i) {
    for (size_t j = i + 1; j < levels.size(); ++j, ++at) {
      const std::string what = levels[i] + " - " + levels[j];
      ASSERT_TRUE(by_names.contains({levels[i], levels[j]})) << what;
      const Comparison& pair = by_names.at({levels[i], levels[j]});
      ExpectSame(reference["estimate"][at], pair.estimable, pair.difference, 10, what);
      EXPECT_EQ(pair.reason.empty(), pair.estimable) << what;
      ExpectSame(reference["se"][at], pair.estimable, pair.std_error, 1, what);
      ExpectSame(reference["p"][at], pair.estimable, pair.p, 1, what);
      if (pair.estimable) {  // ptukey promises 1e-8 or so, and at 4 degrees of freedom is 2e-6 off scipy, which is ours
        EXPECT_NEAR(pair.p_tukey, reference["p_tukey"][at].get<double>(), 3e-6) << what;
        EXPECT_GE(pair.p_tukey, pair.p * (1 - 1e-9)) << what;
      }
    }
  }
}

std::vector<std::string> Texts(const Json& json) {
  return json.is_string() ? std::vector<std::string>{json} : json.get<std::vector<std::string>>();
}
Json List(const Json& json) { return json.is_array() ? json : Json::array({json}); }

TEST(EmmeansTest, MeansAndAllPairsAreThoseOfR) {
  for (const Json& reference : Cases()) {
    SCOPED_TRACE(reference["name"].get<std::string>());
    const DataTable data = Table(reference);
    const auto model = FitModel(data, reference["formula"]);
    for (const auto& [factor, expected] : reference["means"].items()) {
      SCOPED_TRACE(factor);
      const auto means = ComputeMarginalMeans(*model, {factor});
      ASSERT_TRUE(means.ok()) << means.status();
      const std::vector<std::string> levels = Texts(expected["level"]);
      ASSERT_EQ(means->means.size(), levels.size());
      for (const MarginalMean& mean : means->means) {
        const auto i = static_cast<size_t>(std::find(levels.begin(), levels.end(), mean.levels[0]) - levels.begin());
        ExpectSame(List(expected["mean"])[i], mean.estimable, mean.mean, 10, mean.levels[0]);
        ExpectSame(List(expected["se"])[i], mean.estimable, mean.std_error, 1, mean.levels[0]);
        EXPECT_EQ(mean.reason.empty(), mean.estimable);
      }
      size_t at = 0;
      ExpectSamePairs(expected["pairs"], at, levels, CompareAllPairs(*model, *means));
      EXPECT_EQ(at, expected["pairs"]["estimate"].size());
    }
  }
}

TEST(EmmeansTest, SimpleEffectsAreThoseOfR) {
  for (const Json& reference : Cases()) {
    if (!reference["within"].is_object()) continue;
    SCOPED_TRACE(reference["name"].get<std::string>());
    const DataTable data = Table(reference);
    const auto model = FitModel(data, reference["formula"]);
    for (const auto& [question, expected] : reference["within"].items()) {
      SCOPED_TRACE(question);
      const auto simple = ComputeSimpleEffects(*model, question);
      ASSERT_TRUE(simple.ok()) << simple.status();
      const std::vector<std::string> levels = Texts(expected["levels"]), within = Texts(expected["within"]);
      const Json &joint = expected["joint"], by = joint["level"];
      for (size_t at = 0; at < within.size();) {
        const auto effect = std::find_if(simple->effects.begin(), simple->effects.end(),
                                         [&](const SimpleEffect& e) { return e.within[0] == within[at]; });
        ASSERT_NE(effect, simple->effects.end()) << within[at];
        const auto found = std::find(by.begin(), by.end(), within[at]);
        if (found != by.end()) {
          const auto k = static_cast<size_t>(found - by.begin());
          EXPECT_EQ(effect->test.df, joint["df"][k].get<double>());
          EXPECT_NEAR(effect->test.f, joint["f"][k].get<double>(), 5.1e-4);  // joint_tests rounds to three places
          EXPECT_LT(RelativeError(effect->test.p, joint["p"][k]),
                    5e-5);  // and finds the estimable part to some five digits
        }
        ExpectSamePairs(expected, at, levels, effect->pairs);
      }
    }
  }
}

TEST(EmmeansTest, ContrastsByFormulaAreThoseOfR) {
  int compared = 0;
  for (const Json& reference : Cases()) {
    if (!reference["contrasts"].is_object()) continue;
    const DataTable data = Table(reference);
    const auto model = FitModel(data, reference["formula"]);
    for (const auto& [formula, expected] : reference["contrasts"].items()) {
      SCOPED_TRACE(reference["name"].get<std::string>() + ": " + formula);
      const auto contrasts = EvaluateContrasts(*model, {formula});
      ASSERT_TRUE(contrasts.ok()) << contrasts.status();
      const Contrast& contrast = contrasts->front();
      ExpectSame(expected["estimate"], contrast.estimable, contrast.estimate, 10, formula);
      ExpectSame(expected["se"], contrast.estimable, contrast.std_error, 1, formula);
      ExpectSame(expected["p"], contrast.estimable, contrast.p, 1, formula);
      ExpectSame(expected["low"], contrast.estimable, contrast.low, 10, formula);
      ExpectSame(expected["high"], contrast.estimable, contrast.high, 10, formula);
      EXPECT_EQ(contrast.reason.empty(), contrast.estimable);
      ++compared;
    }
  }
  EXPECT_EQ(compared, 9);
}

TEST(EmmeansTest, WhatIsNotEstimableSaysWhy) {
  const DataTable data = ReadReferenceTable("paper_design.csv", "y", {"input", "output", "activation", "scale", "rep"});
  const auto reason = [&](const std::string& formula, const std::string& contrast) {
    return EvaluateContrasts(*FitModel(data, formula), {contrast})->front().reason;
  };
  EXPECT_THAT(reason("input + output", "[input=SA_in] - [input=Res_in]"),
              HasSubstr("Res_in and SA_in never share a level of output"));
  EXPECT_THAT(reason("input * output", "[input=SA_in] - [input=CA_in]"), HasSubstr("and the model has input:output"));
  EXPECT_THAT(reason("input * output", "[input=SA_in, output=Res_in]"),
              HasSubstr("no trial has input = SA_in with output = Res_in"));
  EXPECT_THAT(reason("input + output", "[input=SA_in]"), HasSubstr("groups which never meet"));
  EXPECT_THAT(reason("input + output", "[input=SA_in, output=Res_in]"),
              HasSubstr("belong to groups of levels that never meet"));
  EXPECT_THAT(reason("input + output", "[input=SA_in]/2 + [input=CA_in]/2 - [input=CA_c]"), HasSubstr("never share"));
}

// The law that ties comparisons to the F table: t² of the only pair is F.
TEST(EmmeansTest, TwoLevelsHaveTheFOfTheirOwnTest) {
  RandomStream random(7);
  for (int repeat = 0; repeat < 40; ++repeat) {
    DataTableBuilder builder("y", {{"a", {}}, {"b", {}}, {"c", {}}});
    int rows = 0;
    for (int a = 0; a < 2; ++a) {
      for (int b = 0; b < 3; ++b) {
        for (int c = 0; c < 2; ++c) {
          // Even repeats leave cells out, odd ones only make their numbers unequal.
          const int n =
              (repeat % 2 == 0 && random.Normal() > 0.6) ? 0 : 1 + static_cast<int>(std::abs(2 * random.Normal()));
          for (int k = 0; k < n; ++k, ++rows) {
            ASSERT_TRUE(
                builder.AddRow({std::to_string(a), std::to_string(b), std::to_string(c)}, b + random.Normal()).ok());
          }
        }
      }
    }
    const DataTable data = std::move(builder).Build();
    const bool filled = repeat % 2 == 1;
    for (const std::string formula : {"a + b + c", "a + b * c", "a * b + c"}) {
      const bool interacts = formula == "a * b + c";
      if (interacts && !filled) continue;
      const auto table =
          FitAnova(data, {.formula = formula, .ss_type = interacts ? SumOfSquares::kType3 : SumOfSquares::kType2});
      const auto model = LinearModel::Fit(data, {.formula = formula});
      if (!table.ok() || !model.ok()) continue;  // too few rows
      const AnovaTerm& term = table->terms[0];
      const Comparison pair = CompareAllPairs(**model, *ComputeMarginalMeans(**model, {"a"}))[0];
      EXPECT_EQ(pair.estimable, term.estimable) << formula << " " << term.note;
      if (!pair.estimable) continue;
      EXPECT_NEAR(pair.t * pair.t, term.f, 1e-9 * (1 + term.f)) << formula;
      EXPECT_NEAR(pair.p, term.p, 1e-10);
      EXPECT_EQ(pair.p_tukey, pair.p);
    }
  }
}

// 1000 designs as incomplete as the paper's without any effect of the factor asked about, but with large ones of
// another that is partly confounded with it: the level of every test must be kept.
TEST(CalibrationTest, TestsOfNothingKeepTheirLevel) {
  constexpr int kDesigns = 1000, kLevels = 4;
  RandomStream random(20260401);
  const double q = StudentizedRangeQuantile(0.95, kLevels, 17);
  int pairs = 0, rejected = 0, tukey = 0, holm = 0;
  for (int design = 0; design < kDesigns; ++design) {
    DataTableBuilder builder("y", {{"a", {}}, {"b", {}}});
    // Each level of a meets two of five levels of b, chained so that all are connected: 8 cells of 20, 3 rows each.
    for (int a = 0; a < kLevels; ++a) {
      for (const int b : {a, a + 1}) {
        for (int k = 0; k < 3; ++k) {
          ASSERT_TRUE(
              builder.AddRow({std::to_string(a), std::to_string(b)}, 5.0 * b * (design % 7) + random.Normal()).ok());
        }
      }
    }
    // One row more at random places, so that numbers are unequal.
    const int extra = design % kLevels;
    ASSERT_TRUE(builder
                    .AddRow({std::to_string(extra), std::to_string(extra + 1)},
                            5.0 * (extra + 1) * (design % 7) + random.Normal())
                    .ok());
    const DataTable data = std::move(builder).Build();
    const auto model = FitModel(data, "a + b");
    ASSERT_EQ(model->residual_df(), 17);
    double largest = 0, smallest_holm = 1;
    for (const Comparison& pair : DifferencesOfAllPairs(*model, *ComputeMarginalMeans(*model, {"a"}))) {
      ASSERT_TRUE(pair.estimable);
      ++pairs;
      rejected += pair.p < 0.05;
      largest = std::max(largest, std::abs(pair.t));
      smallest_holm = std::min(smallest_holm, pair.p_holm);
    }
    tukey += largest * std::sqrt(2.0) > q;
    holm += smallest_holm < 0.05;
  }
  ASSERT_EQ(pairs, 6 * kDesigns);
  // 99.9 % of the binomial distribution. The six pairs of a design depend on each other, so that its spread is that of
  // 1000.
  const double spread = 3.3 * std::sqrt(0.05 * 0.95 / kDesigns);
  EXPECT_NEAR(static_cast<double>(rejected) / pairs, 0.05, spread);
  EXPECT_LT(static_cast<double>(tukey) / kDesigns, 0.05 + spread);
  EXPECT_LT(static_cast<double>(holm) / kDesigns, 0.05 + spread);
  EXPECT_GT(tukey, 0);
}

TEST(ContrastFormulaTest, BadFormulasSayWhere) {
  const DataTable data = ReadReferenceTable("min_pairs.csv", "y", {"a", "b"});
  const auto model = FitModel(data, "a + b");
  const auto error = [&](const std::string& formula) {
    return std::string(EvaluateContrasts(*model, {formula}).status().message());
  };
  EXPECT_THAT(error(""), HasSubstr("a mean is missing at the end"));
  EXPECT_THAT(error("3"), HasSubstr("there is no mean in it"));
  EXPECT_THAT(error("[a=a1] - [a=a1]"), HasSubstr("all weights cancel"));
  EXPECT_THAT(error("[a=a1] + 1"), HasSubstr("cannot be added"));
  EXPECT_THAT(error("[a=a1] * [a=a2]"), HasSubstr("cannot be multiplied"));
  EXPECT_THAT(error("1 / [a=a1]"), HasSubstr("divided by a mean"));
  EXPECT_THAT(error("[a=a1] / 0"), HasSubstr("division by 0"));
  EXPECT_THAT(error("[a=a1"), HasSubstr("'[' is never closed"));
  EXPECT_THAT(error("([a=a1]"), HasSubstr("'(' is never closed"));
  EXPECT_THAT(error("[a]"), HasSubstr("expected '='"));
  EXPECT_THAT(error("[a=a1, a=a2]"), HasSubstr("two levels of 'a'"));
  EXPECT_THAT(error("[a=a3] - [a=a1]"), HasSubstr("'a3' is not a level of 'a' in the rows used; there are a1, a2"));
  EXPECT_THAT(error("[c=1]"), HasSubstr("'c'"));
  EXPECT_THAT(error(std::string(2000, '-')), HasSubstr("longer"));
  EXPECT_THAT(error(std::string(900, '-')), HasSubstr("too many signs"));
  EXPECT_THAT(error("[a=a1] x"), HasSubstr("unexpected 'x'"));
  for (const std::string question : {"", "|", "a |", "| a", "a | a", "a | `b", "z | a"}) {
    EXPECT_FALSE(ComputeSimpleEffects(*model, question).ok()) << question;
  }
}

TEST(ContrastFormulaTest, WeightsAndBackquotesAreRead) {
  DataTableBuilder builder("y", {{"lr, x", {}}});
  const double values[] = {1, 2, 4, 7};
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(builder
                    .AddRow({i % 4 < 2 ? (i % 2 == 0 ? "a=b" : "c]") : (i % 2 == 0 ? "1e-4" : "2")},
                            values[i % 4] + 0.1 * (i / 4))
                    .ok());
  }
  const DataTable data = std::move(builder).Build();
  const auto model = FitModel(data, "`lr, x`");
  const auto estimate = [&](const std::string& formula) {
    return EvaluateContrasts(*model, {formula})->front().estimate;
  };
  EXPECT_NEAR(estimate("[`lr, x` = `c]`] - [`lr, x`=`a=b`]"), 1, 1e-12);
  EXPECT_NEAR(estimate("-([`lr, x`=2] - 3*[`lr, x`=0.0001])/2 - 2e0*[`lr, x`=`c]`]"), -(7.05 - 3 * 4.05) / 2 - 2 * 2.05,
              1e-12);
}

}  // namespace
}  // namespace loupe::analysis::stats
