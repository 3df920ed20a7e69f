#include "coordinator/plan/sweep_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error_details.h"
#include "coordinator/plan/plan.h"

namespace loupe::coordinator::plan {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kGood[] = R"(name: small-one
title: A small one
base: bases/b
scorer: /abs/scorer
task: {kind: dreambooth, images: ../data/cats, instance_prompt: "a photo of sks", class_prompt: "a photo of cat face"}
method: {kind: adapter, width: 32, init: zero}
factors:
  input: [SA_in, CA_out]
  output: all
  activation: [relu, silu]
  scale: [0.5, 1.0]
exclude: [{activation: silu, scale: 0.5}]
replicates: 2
budget: {steps: 50}
seed: 18446744073709551615
priority: -4
retry: {max_trial_attempts: 5, backoff: 500ms}
)";

std::vector<std::string> ProblemsOf(std::string_view text) {
  const absl::StatusOr<SweepFile> file = ParseSweepFile(text, "f.yaml");
  absl::Status status = file.status();
  if (file.ok()) status = LocateInFile(Plan::Create(file->spec).status(), *file);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  std::vector<std::string> problems;
  for (const FieldViolation& violation : FieldViolationsOf(status))
    problems.push_back(violation.field + ": " + violation.description);
  return problems;
}

std::string Replaced(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(SweepFileTest, WholeFileIsReadIntoTheSpec) {
  const absl::StatusOr<SweepFile> file = ParseSweepFile(kGood, "f.yaml");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->sweep_id, "small-one");
  const SweepSpec& spec = file->spec;
  EXPECT_EQ(spec.display_name, "A small one");
  EXPECT_EQ(spec.settings.at("base"), "bases/b");
  EXPECT_EQ(spec.settings.at("task.class_prompt"), "a photo of cat face");
  EXPECT_EQ(spec.settings.at("method.width"), "32");
  ASSERT_EQ(spec.factors.size(), 4u);
  EXPECT_EQ(spec.factors[0].key, "input");
  EXPECT_EQ(spec.factors[1].levels.size(), 7u);
  EXPECT_THAT(spec.factors[3].levels, ElementsAre("0.5", "1.0"));
  EXPECT_THAT(spec.exclusions, ElementsAre(CellPattern{{"activation", "silu"}, {"scale", "0.5"}}));
  EXPECT_EQ(spec.replicates, 2);
  EXPECT_EQ(spec.seed, 18446744073709551615u);
  EXPECT_EQ(spec.priority, -4);
  EXPECT_EQ(spec.retry.max_trial_attempts, 5);
  EXPECT_EQ(spec.retry.backoff, absl::Milliseconds(500));
  EXPECT_EQ(spec.source_text, kGood);
  const absl::StatusOr<Plan> plan = Plan::Create(spec);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->cell_count(), (4 + 2) * 3);
}

TEST(SweepFileTest, MisspeltKeysNameTheirLineAndTheKeyThatWasMeant) {
  EXPECT_THAT(ProblemsOf(Replaced(kGood, "replicates:", "replicats:")),
              ElementsAre("f.yaml:13:1: 'replicats' is not a key of a sweep file; did you mean 'replicates'?"));
  EXPECT_THAT(ProblemsOf(Replaced(kGood, "{steps: 50}", "{stesp: 50}")),
              ElementsAre("f.yaml:14:10: 'stesp' is not a key of 'budget'; did you mean 'steps'?"));
  EXPECT_THAT(ProblemsOf(Replaced(kGood, "backoff", "backof")), ElementsAre(HasSubstr("did you mean 'backoff'?")));
  EXPECT_THAT(ProblemsOf(Replaced(kGood, "  scale: [", "  scael: [")),
              Contains(AllOf(StartsWith("f.yaml:11:3: "), HasSubstr("did you mean 'scale'?"))));
}

