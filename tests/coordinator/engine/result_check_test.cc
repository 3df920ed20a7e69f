#include "coordinator/engine/result_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/plan_proto/spec_proto.h"
#include "tests/testing/small_spec.h"

namespace loupe::coordinator::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

settings::Settings Cell(std::map<std::string, std::string> changes = {}) {
  std::map<std::string, std::string> values = {{"base", "/base"},
                                               {"scorer", "/scorer"},
                                               {"task.images", "/images"},
                                               {"task.instance_prompt", "a photo of sks"},
                                               {"task.class_prompt", "a photo of cat face"},
                                               {"method.input", "CA_out"},
                                               {"method.output", "FFN_in"},
                                               {"method.width", "8"},
                                               {"budget.steps", "5"}};
  for (const auto& [key, value] : changes) values[key] = value;
  return *settings::Settings::Create(values);
}

TEST(ResultCheckTest, DigestsBelongToTheValuesOfTheCell) {
  scheduler::Result result{.scores = {{"clip_i", 0.5}}};
  result.provenance = {
      {"base_sha256", std::string(64, 'a')}, {"scorer_sha256", std::string(64, 'b')},
      {"data_sha256", std::string(64, 'c')}, {"dino_sha256", std::string(64, 'd')},  // of nothing that the cell sets
      {"inception_sha256", "no digest"},     {"torch", "2"}};
  const auto examined = ExamineResult(Cell({{"score.inception", "/inception"}}), result);
  ASSERT_TRUE(examined.ok()) << examined.status();
  EXPECT_THAT(examined->inputs,
              ElementsAre(Pair("base /base", std::string(64, 'a')), Pair("scorer /scorer", std::string(64, 'b')),
                          Pair("task.images /images (dreambooth)", std::string(64, 'c'))));
}

// A file that is scored, and the word that was found for {identifier}, are inputs as the base is.
TEST(ResultCheckTest, FilesAndIdentifiersAreInputs) {
  scheduler::Result result{.scores = {{"clip_i", 0.5}}};
  result.provenance = {{"method_sha256", std::string(64, 'a')}, {"identifier_sha256", std::string(64, 'b')}};
  settings::Settings cell = Cell({{"task.identifier", "auto"}, {"task.instance_prompt", "a {identifier}"}});
  cell = cell.With({{"method.kind", "file"}, {"method.path", "/lora.safetensors"}});
  const auto examined = ExamineResult(cell, result);
  ASSERT_TRUE(examined.ok()) << examined.status();
  EXPECT_THAT(examined->inputs,
              ElementsAre(Pair("method.path /lora.safetensors", std::string(64, 'a')),
                          Pair("task.identifier auto (/base) (a {identifier})", std::string(64, 'b'))));
}

TEST(ResultCheckTest, ASuccessWithoutItsPrimaryScoreIsNone) {
  const scheduler::Result result{.scores = {{"clip_i", 0.5}, {"clip_t", 0.2}}};
  EXPECT_TRUE(ExamineResult(Cell(), result).ok()) << "other scores may be missing";
  const auto lacks = ExamineResult(Cell({{"score.primary", "clip_fid"}}), result);
  EXPECT_EQ(lacks.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(lacks.status().message()),
              ::testing::AllOf(HasSubstr("'clip_fid'"), HasSubstr("its scores: clip_i, clip_t")));
  EXPECT_FALSE(ExamineResult(Cell(), scheduler::Result{}).ok());
}

store::SweepSnapshot TwoStates(const plan::Plan& plan, const char* digest) {
  store::SweepSnapshot snapshot;
  snapshot.input_sets = {{{digest, std::string(64, 'a')}}, {{digest, std::string(64, 'b')}}};
  for (int64_t i = 0; i < plan.trial_count(); ++i) {
    snapshot.trials.push_back({.index = i, .cell_index = i % plan.cell_count(), .input_set = i < 2 ? 0 : 1});
  }
  return snapshot;
}

TEST(InputNotesTest, TwoStatesOfOneScorerAreNoted) {
  const auto plan = plan::Plan::Create(*plan_proto::SpecFromProto(testing::SmallSpec(1, 1)));
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(
      InputNotes(TwoStates(*plan, "scorer_sha256"), *plan),
      ElementsAre(::testing::AllOf(HasSubstr("'scorer /scorer'"), HasSubstr("aaaaaaaaaaaa… in 2 trials (first: 0)"),
                                   HasSubstr("bbbbbbbbbbbb… in 1 trials (first: 2)"))));
  EXPECT_TRUE(InputNotes(store::SweepSnapshot{}, *plan).empty());
}

TEST(InputNotesTest, TwoKindsOfArithmeticAreNoted) {
  const auto plan = plan::Plan::Create(*plan_proto::SpecFromProto(testing::SmallSpec(1, 1)));
  ASSERT_TRUE(plan.ok()) << plan.status();
  store::SweepSnapshot snapshot;
  snapshot.numerics = {{"2, AVX2", 4}};
  EXPECT_TRUE(InputNotes(snapshot, *plan).empty());
  snapshot.numerics = {{"1", 3}, {"2, AVX2", 4}};
  EXPECT_THAT(InputNotes(snapshot, *plan),
              ElementsAre(::testing::AllOf(HasSubstr("2 kinds of arithmetic"),
                                           HasSubstr("3 of version 1, 4 of version 2, AVX2"))));
}

TEST(InputNotesTest, AScorerForEachLevelIsADesign) {
  v1::SweepSpec spec = testing::SmallSpec(1, 1);
  spec.mutable_settings()->erase("scorer");
  spec.clear_factors();
  (*spec.mutable_settings())["method.input"] = "CA_out";
  auto* factor = spec.add_factors();
  factor->set_key("scorer");
  for (const char* level : {"/a", "/b"}) factor->add_levels(level);
  spec.set_replicates(2);
  const auto plan = plan::Plan::Create(*plan_proto::SpecFromProto(spec));
  ASSERT_TRUE(plan.ok()) << plan.status();
  store::SweepSnapshot snapshot = TwoStates(*plan, "scorer_sha256");
  for (auto& trial : snapshot.trials) trial.input_set = static_cast<int32_t>(trial.cell_index);
  EXPECT_TRUE(InputNotes(snapshot, *plan).empty());
}

}  // namespace
}  // namespace loupe::coordinator::engine
