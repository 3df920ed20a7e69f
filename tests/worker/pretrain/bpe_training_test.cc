#include "worker/pretrain/bpe_training.h"

#include <unistd.h>

#include <filesystem>

#include "common/atomic_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/io/clip_tokenizer.h"

namespace loupe::worker::pretrain {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;
using ::testing::SizeIs;

TEST(BpeTrainingTest, MergesTheMostFrequentPairFirstAndEqualsAlphabetically) {
  // "ab" twice and "cd" twice: c+d is as frequent as a+b, and comes after it.
  const BpeVocabulary vocabulary = TrainBpe({"cd ab", "ab", "cd", "zz"}, {.merges = 2});
  EXPECT_THAT(vocabulary.merges, ElementsAre(Pair("a", "b</w>"), Pair("c", "d</w>")));
}

TEST(BpeTrainingTest, StopsWhenNoPairOccursTwice) {
  EXPECT_THAT(TrainBpe({"ab cd"}, {.merges = 10}).merges, SizeIs(0));
}

TEST(BpeTrainingTest, VocabularyIsBytesThenMergesThenTheTwoSpecialTokens) {
  const BpeVocabulary vocabulary = TrainBpe({"aa aa"}, {.merges = 5});
  EXPECT_EQ(vocabulary.size(), 512 + 1 + 2);
  EXPECT_EQ(vocabulary.ids.at("!"), 0);
  EXPECT_EQ(vocabulary.ids.at("!</w>"), 256);
  EXPECT_EQ(vocabulary.ids.at("aa</w>"), 512);
  EXPECT_EQ(vocabulary.start_id(), 513);
  EXPECT_EQ(vocabulary.ids.at("<|endoftext|>"), vocabulary.end_id());
}

TEST(BpeTrainingTest, SameTextsInAnyOrderGiveTheSameMerges) {
  const std::vector<std::string> texts = {"grinning face", "red heart", "a photo of red apple", "face"};
  EXPECT_EQ(TrainBpe(texts, {.merges = 20}).merges, TrainBpe({texts.rbegin(), texts.rend()}, {.merges = 20}).merges);
}

class WrittenTokenizerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("loupe_bpe_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_;
};

TEST_F(WrittenTokenizerTest, IsReadBackAndEncodesTrainedWordsAsOneTokenEach) {
  const BpeVocabulary vocabulary =
      TrainBpe({"red heart", "red heart", "RED heart"}, {.merges = 100, .reserved = {"sks"}});
  ASSERT_TRUE(WriteTokenizer(folder_, vocabulary, 16).ok());
  const auto tokenizer = io::ClipTokenizer::Load(folder_);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(tokenizer->max_length(), 16);
  EXPECT_THAT(tokenizer->Tokenise("Red heart"),
              ElementsAre(vocabulary.ids.at("red</w>"), vocabulary.ids.at("heart</w>")));
  EXPECT_THAT(tokenizer->Tokenise("sks"), ElementsAre(vocabulary.ids.at("sks</w>")));
  EXPECT_EQ(tokenizer->bos_id(), vocabulary.start_id());
}

TEST_F(WrittenTokenizerTest, SameVocabularyGivesTheSameBytes) {
  const BpeVocabulary vocabulary = TrainBpe({"red heart", "red heart"}, {.merges = 3});
  ASSERT_TRUE(WriteTokenizer(folder_, vocabulary, 16).ok());
  const auto first = ReadFile(folder_ / "tokenizer.json");
  ASSERT_TRUE(WriteTokenizer(folder_, TrainBpe({"red heart", "red heart"}, {.merges = 3}), 16).ok());
  EXPECT_EQ(*first, *ReadFile(folder_ / "tokenizer.json"));
}

}  // namespace
}  // namespace loupe::worker::pretrain
