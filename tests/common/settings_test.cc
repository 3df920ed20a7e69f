#include "common/settings/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "common/positions.h"
#include "fmt/format.h"

namespace loupe {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::map<std::string, std::string> Complete() {
  return {{"base", "/b"},
          {"scorer", "/s"},
          {"task.images", "/i"},
          {"task.instance_prompt", "a photo of sks"},
          {"task.class_prompt", "a photo of cat face"},
          {"method.input", "CA_out"},
          {"method.output", "FFN_in"},
          {"method.width", "8"},
          {"budget.steps", "5"}};
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(SettingRulesTest, KeysAreUniqueAndDescribed) {
  std::set<std::string> keys;
  for (const settings::SettingRule& rule : settings::SettingRules()) {
    EXPECT_TRUE(keys.insert(rule.key).second) << rule.key;
    EXPECT_THAT(rule.description, ::testing::EndsWith(".")) << rule.key;
    // Names may be of a closed list.
    if (rule.type != settings::SettingType::kNames) {
      EXPECT_EQ(rule.type == settings::SettingType::kChoice, !rule.choices.empty()) << rule.key;
    }
    EXPECT_LE(rule.minimum, rule.maximum) << rule.key;
  }
}

TEST(SettingRulesTest, DefaultsAreCanonicalValuesOfTheirRules) {
  for (const settings::SettingRule& rule : settings::SettingRules()) {
    if (rule.default_value.empty()) continue;
    EXPECT_FALSE(rule.required) << rule.key << " is required and has a default";
    const absl::StatusOr<std::string> canonical = settings::CanonicalValue(rule, rule.default_value);
    ASSERT_TRUE(canonical.ok()) << canonical.status();
    EXPECT_EQ(*canonical, rule.default_value) << rule.key;
  }
}

TEST(SettingRulesTest, ConditionsAndAlternativesNameRowsOfTheTable) {
  for (const settings::SettingRule& rule : settings::SettingRules()) {
    if (!rule.condition_key.empty()) {
      const settings::SettingRule* condition = settings::FindSettingRule(rule.condition_key);
      ASSERT_NE(condition, nullptr) << rule.key;
      EXPECT_LT(condition, &rule) << rule.key << ": a condition must stand before what rests on it";
      for (const std::string& value : rule.condition_values)
        EXPECT_THAT(condition->choices, Contains(value)) << rule.key;
    }
    if (!rule.alternative_key.empty()) {
      const settings::SettingRule* other = settings::FindSettingRule(rule.alternative_key);
      ASSERT_NE(other, nullptr) << rule.key;
      EXPECT_EQ(other->alternative_key, rule.key);
      EXPECT_TRUE(!rule.required && rule.default_value.empty()) << rule.key;
    }
  }
}

TEST(SettingRulesTest, PositionChoicesAreThePositionGraphs) {
  EXPECT_EQ(settings::FindSettingRule("method.input")->choices.size(), InputPositions().size());
  EXPECT_EQ(settings::FindSettingRule("method.output")->choices.size(), OutputPositions().size());
}

TEST(ResolveSettingKeyTest, FullKeysMapToThemselvesAndShortOnesToTheirs) {
  for (const settings::SettingRule& rule : settings::SettingRules())
    EXPECT_EQ(settings::ResolveSettingKey(rule.key).value(), rule.key);
  EXPECT_EQ(settings::ResolveSettingKey("scale").value(), "method.scale");
}

TEST(ResolveSettingKeyTest, AmbiguousShortKeyNamesAllItCouldBe) {
  const absl::Status status = settings::ResolveSettingKey("steps").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(status), AllOf(HasSubstr("budget.steps"), HasSubstr("sample.steps")));
}

TEST(ResolveSettingKeyTest, MisspeltKeyGetsASuggestionAndANonsenseOneDoesNot) {
  const absl::Status near = settings::ResolveSettingKey("learning_rte").status();
  EXPECT_EQ(near.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(near), HasSubstr("did you mean 'learning_rate'?"));
  EXPECT_THAT(Message(settings::ResolveSettingKey("quixotic-zebra").status()),
              ::testing::Not(HasSubstr("did you mean")));
  EXPECT_THAT(Message(settings::ResolveSettingKey(std::string(100000, 'x')).status()),
              ::testing::Not(HasSubstr("did you mean")));
}

TEST(CanonicalValueTest, NumbersGetOneSpelling) {
  const settings::SettingRule& scale = *settings::FindSettingRule("method.scale");
  for (const char* text : {"1", "1.0", " 1e0 ", "+1", "0.1e1"})
    EXPECT_EQ(settings::CanonicalValue(scale, text).value(), "1") << text;
  EXPECT_EQ(settings::CanonicalValue(scale, "-0.0").value(), "0");
  EXPECT_EQ(settings::CanonicalValue(scale, "0.1").value(), "0.1");
  EXPECT_EQ(settings::CanonicalValue(*settings::FindSettingRule("budget.steps"), "0050").value(), "50");
}

TEST(CanonicalValueTest, WhatIsNotANumberInRangeIsRefused) {
  const settings::SettingRule& scale = *settings::FindSettingRule("method.scale");
  for (const char* text : {"", "one", "nan", "inf", "-inf", "1,5", "1e400", "1001", "-1000.5"}) {
    EXPECT_EQ(settings::CanonicalValue(scale, text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
  const settings::SettingRule& batch = *settings::FindSettingRule("budget.batch");
  for (const char* text : {"0", "4097", "4.0", "1e2", "99999999999999999999", "-1"}) {
    EXPECT_THAT(Message(settings::CanonicalValue(batch, text).status()), HasSubstr("a whole number from 1 to 4096"))
        << text;
  }
  // Both bounds themselves are allowed.
  EXPECT_TRUE(settings::CanonicalValue(batch, "1").ok());
  EXPECT_TRUE(settings::CanonicalValue(batch, "4096").ok());
}

TEST(CanonicalValueTest, ChoicesIgnoreLetterCaseAndSuggest) {
  const settings::SettingRule& input = *settings::FindSettingRule("method.input");
  EXPECT_EQ(settings::CanonicalValue(input, "ca_OUT").value(), "CA_out");
  EXPECT_THAT(Message(settings::CanonicalValue(input, "CA_ouy").status()), HasSubstr("did you mean 'CA_out'?"));
}

TEST(CanonicalValueTest, TextIsOneLineOfBoundedLength) {
  const settings::SettingRule& prompt = *settings::FindSettingRule("task.instance_prompt");
  EXPECT_EQ(settings::CanonicalValue(prompt, "  a photo of ☕ ").value(), "a photo of ☕");
  EXPECT_FALSE(settings::CanonicalValue(prompt, "   ").ok());
  EXPECT_FALSE(settings::CanonicalValue(prompt, "a\nb").ok());
  EXPECT_FALSE(settings::CanonicalValue(prompt, std::string("a\0b", 3)).ok());
  EXPECT_TRUE(settings::CanonicalValue(prompt, std::string(4096, 'a')).ok());
  EXPECT_FALSE(settings::CanonicalValue(prompt, std::string(4097, 'a')).ok());
}

// What is not the text that was meant conditions the model on something else, without a word.
TEST(CanonicalValueTest, TextIsUtf8WithoutAByteOrderMark) {
  const settings::SettingRule& prompt = *settings::FindSettingRule("task.instance_prompt");
  EXPECT_EQ(settings::CanonicalValue(prompt,
                                     "\xEF\xBB\xBF"
                                     "a cat")
                .value(),
            "a cat");
  EXPECT_THAT(Message(settings::CanonicalValue(prompt, "a caf\xe9").status()),
              HasSubstr("byte 6 of 'a caf\\xe9' is not UTF-8"));
  EXPECT_TRUE(settings::CanonicalValue(*settings::FindSettingRule("task.images"), "/data/caf\xe9").ok())
      << "a path is bytes";
}

TEST(CanonicalValueTest, BooleansHaveTwoSpellings) {
  const settings::SettingRule& flip = *settings::FindSettingRule("task.flip");
  for (const char* text : {"true", "True", "yes", "ON"})
    EXPECT_EQ(settings::CanonicalValue(flip, text).value(), "true");
  for (const char* text : {"false", "no", "off"}) EXPECT_EQ(settings::CanonicalValue(flip, text).value(), "false");
  EXPECT_FALSE(settings::CanonicalValue(flip, "1").ok());
}

TEST(CanonicalValueTest, NamesAreJoinedBySpaces) {
  const settings::SettingRule& targets = *settings::FindSettingRule("method.targets");
  EXPECT_EQ(settings::CanonicalValue(targets, " to_q,to_k ,  attn2.to_out.0\t").value(), "to_q to_k attn2.to_out.0");
  for (const char* text : {"", " , ", "to_q to_q", "to_q;to_k", "(to_q|to_k)"})
    EXPECT_FALSE(settings::CanonicalValue(targets, text).ok()) << text;
}

TEST(FitsNameTest, PatternIsARunOfWholeParts) {
  constexpr std::string_view kName = "down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_out.0";
  for (const char* pattern : {"attn2", "to_out.0", "down_blocks.0", "attn*", "down_blocks.*.attn2", "*", "*.to_*.0"})
    EXPECT_TRUE(settings::FitsName(pattern, kName)) << pattern;
  for (const char* pattern : {"attn", "to_out.1", "blocks.0", "down_blocks.0.attn2", "*.to_q", "attn1*"})
    EXPECT_FALSE(settings::FitsName(pattern, kName)) << pattern;
}

TEST(SettingsTest, DefaultsAreFilledIn) {
  const absl::StatusOr<settings::Settings> settings = settings::Settings::Create(Complete());
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->Integer("budget.batch"), 4);
  EXPECT_EQ(settings->Real("sample.guidance"), 7);
  EXPECT_TRUE(settings->Boolean("task.flip"));
  EXPECT_FALSE(settings->Has("method.parameters"));
}

TEST(SettingsTest, CreatingFromItsOwnValuesChangesNothing) {
  const absl::StatusOr<settings::Settings> first = settings::Settings::Create(Complete());
  ASSERT_TRUE(first.ok());
  const absl::StatusOr<settings::Settings> second =
      settings::Settings::Create({first->values().begin(), first->values().end()});
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->values(), first->values());
}

TEST(SettingsTest, AllViolationsComeTogether) {
  std::map<std::string, std::string> values = Complete();
  values.erase("base");
  values["budget.steps"] = "0";
  values["sample.sampler"] = "dim";
  values["colour"] = "red";
  const absl::StatusOr<settings::Settings> settings = settings::Settings::Create(values);
  EXPECT_EQ(settings.status().code(), absl::StatusCode::kInvalidArgument);
  const std::vector<FieldViolation> violations = FieldViolationsOf(settings.status());
  EXPECT_EQ(violations, settings::SettingViolations(values));
  EXPECT_THAT(violations, ::testing::UnorderedElementsAre(Field(&FieldViolation::field, "base"),
                                                          Field(&FieldViolation::field, "budget.steps"),
                                                          Field(&FieldViolation::field, "sample.sampler"),
                                                          Field(&FieldViolation::field, "colour")));
}

TEST(SettingsTest, ExactlyOneOfTwoAlternativesIsGiven) {
  std::map<std::string, std::string> values = Complete();
  values["method.parameters"] = "1000";
  EXPECT_THAT(settings::SettingViolations(values),
              ElementsAre(Field(&FieldViolation::description, HasSubstr("given beside method.parameters"))));
  values.erase("method.width");
  EXPECT_THAT(settings::SettingViolations(values), IsEmpty());
  values.erase("method.parameters");
  EXPECT_THAT(settings::SettingViolations(values),
              ElementsAre(Field(&FieldViolation::description, HasSubstr("give it or method.parameters"))));
}

TEST(SettingsTest, ShortKeyIsRefusedWithTheFullOne) {
  std::map<std::string, std::string> values = Complete();
  values["scale"] = "2";
  EXPECT_THAT(settings::SettingViolations(values),
              ElementsAre(Field(&FieldViolation::description, HasSubstr("'method.scale'"))));
}

TEST(SettingsTest, WrongConditionValueDoesNotAccuseWhatRestsOnIt) {
  std::map<std::string, std::string> values = Complete();
  values["method.kind"] = "adaptor";
  EXPECT_THAT(settings::SettingViolations(values), ElementsAre(Field(&FieldViolation::field, "method.kind")));
}

TEST(SettingsTest, APrimaryScoreThatWouldNotBeComputedIsRefusedBeforehand) {
  auto values = Complete();
  values["score.primary"] = "fid";
  EXPECT_THAT(Message(settings::Settings::Create(values).status()),
              HasSubstr("score.primary: fid is not computed without score.inception; give that too"));
  values["score.inception"] = "/inception.pth";
  EXPECT_TRUE(settings::Settings::Create(values).ok());
  values["score.primary"] = "clip_pres";
  EXPECT_FALSE(settings::Settings::Create(values).ok());
  values["score.prior_samples"] = "16";
  EXPECT_TRUE(settings::Settings::Create(values).ok());
  values["score.primary"] = "clip_fid_class";  // the default number of class images is not 0
  EXPECT_TRUE(settings::Settings::Create(values).ok());
  values["task.class_images"] = "0";
  EXPECT_FALSE(settings::Settings::Create(values).ok());
}

// What each version of the table took for granted, written down when it was the newest: key and default, a line each. A
// difference here means that stored sweeps change their meaning.
class DefaultsOfVersion : public ::testing::TestWithParam<int32_t> {};

TEST_P(DefaultsOfVersion, StayWhatTheyWere) {
  std::ifstream file(fmt::format("tests/common/setting_defaults_v{}.txt", GetParam()));
  ASSERT_TRUE(file.is_open());
  std::map<std::string, std::string> expected;
  for (std::string line; std::getline(file, line);) {
    const size_t space = line.find(' ');
    expected[line.substr(0, space)] = line.substr(space + 1);
  }
  const settings::SettingDefaults defaults = settings::SettingDefaults::OfVersion(GetParam());
  EXPECT_EQ(defaults.values, expected);
  EXPECT_EQ(defaults.version, GetParam());
}

INSTANTIATE_TEST_SUITE_P(All, DefaultsOfVersion, ::testing::Range(1, settings::kSettingsVersion + 1));

TEST(SettingDefaultsTest, VersionsOfTheTableAreConsistent) {
  for (const settings::SettingRule& rule : settings::SettingRules()) {
    EXPECT_GE(rule.since, 1) << rule.key;
    EXPECT_LE(rule.since, settings::kSettingsVersion) << rule.key;
    EXPECT_TRUE(rule.neutral.empty() || rule.since > 1) << rule.key;
    EXPECT_FALSE(rule.since > 1 && rule.required && rule.condition_key.empty()) << rule.key << " refuses older sweeps";
    for (const auto& [choice, since] : rule.choices_since) {
      EXPECT_THAT(rule.choices, Contains(choice)) << rule.key;
      EXPECT_GT(since, rule.since) << rule.key;
      EXPECT_LE(since, settings::kSettingsVersion) << rule.key;
    }
    int32_t before = 0;
    for (const auto& [last, value] : rule.former_defaults) {
      EXPECT_GT(last, before) << rule.key;
      EXPECT_LT(last, settings::kSettingsVersion) << rule.key;
      EXPECT_EQ(value.empty() ? "" : settings::CanonicalValue(rule, value).value_or("?"), value) << rule.key;
      before = last;
    }
  }
}

TEST(SettingDefaultsTest, AProgramsOwnDefaultsStayOut) {
  settings::SettingDefaults stored = settings::SettingDefaults::OfVersion(1);
  stored.values["budget.batch"] = "2";
  const absl::StatusOr<settings::Settings> settings = settings::Settings::Create(Complete(), stored);
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->Integer("budget.batch"), 2);
  // As a worker gets them.
  const std::map<std::string, std::string> sent(settings->values().begin(), settings->values().end());
  EXPECT_EQ(settings::Settings::Create(sent, settings::SettingDefaults::None(1))->values(), settings->values());
}

TEST(SettingDefaultsTest, AHoleIsRefused) {
  EXPECT_THAT(Message(settings::Settings::Create(Complete(), settings::SettingDefaults::None(1)).status()),
              HasSubstr("task.kind: missing; in version 1 of the settings it always has a value"));
}

TEST(SettingsVersionTest, ALaterMethodNeedsItsVersion) {
  const settings::Settings adapter = *settings::Settings::Create(Complete());
  EXPECT_EQ(settings::RequiredSettingsVersion(adapter.values()), 1);
  for (const auto& [key, value] : adapter.values()) {
    EXPECT_EQ(settings::SettingsForVersion(adapter.values(), 1).contains(key),
              settings::FindSettingRule(key)->since == 1)
        << key;
  }
  std::map<std::string, std::string> values = Complete();
  for (const char* key : {"method.input", "method.output", "method.width"}) values.erase(key);
  values["method.kind"] = "bitfit";
  EXPECT_EQ(settings::RequiredSettingsVersion(settings::Settings::Create(values)->values()), 2);
  values["method.kind"] = "lora";
  const settings::Settings lora = *settings::Settings::Create(values);
  EXPECT_EQ(settings::RequiredSettingsVersion(lora.values()), 2);
  EXPECT_EQ(lora.Integer("method.rank"), 4);
  EXPECT_FALSE(lora.Has("method.alpha")) << "not set: the rank";
  EXPECT_FALSE(settings::SettingsForVersion(lora.values(), 1).contains("method.rank"));
  EXPECT_EQ(settings::RequiredSettingsVersion({{"train.of_tomorrow", "1"}}), settings::kSettingsVersion + 1);
}

TEST(SettingsTest, OwnSettingsOfAMethodAreRefusedInOthers) {
  std::map<std::string, std::string> values = Complete();
  values["method.rank"] = "8";
  EXPECT_THAT(settings::SettingViolations(values),
              ElementsAre(Field(&FieldViolation::description, HasSubstr("only meaningful where method.kind is lora"))));
  values["method.kind"] = "lora";
  values.erase("method.width");
  EXPECT_THAT(settings::SettingViolations(values),
              ::testing::UnorderedElementsAre(Field(&FieldViolation::field, "method.input"),
                                              Field(&FieldViolation::field, "method.output")));
}

TEST(SettingsTest, NamesOfAClosedListAreThose) {
  std::map<std::string, std::string> values = Complete();
  for (const char* key : {"method.input", "method.output", "method.width"}) values.erase(key);
  values["method.kind"] = "difffit";
  values["method.gamma"] = "qkv, branch";
  EXPECT_EQ(settings::Settings::Create(values)->Text("method.gamma"), "qkv branch");
  values["method.gamma"] = "qkv branches";
  EXPECT_THAT(settings::SettingViolations(values),
              ElementsAre(Field(&FieldViolation::description,
                                HasSubstr("'branches' is not one or more of qkv, proj, ff, branch, none; did you mean "
                                          "'branch'?"))));
}

TEST(SettingRulesTest, NeedsAreOfChoicesAndNameRowsOfTheTable) {
  for (const settings::SettingRule& rule : settings::SettingRules()) {
    for (const auto& [choice, needs] : rule.choice_needs) {
      EXPECT_THAT(rule.choices, Contains(choice)) << rule.key;
      for (const std::string& needed : needs) EXPECT_NE(settings::FindSettingRule(needed), nullptr) << needed;
    }
  }
}

}  // namespace
}  // namespace loupe
