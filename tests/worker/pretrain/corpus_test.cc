#include "worker/pretrain/corpus.h"

#include <set>

#include "absl/strings/str_replace.h"
#include "common/atomic_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_folder.h"
#include "worker/pretrain/bpe_training.h"

namespace loupe::worker::pretrain {
namespace {

using ::testing::SizeIs;

data::EmojiItem Item(const std::string& name, std::vector<std::string> keywords, const std::string& subgroup = "s") {
  data::EmojiItem item;
  item.name = name;
  item.keywords = std::move(keywords);
  item.subgroup = subgroup;
  return item;
}

TEST(CorpusTest, BuiltInListHoldsOutNineCatsAndThreeMonkeysFromTraining) {
  const auto corpus = Corpus::Read("configs/bases/emoji-sd/items.json");
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  EXPECT_THAT(corpus->held_out, SizeIs(12));
  EXPECT_THAT(corpus->training, SizeIs(1346));
  for (const data::EmojiItem& item : corpus->training) {
    EXPECT_NE(item.subgroup, "cat-face") << item.name;
    EXPECT_NE(item.subgroup, "monkey-face") << item.name;
  }
}

TEST(CorpusTest, HeldOutNamesDoNotChangeTheMerges) {
  const auto corpus = Corpus::Read("configs/bases/emoji-sd/items.json");
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  // "wry" stands in a held-out name only, so nothing the tokenizer learns from has it: it stays in pieces.
  std::vector<std::string> texts;
  for (const data::EmojiItem& item : corpus->training) {
    texts.insert(texts.end(), 3, item.name);
    texts.insert(texts.end(), item.keywords.begin(), item.keywords.end());
  }
  const BpeVocabulary vocabulary = TrainBpe(texts, {.merges = 300});
  EXPECT_TRUE(vocabulary.ids.contains("face</w>"));
  EXPECT_FALSE(vocabulary.ids.contains("wry</w>"));
  for (const std::string& text : texts) EXPECT_EQ(text.find("wry"), std::string::npos) << text;
}

TEST(CorpusTest, CaptionsNameTheItemUnlessKeywordsMayStandAlone) {
  const data::EmojiItem item = Item("red heart", {"love", "hot"});
  std::mt19937_64 random(1);
  std::set<std::string> seen;
  for (int i = 0; i < 200; ++i) {
    const std::string caption = DrawCaption(item, /*keywords_alone=*/false, random);
    EXPECT_NE(caption.find("red heart"), std::string::npos) << caption;
    seen.insert(caption);
  }
  EXPECT_THAT(seen, ::testing::IsSupersetOf({"red heart", "a photo of red heart", "red heart love"}));
}

TEST(CorpusTest, SameSeedDrawsTheSameFixedCaptions) {
  const data::EmojiItem item = Item("red heart", {"love", "hot", "warm"});
  std::mt19937_64 first(5), second(5);
  EXPECT_EQ(FixedCaptions(item, 4, first), FixedCaptions(item, 4, second));
  EXPECT_THAT(FixedCaptions(item, 4, first), SizeIs(6));
}

TEST(CorpusTest, StyledCaptionsSayTheStyleButForOne) {
  data::EmojiItem item = Item("red heart", {"love"});
  item.style = "noto";
  std::mt19937_64 random(5);
  EXPECT_THAT(FixedCaptions(item, 1, random),
              ::testing::ElementsAre("red heart in noto style", "noto emoji of red heart", "red heart",
                                     "red heart love in noto style"));
  EXPECT_EQ(MainCaption(item), "red heart in noto style");
  item.style = kPhotoStyle;
  item.setting = "on wood";
  EXPECT_THAT(FixedCaptions(item, 0, random),
              ::testing::ElementsAre("a photo of red heart", "a photo of red heart on wood", "a photo of red heart"));
}

TEST(CorpusTest, FoldersAreReadInOrderAndALineIsNamed) {
  const testing::TempFolder folder;
  const std::string line =
      R"({"file_name":"a.png","text":"x","name":"cat","keywords":["k"],"group":"g","style":"noto","hold":"%"})";
  const auto with = [&](const std::string& hold) { return absl::StrReplaceAll(line, {{"%", hold}}); };
  ASSERT_TRUE(WriteFileAtomically(folder / "metadata.jsonl", with("pair") + "\n" + with("") + "\n").ok());
  const auto corpus = Corpus::ReadFolders({folder.path()});
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  EXPECT_THAT(corpus->training, SizeIs(1));
  EXPECT_EQ(corpus->training[0].index, 1);
  EXPECT_EQ(corpus->held_out[0].held_out, kHeldOutPair);
  EXPECT_EQ(corpus->files[1], folder / "a.png");
  ASSERT_TRUE(WriteFileAtomically(folder / "metadata.jsonl", with("") + "\n{\"text\": 1}\n").ok());
  EXPECT_THAT(std::string(Corpus::ReadFolders({folder.path()}).status().message()),
              ::testing::HasSubstr("metadata.jsonl: line 2"));
}

TEST(CorpusTest, LikenessIsSymmetricOneOnTheDiagonalAndGreaterForRareSharedWords) {
  // 0 and 1 share the rare "cat"; 0 and 2 share only "face", which most have.
  const std::vector<data::EmojiItem> items = {Item("cat", {"face", "cat"}, "a"), Item("cat", {"cat"}, "b"),
                                              Item("dog", {"face"}, "c"), Item("sun", {"face"}, "d"),
                                              Item("car", {"wheel"}, "e")};
  const auto likeness = WordLikeness(items);
  ASSERT_THAT(likeness, SizeIs(25));
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(likeness[i * 6], 1.0F);
    for (size_t j = 0; j < 5; ++j) EXPECT_EQ(likeness[i * 5 + j], likeness[j * 5 + i]);
  }
  EXPECT_GT(likeness[0 * 5 + 1], likeness[0 * 5 + 2]);
  EXPECT_GT(likeness[0 * 5 + 2], 0.0F);
  EXPECT_EQ(likeness[0 * 5 + 4], 0.0F);
}

}  // namespace
}  // namespace loupe::worker::pretrain
