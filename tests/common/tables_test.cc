// The tables of names that outlive a program: scores and random streams.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "common/atomic_file.h"
#include "common/score_table.h"
#include "common/settings/settings.h"
#include "common/streams.h"

namespace loupe {
namespace {

using ::testing::HasSubstr;

TEST(ScoreTableTest, NamesAreUniqueAndTheirNeedsAreSettings) {
  std::set<std::string_view> names;
  for (const ScoreEntry& score : kScores) {
    EXPECT_TRUE(names.insert(score.name).second) << score.name;
    for (const std::string_view setting : score.needs) {
      EXPECT_TRUE(setting.empty() || settings::FindSettingRule(setting) != nullptr) << setting;
    }
  }
  EXPECT_EQ(settings::FindSettingRule("score.primary")->choices.front(), "clip_i");
}

TEST(ScoreTableTest, AnUntunedBasesScoreIsTheScoresOwnRow) {
  EXPECT_EQ(FindScore("clip_fid_base"), FindScore("clip_fid"));
  EXPECT_EQ(FindScore("clip_fid")->better, Better::kSmaller);
  EXPECT_EQ(FindScore("_base"), nullptr);
  EXPECT_EQ(FindScore("fidelity"), nullptr);
}

// The seeds of sweep 7's replicate 0, as a release before the table gave them.
TEST(StreamsTest, SeedsAreThoseOfTheirNames) {
  const TrialSeeds seeds{7, 0};
  EXPECT_EQ(seeds(Stream::kAdapterInit), 2660338523677273671u);
  EXPECT_EQ(seeds(Stream::kValidation), 3011958815120241020u);
  EXPECT_EQ(seeds(Stream::kCaptionDropout), 3376505843414582425u);
  EXPECT_EQ((TrialSeeds{7, 3}(Stream::kClassPictures)), seeds(Stream::kClassPictures)) << "one for the sweep";
  EXPECT_NE((TrialSeeds{7, 3}(Stream::kNoise)), seeds(Stream::kNoise));
}

TEST(StreamsTest, TheTableIsInTheEnumerationsOrderAndDocumented) {
  const auto formats = ReadFile("docs/formats.md");
  ASSERT_TRUE(formats.ok()) << formats.status();
  for (size_t i = 0; i < kStreams.size(); ++i) {
    EXPECT_EQ(kStreams[i].stream, static_cast<Stream>(i));
    EXPECT_THAT(*formats, HasSubstr("`" + std::string(kStreams[i].name) + "`"));
  }
}

}  // namespace
}  // namespace loupe
