// `loupe plan` of a sweep over methods, as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "nlohmann/json.hpp"
#include "tests/cli/process.h"

namespace loupe::cli {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr char kShipped[] = "configs/sweeps/methods.yaml";

ProcessResult PlanMethods(const std::vector<std::string>& arguments) {
  std::vector<std::string> all = {"plan", kShipped, "--no-history"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return RunProcess(LOUPE_BINARY, all, "", {}, "");
}

TEST(MethodsPlanTest, TextSaysWhatEachMethodBrings) {
  const ProcessResult result = PlanMethods({"--list-cells"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("methods: 8 cells × 3 replicates = 24 trials"));
  EXPECT_THAT(result.out, HasSubstr("  adapter: 2 cells, varying input, output of its own\n"));
  EXPECT_THAT(result.out, HasSubstr("  lora: 4 cells, varying rank, targets of its own\n"));
  EXPECT_THAT(result.out, HasSubstr("  bitfit: 1 cell\n"));
  EXPECT_THAT(result.out, HasSubstr("  3: method=lora rank=4 targets=all\n"));
}

TEST(MethodsPlanTest, TermsAreMethodsAndWhatIsNestedInThem) {
  const ProcessResult result = PlanMethods({"--format", "json", "--list-cells"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json plan = json::parse(result.out);
  std::map<std::string, int> df;
  for (const json& term : plan["terms"]) {
    const std::string within = term["within"].is_null() ? "" : " in " + term["within"].get<std::string>();
    df[term["term"].get<std::string>() + within] = term["df"];
    EXPECT_EQ(term["aliased_df"], 0) << term;
  }
  // And the positions that the adapter's cells differ in.
  EXPECT_EQ(df.size(), 4u);
  EXPECT_EQ(df["method"], 3);
  EXPECT_EQ(df["rank in lora"], 1);
  EXPECT_EQ(df["targets in lora"], 1);
  EXPECT_EQ(plan["residual_df"], 24 - 1 - 6 - 2);
  EXPECT_EQ(plan["cell_list"][7], json({{"method", "full"}}));
  EXPECT_EQ(plan["factors"][3]["within"], "lora");
}

}  // namespace
}  // namespace loupe::cli