TEST(SweepFileTest, SettingAtTheTopIsSentToItsSection) {
  EXPECT_THAT(ProblemsOf(std::string(kGood) + "batch: 4\n"),
              ElementsAre("f.yaml:18:1: 'batch' does not stand at the top of the file; put it under 'budget:'"));
  EXPECT_THAT(ProblemsOf(std::string(kGood) + "steps: 4\n"), ElementsAre(HasSubstr("'budget:' or 'sample:'")));
}

TEST(SweepFileTest, IllTypedValuesNameTheirPlace) {
  EXPECT_THAT(ProblemsOf(Replaced(kGood, "steps: 50", "steps: many")),
              ElementsAre("f.yaml:14:17: budget.steps: 'many' is not a whole number from 1 to 1000000000"));
  EXPECT_THAT(
      ProblemsOf(Replaced(kGood, "steps: 50", "steps: [10, 20]")),
      ElementsAre(AllOf(StartsWith("f.yaml:14:17: "), HasSubstr("to vary it, list its values under 'factors'"))));
  EXPECT_THAT(ProblemsOf(Replaced(kGood, "replicates: 2", "replicates: two")),
              ElementsAre("f.yaml:13:13: replicates: expected a whole number, found 'two'"));
  EXPECT_THAT(ProblemsOf(Replaced(kGood, "replicates: 2", "replicates: 2.5")), ElementsAre(HasSubstr("found '2.5'")));
  EXPECT_THAT(ProblemsOf(Replaced(kGood, "replicates: 2", "replicates:")), ElementsAre(HasSubstr("found nothing")));
  EXPECT_THAT(ProblemsOf(Replaced(kGood, "backoff: 500ms", "backoff: 500")),
              ElementsAre(HasSubstr("a time with its unit")));
  EXPECT_THAT(ProblemsOf(Replaced(kGood, "budget: {steps: 50}", "budget: 50")),
              Contains(HasSubstr("budget: expected a mapping")));
  EXPECT_THAT(ProblemsOf(Replaced(kGood, "name: small-one", "name: Small One")),
              ElementsAre(StartsWith("f.yaml:1:7: name: 'Small One'")));
}

TEST(SweepFileTest, LevelsAndPairsAreJudgedWhereTheyStand) {
  EXPECT_THAT(ProblemsOf(Replaced(kGood, "[relu, silu]", "[relu, slu]")),
              Contains(AllOf(StartsWith("f.yaml:10:22: "), HasSubstr("did you mean 'silu'?"))));
  const std::string named = Replaced(Replaced(kGood, "  input: [SA_in, CA_out]\n  output: all\n", ""),
                                     "factors:", "positions: [\"CA_out -> FFN_in\", \"FFN_in->SA_in\"]\nfactors:");
  EXPECT_THAT(ProblemsOf(named), ElementsAre(AllOf(StartsWith("f.yaml:7:33: the pair FFN_in -> SA_in is not legal"),
                                                   HasSubstr("legal outputs of FFN_in are FFN_in, Trans_out"))));
}

TEST(SweepFileTest, ProblemsOfShapeAndOfValuesComeTogetherInFileOrder) {
  std::string text = Replaced(kGood, "steps: 50", "stps: 50");
  text = Replaced(text, "width: 32", "width: 0");
  text = Replaced(text, "[relu, silu]", "[relu, slu]");
  EXPECT_THAT(ProblemsOf(text), ElementsAre(StartsWith("f.yaml:6:32: method.width: '0'"), StartsWith("f.yaml:10:22: "),
                                            StartsWith("f.yaml:14:10: 'stps'")));
}

TEST(SweepFileTest, MissingKeysAreReportedForTheFile) {
  const std::vector<std::string> problems =
      ProblemsOf(Replaced(Replaced(kGood, "base: bases/b\n", ""), "width: 32, ", ""));
  EXPECT_THAT(problems, Contains(StartsWith("f.yaml: base: missing")));
  EXPECT_THAT(problems, Contains(StartsWith("f.yaml: method.width: missing; give it or method.parameters")));
  EXPECT_THAT(ProblemsOf(Replaced(kGood, "name: small-one\n", "")), Contains(StartsWith("f.yaml: name: missing")));
}

