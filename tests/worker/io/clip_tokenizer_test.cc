// What is refused, and the rules that parity with transformers' tokenizer (tests/parity) does not single out.
#include "worker/io/clip_tokenizer.h"

#include <filesystem>
#include <fstream>
#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_folder.h"

namespace loupe::worker::io {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ClipTokenizerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Write("vocab.json",
          R"({"a": 0, "b": 1, "b</w>": 2, "ab</w>": 3, "<|startoftext|>": 4, "<|endoftext|>": 5, "!": 6})");
    Write("merges.txt", "#version: 0.2\na b</w>\n");
    Write("tokenizer_config.json", R"({"model_max_length": 5, "pad_token": {"content": "!"}})");
  }

  void Write(const std::string& name, const std::string& text) { std::ofstream(folder_ / name) << text; }
  absl::StatusOr<ClipTokenizer> Load() { return ClipTokenizer::Load(folder_.path()); }
  void ExpectRefused(const std::string& file, const std::string& why) {
    const auto tokenizer = Load();
    ASSERT_FALSE(tokenizer.ok());
    EXPECT_THAT(std::string(tokenizer.status().message()), AllOf(HasSubstr(file), HasSubstr(why)));
  }

  const testing::TempFolder folder_;
};

TEST_F(ClipTokenizerTest, MergesCutsAndPads) {
  const auto tokenizer = Load();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(tokenizer->max_length(), 5);
  EXPECT_THAT(tokenizer->Encode("AB"), ElementsAre(4, 3, 5, 6, 6));
  EXPECT_THAT(tokenizer->Encode("ab ab ab ab"), ElementsAre(4, 3, 3, 3, 5));
  EXPECT_THAT(tokenizer->Encode("ab", 2), ElementsAre(4, 5));
  // No token for 'z': the unknown one.
  EXPECT_THAT(tokenizer->Tokenise("z"), ElementsAre(5));
  EXPECT_THAT(tokenizer->Tokenise("ab<|endoftext|>ab"), ElementsAre(3, 5, 3));
}

TEST_F(ClipTokenizerTest, AddedTokensAreNotCutIntoPieces) {
  Write("added_tokens.json", R"({"<cat-toy>": 7})");
  const auto tokenizer = Load();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(tokenizer->vocab_size(), 8);
  // No flags in that file: searched in lower case.
  EXPECT_THAT(tokenizer->Tokenise("ab <CAT-toy>ab"), ElementsAre(3, 7, 3));
  Write("added_tokens.json", R"({"<cat-toy>": 8})");
  ExpectRefused("", "the added token '<cat-toy>' has id 8, expected 7: the next one");
}

TEST_F(ClipTokenizerTest, SpecialTokensMapGoesBeforeTheConfig) {
  Write("tokenizer_config.json", R"({"pad_token": "<|endoftext|>"})");
  Write("special_tokens_map.json", R"({"pad_token": "!"})");
  EXPECT_EQ(Load()->pad_id(), 6);
  Write("special_tokens_map.json", R"({"pad_token": {"content": "a", "lstrip": false, "normalized": true}})");
  EXPECT_EQ(Load()->pad_id(), 0);
  // But not where tokenizer_config.json has the added tokens too.
  Write("tokenizer_config.json", R"({"pad_token": "<|endoftext|>", "added_tokens_decoder": {}})");
  EXPECT_EQ(Load()->pad_id(), 5);
  Write("tokenizer_config.json", R"({"pad_token": null})");
  Write("special_tokens_map.json", "{}");
  ExpectRefused("tokenizer_config.json", "'pad_token' is null, expected a token");
}

TEST_F(ClipTokenizerTest, OtherSettingsAreRefusedByName) {
  for (const std::string setting :
       {R"("tokenizer_class": "T5Tokenizer")", R"("padding_side": "left")", R"("truncation_side": "left")",
        R"("split_special_tokens": true)", R"("add_bos_token": false)", R"("model_max_length": 1)"}) {
    Write("tokenizer_config.json", "{" + setting + "}");
    ExpectRefused("tokenizer_config.json", setting.substr(1, setting.find('"', 1) - 1));
  }
}

