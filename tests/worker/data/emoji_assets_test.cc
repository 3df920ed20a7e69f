// Emoji from folders of pictures named by code points, and which of them are held out.
#include "worker/data/emoji_assets.h"

#include <filesystem>
#include <string>

#include "common/atomic_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_folder.h"
#include "worker/data/emoji_set.h"

namespace loupe::worker::data {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class EmojiAssetsTest : public ::testing::Test {
 protected:
  EmojiAssetsTest() { fs::create_directories(assets()); }

  void Picture(const std::string& name, int width, int height, uint8_t value) {
    const auto pixels = static_cast<size_t>(width) * static_cast<size_t>(height) * 3;
    ASSERT_TRUE(
        io::WritePng(root_ + "/assets/" + name, io::Image{width, height, std::vector<uint8_t>(pixels, value)}).ok());
  }
  std::string assets() const { return root_ + "/assets"; }

  const std::vector<EmojiItem> items_ = {{.code_points = {0x1F600}, .name = "grinning face", .index = 0},
                                         {.code_points = {0x1FAE0}, .name = "melting face", .index = 1}};

  const testing::TempFolder folder_;
  const std::string root_ = folder_.path();
};

TEST_F(EmojiAssetsTest, FilesAreNamedByCodePointsInAnyOfTheWays) {
  Picture("2764.png", 64, 64, 7);
  Picture("0023-fe0f-20e3.png", 64, 64, 9);
  Picture("1F468_200D_1F469.png", 64, 64, 11);
  Picture("readme.png", 64, 64, 1);
  const auto opened = EmojiAssets::Open(assets(), "");
  ASSERT_TRUE(opened.ok()) << opened.status();
  const auto pixel = [&](const std::vector<uint32_t>& code_points) {
    const auto image = opened->Read(code_points, 64);
    return image.ok() ? image->rgb[0] : -1;
  };
  EXPECT_EQ(pixel({0x2764, 0xFE0F}), 7);
  EXPECT_EQ(pixel({0x23, 0xFE0F, 0x20E3}), 9);
  EXPECT_EQ(pixel({0x1F468, 0x200D, 0x1F469}), 11);
  EXPECT_EQ(pixel({0x1F600}), -1);
  EXPECT_EQ(opened->Read({0x2764}, 32)->width, 32);
}

TEST_F(EmojiAssetsTest, OfTwoFilesOfOneEmojiTheFirstIsTaken) {
  Picture("39-fe0f-20e3.png", 64, 64, 9);
  Picture("0039-fe0f-20e3.png", 64, 64, 5);
  EXPECT_EQ(EmojiAssets::Open(assets(), "")->Read({0x39, 0x20E3}, 64)->rgb[0], 5);
}

TEST_F(EmojiAssetsTest, AFamilyIsWrittenWithWhatTheFolderHas) {
  Picture("1F600.png", 64, 64, 200);
  const RenderEmojiOptions options{
      .style = "gemojione", .font_path = "", .asset_folder = assets(), .out_folder = root_ + "/out", .side = 32};
  const auto count = RenderEmoji(items_, options);
  ASSERT_TRUE(count.ok()) << count.status();
  EXPECT_EQ(*count, 1);
  EXPECT_EQ(io::ReadImage(root_ + "/out/0000-grinning-face.png")->width, 32);
  EXPECT_EQ(*ReadFile(root_ + "/out/metadata.jsonl"),
            "{\"file_name\":\"0000-grinning-face.png\",\"text\":\"grinning face\"}\n");
  EXPECT_THAT(std::string(RenderEmoji({items_[1]}, options).status().message()), HasSubstr("none of the 1 emoji"));
}

TEST_F(EmojiAssetsTest, StyledCaptionsSayTheStyleAndWhatIsHeldOut) {
  Picture("1F600.png", 64, 64, 200);
  Picture("1FAE0.png", 64, 64, 100);
  RenderEmojiOptions options{
      .style = "twemoji", .font_path = "", .asset_folder = assets(), .out_folder = root_ + "/out"};
  options.styled = true;
  options.held_out = {.styles = {"gemojione"}, .pairs_share = 0.999};
  auto items = items_;
  items[1].held_out = "cat";
  ASSERT_TRUE(RenderEmoji(items, options).ok());
  const std::string lines = *ReadFile(root_ + "/out/metadata.jsonl");
  EXPECT_THAT(lines, HasSubstr("\"text\":\"grinning face in twemoji style\""));
  EXPECT_THAT(lines, HasSubstr("\"hold\":\"pair\""));
  EXPECT_THAT(lines, HasSubstr("\"hold\":\"cat\""));
}

TEST_F(EmojiAssetsTest, ByClassEachIsInItsSubgroupsFolder) {
  Picture("1F600.png", 64, 64, 200);
  const RenderEmojiOptions options{
      .style = "gemojione", .font_path = "", .asset_folder = assets(), .out_folder = root_ + "/out", .by_class = true};
  auto items = items_;
  items[0].subgroup = "face-smiling";
  ASSERT_TRUE(RenderEmoji(items, options).ok());
  EXPECT_TRUE(io::ReadImage(root_ + "/out/face-smiling/0000-grinning-face.png").ok());
  EXPECT_FALSE(ReadFile(root_ + "/out/metadata.jsonl").ok());
}

TEST_F(EmojiAssetsTest, WhatIsMissingOrNoEmojiIsNamed) {
  EXPECT_THAT(std::string(EmojiAssets::Open("/nowhere", "install it").status().message()), HasSubstr("install it"));
  Picture("1F600.png", 64, 32, 1);
  Picture("1F601.png", 64, 62, 1);
  const auto opened = EmojiAssets::Open(assets(), "");
  EXPECT_THAT(std::string(opened->Read({0x1F600}, 64).status().message()), HasSubstr("expected a square"));
  EXPECT_EQ(opened->Read({0x1F601}, 64)->height, 64) << "a few of fluent's are not quite square";
  RenderEmojiOptions options{.style = "windings", .out_folder = root_ + "/out"};
  EXPECT_THAT(std::string(RenderEmoji(items_, options).status().message()), HasSubstr("no style 'windings'"));
}

TEST(HeldOutRuleTest, ATenthOfAllPairsAndTheSameOnesWhateverTheList) {
  const auto rule = HeldOutRule::Read("configs/bases/held-out.json");
  ASSERT_TRUE(rule.ok()) << rule.status();
  const auto items = ReadEmojiItems("configs/bases/emoji-sd/items.json");
  ASSERT_TRUE(items.ok());
  int pairs = 0;
  for (const EmojiItem& item : *items) {
    EXPECT_EQ(rule->Why("gemojione", item.name), "style");
    for (const char* style : {"noto", "twemoji", "openmoji", "fluent"}) pairs += rule->Why(style, item.name) == "pair";
  }
  EXPECT_EQ(pairs, 574) << "of 4 · 1,358; docs/data.md counts them";
}

}  // namespace
}  // namespace loupe::worker::data