TEST(SweepFileTest, RepeatedKeysAreRefused) {
  EXPECT_THAT(ProblemsOf(std::string(kGood) + "seed: 3\n"),
              ElementsAre("f.yaml:18:1: the key 'seed' stands here a second time (first in line 15)"));
  EXPECT_THAT(ProblemsOf(Replaced(kGood, "{steps: 50}", "{steps: 50, steps: 60}")),
              ElementsAre(HasSubstr("'steps' stands here a second time")));
}

TEST(SweepFileTest, PositionsAllAreTheTwentyPairs) {
  const std::string text = Replaced(Replaced(kGood, "  input: [SA_in, CA_out]\n  output: all\n", ""),
                                    "factors:", "positions: all\nfactors:");
  const absl::StatusOr<SweepFile> file = ParseSweepFile(text, "f.yaml");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->spec.positions.size(), 20u);
  EXPECT_EQ(Plan::Create(file->spec)->cell_count(), 20 * 3);
}

TEST(SweepFileTest, PositionsBesideInputAndOutputAreRefused) {
  EXPECT_THAT(
      ProblemsOf(Replaced(kGood, "factors:", "positions: all\nfactors:")),
      ElementsAre(HasSubstr("input is set by 'positions' (line 7)"), HasSubstr("output is set by 'positions'")));
}

TEST(SweepFileTest, AllNeedsChoices) {
  EXPECT_THAT(ProblemsOf(Replaced(kGood, "scale: [0.5, 1.0]", "scale: all")),
              Contains(HasSubstr("'all' stands for every choice")));
}

TEST(SweepFileTest, WhatIsNotYamlSaysWhere) {
  EXPECT_THAT(ProblemsOf("name: [a\nb: c"), ElementsAre(AllOf(StartsWith("f.yaml:"), HasSubstr("not valid YAML"))));
  EXPECT_THAT(ProblemsOf(""), ElementsAre(HasSubstr("expected keys")));
  EXPECT_THAT(ProblemsOf("- a\n- b\n"), ElementsAre(HasSubstr("found a list")));
  EXPECT_THAT(ProblemsOf("just text"), ElementsAre(HasSubstr("found 'just text'")));
  EXPECT_THAT(ProblemsOf(std::string(kGood) + "---\nname: b\n"),
              ElementsAre(HasSubstr("a second document begins here")));
}

TEST(SweepFileTest, AnchorsTagsAndOddKeysAreRefused) {
  EXPECT_THAT(ProblemsOf("name: &a small\nbase: *a\n"),
              ElementsAre(AllOf(StartsWith("f.yaml:1:7: "), HasSubstr("anchors"))));
  EXPECT_THAT(ProblemsOf("name: !!binary aGVsbG8=\n"), ElementsAre(HasSubstr("tag")));
  EXPECT_THAT(ProblemsOf("? [a, b]\n: c\n"), ElementsAre(HasSubstr("expected a key")));
}

TEST(SweepFileTest, HugeDeepAndBinaryFilesAreRefused) {
  EXPECT_THAT(ProblemsOf(std::string(kMaxYamlBytes + 1, ' ')), ElementsAre(HasSubstr("more than the 1048576 allowed")));
  EXPECT_THAT(ProblemsOf("name: " + std::string(13, '[') + std::string(13, ']')),
              ElementsAre(HasSubstr("levels of nesting")));
  EXPECT_EQ(ProblemsOf("name: " + std::string(100000, '[')).size(), 1u);
  EXPECT_THAT(ProblemsOf("name: a\nbase: \xff\xfe"), ElementsAre(StartsWith("f.yaml:2:7: the file is not UTF-8")));
  EXPECT_THAT(ProblemsOf("name: \xed\xa0\x80"), ElementsAre(HasSubstr("UTF-8")));  // a surrogate
  EXPECT_THAT(ProblemsOf(std::string("name: a\0b", 9)), ElementsAre(HasSubstr("UTF-8")));
}