TEST_F(ClipTokenizerTest, OneFileAloneWithStepsOfAnotherKind) {
  const std::string steps =
      R"("normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Replace"}, {"type": "Lowercase"}]},
      "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split"}, {"type": "ByteLevel"}]})";
  const std::string model = R"("model": {"type": "BPE", "end_of_word_suffix": "</w>", "merges": [["a", "b</w>"]],
      "vocab": {"a": 0, "b": 1, "b</w>": 2, "ab</w>": 3, "<|startoftext|>": 4, "<|endoftext|>": 5}})";
  std::filesystem::remove(folder_ / "vocab.json");
  std::filesystem::remove(folder_ / "merges.txt");
  std::filesystem::remove(folder_ / "tokenizer_config.json");
  Write("tokenizer.json",
        "{" + model + ", " + steps + R"(, "added_tokens": [{"id": 6, "content": "<x>", "special": true}]})");
  const auto tokenizer = Load();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(tokenizer->max_length(), 77);
  EXPECT_THAT(tokenizer->Tokenise("AB<x>"), ElementsAre(3, 6));
  Write("tokenizer.json", "{" + model + "}");
  ExpectRefused("tokenizer.json", "'normalizer'");
  Write("tokenizer.json",
        "{" + model + ", " + steps +
            R"(, "post_processor": {"type": "RobertaProcessing", "cls": ["a", 0], "sep": ["b", 1]}})");
  ExpectRefused("tokenizer.json", "'post_processor'");
  Write("tokenizer.json", "{" + model + ", " + steps + R"(, "padding": {"direction": "Left"}})");
  ExpectRefused("tokenizer.json", "'direction'");
  Write("tokenizer.json", R"({"model": {"type": "WordPiece"}})");
  ExpectRefused("tokenizer.json", "'type' is \"WordPiece\"");
}

TEST_F(ClipTokenizerTest, BytesThatAreNotUtf8AreReplacedNotRefused) {
  const auto tokenizer = ClipTokenizer::Load("configs/bases/emoji-sd/tokenizer");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(tokenizer->Tokenise("a\xFFz"), tokenizer->Tokenise("a\xEF\xBF\xBDz"));
}

TEST_F(ClipTokenizerTest, MissingFilesAreNamed) {
  for (const char* name : {"vocab.json", "merges.txt"}) {
    SetUp();
    std::filesystem::remove(folder_ / name);
    const auto tokenizer = Load();
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kNotFound);
    EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr(name));
  }
}

TEST_F(ClipTokenizerTest, MergesOutsideTheVocabularyAreRefusedWithTheirLine) {
  Write("merges.txt", "#version: 0.2\na b</w>\na a\n");
  ExpectRefused("merges.txt", "line 3");
  Write("merges.txt", "#version: 0.2\nab\n");
  ExpectRefused("merges.txt", "line 2");
}

TEST_F(ClipTokenizerTest, BadVocabularyAndSpecialTokensAreRefused) {
  Write("tokenizer_config.json", R"({"bos_token": 3})");
  ExpectRefused("tokenizer_config.json", "bos_token");
  // Found at every place of every text, for ever.
  Write("tokenizer_config.json", R"({"bos_token": ""})");
  Write("vocab.json", R"({"": 0, "<|endoftext|>": 1})");
  Write("merges.txt", "");
  ExpectRefused("tokenizer_config.json", "bos_token is empty");
  Write("vocab.json", R"({"a": -1})");
  ExpectRefused("vocab.json", "'a' has id -1");
}

// On the built-in base's, whose vocabulary ends at 2014.
TEST(AddedWordTest, AWordBecomesIdsOfItsOwn) {
  const ClipTokenizer plain = *ClipTokenizer::Load("configs/bases/emoji-sd/tokenizer");
  const auto with = plain.WithWord("<Toy>", 2015, 3);
  ASSERT_TRUE(with.ok()) << with.status();
  EXPECT_THAT(with->Tokenise("a <toy>cat"), ::testing::ElementsAre(320, 2015, 2016, 2017, 1257));
  EXPECT_EQ(with->Tokenise("a toy cat"), plain.Tokenise("a toy cat"));
  EXPECT_THAT(plain.Tokenise("a <toy>"), ::testing::Not(::testing::Contains(2015)));
  // Two words side by side, then a third one on top of them.
  EXPECT_THAT(with->WithWord("<other>", 2018, 1)->Tokenise("<toy> <other>"),
              ::testing::ElementsAre(2015, 2016, 2017, 2018));
  EXPECT_THAT(std::string(with->WithWord("<toy>", 2018, 1).status().message()), HasSubstr("as a token of its own"));
  EXPECT_FALSE(plain.WithWord("  ", 2015, 1).ok());
}

TEST(AddedWordTest, WordsKnowHowRareTheyAre) {
  const ClipTokenizer tokenizer = *ClipTokenizer::Load("configs/bases/emoji-sd/tokenizer");
  std::map<std::string, ClipTokenizer::Word> words;
  for (const ClipTokenizer::Word& word : tokenizer.Words()) words[word.text] = word;
  EXPECT_LT(words.at("face").rarity, 0.05);
  EXPECT_EQ(words.at("sks").rarity, 1) << "the last merge";
  EXPECT_EQ(words.at("a").rarity, 0);
  EXPECT_FALSE(words.contains("toy"));
}

}  // namespace
}  // namespace loupe::worker::io
