// On the built-in base: 32 ids, two of them bos and eos.
#include "worker/io/prompt_length.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace loupe::worker::io {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kBase[] = "configs/bases/emoji-sd";

ClipTokenizer Tokenizer() { return ClipTokenizer::Load(std::string(kBase) + "/tokenizer").value(); }

std::string Words(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += i == 0 ? "cat" : " cat";
  return text;
}

TEST(PromptLengthTest, IsTheLesserOfTokenizerAndTower) {
  EXPECT_EQ(PromptLength(kBase, Tokenizer()).value(), 32);
  EXPECT_EQ(PromptLength("no/such/base", Tokenizer()).status().code(), absl::StatusCode::kNotFound);
}

TEST(PromptLengthTest, APromptThatFitsKeepsAll) {
  const ClipTokenizer tokenizer = Tokenizer();
  ASSERT_EQ(tokenizer.Tokenise(Words(30)).size(), 30u) << "one token a word";
  EXPECT_EQ(CutOff(tokenizer, "", 32), "");
  EXPECT_EQ(CutOff(tokenizer, Words(30), 32), "");
  EXPECT_EQ(DescribeCutOff(tokenizer, Words(30), 32), "");
}

TEST(PromptLengthTest, WhatIsCutOffIsNamed) {
  const ClipTokenizer tokenizer = Tokenizer();
  EXPECT_EQ(CutOff(tokenizer, Words(30) + " in  a hat", 32), "in  a hat");
  EXPECT_EQ(CutOff(tokenizer, Words(28) + "\n\tin a red hat", 32), "red hat");
  EXPECT_THAT(DescribeCutOff(tokenizer, Words(30) + " in a hat", 32),
              AllOf(HasSubstr("takes 30"), HasSubstr("'in a hat' is cut off")));
}

TEST(PromptLengthTest, AWordThatIsNotKeptWholeIsCutOff) {
  const ClipTokenizer tokenizer = Tokenizer();
  const std::string long_word(200, '9');  // a token each
  EXPECT_EQ(CutOff(tokenizer, "a cat " + long_word + " b", 32), long_word + " b");
  EXPECT_EQ(CutOff(tokenizer, long_word, 32), long_word);
}

// The text before what is cut off decides about every id.
TEST(PromptLengthTest, TextsThatDifferInItHaveTheSameIds) {
  const ClipTokenizer tokenizer = Tokenizer();
  EXPECT_EQ(tokenizer.Encode(Words(30) + " in a hat", 32), tokenizer.Encode(Words(30) + " on a mat", 32));
}

}  // namespace
}  // namespace loupe::worker::io