TEST(SweepFileTest, RelativePathsBecomeAbsoluteAndOthersStay) {
  absl::StatusOr<SweepFile> file = ParseSweepFile(kGood, "f.yaml");
  ASSERT_TRUE(file.ok());
  file->spec.factors.push_back({"task.images", {"x/./y/", "/z"}});
  MakePathsAbsolute(file->spec, "/home/u/work");
  EXPECT_EQ(file->spec.settings.at("base"), "/home/u/work/bases/b");
  EXPECT_EQ(file->spec.settings.at("scorer"), "/abs/scorer");
  EXPECT_EQ(file->spec.settings.at("task.images"), "/home/u/data/cats");
  EXPECT_EQ(file->spec.settings.at("task.instance_prompt"), "a photo of sks");
  EXPECT_THAT(file->spec.factors.back().levels, ElementsAre("/home/u/work/x/y", "/z"));
}

TEST(SweepFileTest, TextOfAMutatedFileNeverCrashesTheReader) {
  // Every one-byte deletion and a few substitutions of a valid file: refused or read, never worse.
  const std::string good = kGood;
  for (size_t i = 0; i < good.size(); ++i) {
    for (const char replacement : {'\0', '[', '{', ':', '\n', '\xff', '&', '-'}) {
      std::string text = good;
      if (replacement == '\0') {
        text.erase(i, 1);
      } else {
        text[i] = replacement;
      }
      const absl::StatusOr<SweepFile> file = ParseSweepFile(text, "f.yaml");
      if (file.ok()) {
        (void)LocateInFile(Plan::Create(file->spec).status(), *file);
      } else {
        EXPECT_FALSE(FieldViolationsOf(file.status()).empty());
      }
    }
  }
}

TEST(SweepFileTest, ASearchSaysByWhichCurve) {
  const std::string search = Replaced(kGood, "seed:", "mode: search\nsearch: {curve: loss, min_steps: 5}\nseed:");
  const absl::StatusOr<SweepFile> file = ParseSweepFile(search, "f.yaml");
  ASSERT_TRUE(file.ok()) << file.status();
  const absl::StatusOr<Plan> plan = Plan::Create(file->spec);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(
      plan->spec().search,
      (SearchSpec{.curve = "loss", .direction = SearchSpec::Direction::kMinimize, .reduction = 3, .min_steps = 5}));
  EXPECT_FALSE(ParseSweepFile(Replaced(kGood, "seed:", "mode: study\nseed:"), "f.yaml")->spec.search.has_value());

  const auto refused = [](const std::string& lines, const std::string& why) {
    EXPECT_THAT(ProblemsOf(Replaced(kGood, "seed:", lines + "\nseed:")), Contains(HasSubstr(why))) << lines;
  };
  refused("mode: hunt", "mode: expected one of study, search");
  refused("mode: search", "needs a section 'search'");
  refused("search: {curve: loss, min_steps: 5}", "only with 'mode: search'");
  refused("mode: search\nsearch: {curve: loss, min_step: 5}", "did you mean 'min_steps'?");
  refused("mode: search\nsearch: {curve: lost, min_steps: 5}", "'lost' is no curve of a trial");
  refused("mode: search\nsearch: {curve: loss}", "0 is not a whole number from 1");
  refused("mode: search\nsearch: {curve: loss, min_steps: 5, reduction: 1}", "1 is not a whole number from 2 to 100");
  refused("mode: search\nsearch: {curve: loss, min_steps: 5, direction: up}", "expected one of minimize, maximize");
  refused("mode: search\nsearch: {curve: validation_loss, min_steps: 5}", "train.validate_every is 0");
  refused("mode: search\nsearch: {curve: clip_i, min_steps: 5}", "score.every is 0");
}

}  // namespace
}  // namespace loupe::coordinator::plan
