// Emoji from a folder of pictures named by code points.
#include "worker/data/emoji_assets.h"

#include <filesystem>
#include <string>

#include "common/atomic_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_folder.h"
#include "worker/data/emoji_set.h"

namespace loupe::worker {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class EmojiAssetsTest : public ::testing::Test {
 protected:
  EmojiAssetsTest() { fs::create_directories(assets()); }

  void Picture(const std::string& name, int width, int height, uint8_t value) {
    const auto pixels = static_cast<size_t>(width) * static_cast<size_t>(height) * 3;
    ASSERT_TRUE(WritePng(root_ + "/assets/" + name, Image{width, height, std::vector<uint8_t>(pixels, value)}).ok());
  }
  std::string assets() const { return root_ + "/assets"; }

  const loupe::testing::TempFolder folder_;
  const std::string root_ = folder_.path();
};

TEST_F(EmojiAssetsTest, FilesAreNamedByCodePointsWithoutVariationSelectors) {
  Picture("2764.png", 64, 64, 7);
  Picture("0023-20E3.png", 64, 64, 9);
  Picture("1F468-1F469.png", 64, 64, 11);
  const auto pixel = [&](const std::vector<uint32_t>& code_points) {
    const auto image = ReadEmojiAsset(assets(), code_points, 64);
    return image.ok() ? image->rgb[0] : -1;
  };
  EXPECT_EQ(pixel({0x2764, 0xFE0F}), 7);
  EXPECT_EQ(pixel({0x23, 0xFE0F, 0x20E3}), 9);
  EXPECT_EQ(pixel({0x1F468, 0x200D, 0x1F469}), 11);
  EXPECT_EQ(pixel({0x1F600}), -1);
  EXPECT_EQ(ReadEmojiAsset(assets(), {0x2764}, 32)->width, 32);
}

TEST_F(EmojiAssetsTest, AFamilyIsWrittenWithWhatTheFolderHas) {
  Picture("1F600.png", 64, 64, 200);
  const std::vector<EmojiItem> items = {{.code_points = {0x1F600}, .name = "grinning face", .index = 0},
                                        {.code_points = {0x1FAE0}, .name = "melting face", .index = 1}};
  RenderEmojiOptions options{.font_path = "", .out_folder = root_ + "/out", .side = 32, .asset_folder = assets()};
  const auto count = RenderEmoji(items, options);
  ASSERT_TRUE(count.ok()) << count.status();
  EXPECT_EQ(*count, 1);
  EXPECT_EQ(ReadImage(root_ + "/out/0000-grinning-face.png")->width, 32);
  EXPECT_THAT(*ReadFile(root_ + "/out/metadata.jsonl"), HasSubstr("\"grinning face\""));
  EXPECT_THAT(*ReadFile(root_ + "/out/metadata.jsonl"), ::testing::Not(HasSubstr("melting")));
  EXPECT_THAT(std::string(RenderEmoji({items[1]}, options).status().message()), HasSubstr("none of the 1 emoji"));
}

TEST_F(EmojiAssetsTest, WhatIsMissingOrNoEmojiIsNamed) {
  EXPECT_THAT(std::string(CheckEmojiAssets("/nowhere").message()), HasSubstr("ruby-gemojione"));
  Picture("1F600.png", 64, 32, 1);
  EXPECT_THAT(std::string(ReadEmojiAsset(assets(), {0x1F600}, 64).status().message()), HasSubstr("expected a square"));
}

}  // namespace
}  // namespace loupe::worker
