// Cut-outs on grounds, with small stamps made here.
#include "worker/data/photographs.h"

#include <png.h>

#include <filesystem>
#include <string>

#include "common/atomic_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_folder.h"

namespace loupe::worker::data {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class PhotographsTest : public ::testing::Test {
 protected:
  PhotographsTest() {
    Stamp_("animals/dogs/dog", "A dog.\nfr=Un chien.\n");
    Stamp_("animals/cats/lion_2", "This is the king of all of the animals!");
    Stamp_("animals/cartoon/cow", "A cow.");
    EXPECT_TRUE(io::WritePng(root_ + "/wood.png", io::Image{600, 520, std::vector<uint8_t>(600 * 520 * 3, 90)}).ok());
    options_.sources = {.stamps = root_ + "/stamps",
                        .folders = {"animals"},
                        .skip = {"cartoon/"},
                        .held_out = {{"dogs", {"animals/dogs/"}}},
                        .grounds = {{root_ + "/wood.png", "wood", "on wood", ""}}};
    options_.out_folder = root_ + "/out";
    options_.variations = 3;
  }

  // A red square of 8 pixels in the middle of a transparent one of 20.
  void Stamp_(const std::string& path, const std::string& caption) {
    fs::create_directories(fs::path(root_ + "/stamps/" + path).parent_path());
    std::vector<uint8_t> rgba(20 * 20 * 4, 0);
    for (size_t y = 6; y < 14; ++y) {
      for (size_t x = 6; x < 14; ++x) rgba[4 * (20 * y + x)] = rgba[4 * (20 * y + x) + 3] = 255;
    }
    png_image image{};
    image.version = PNG_IMAGE_VERSION;
    image.width = image.height = 20;
    image.format = PNG_FORMAT_RGBA;
    ASSERT_NE(png_image_write_to_file(&image, (root_ + "/stamps/" + path + ".png").c_str(), 0, rgba.data(), 0, nullptr),
              0);
    ASSERT_TRUE(WriteFileAtomically(root_ + "/stamps/" + path + ".txt", caption).ok());
  }

  const testing::TempFolder folder_;
  const std::string root_ = folder_.path();
  RenderPhotographsOptions options_;
};

TEST_F(PhotographsTest, StampsAreNamedByCaptionOrFile) {
  const auto stamps = ListStamps(options_.sources);
  ASSERT_TRUE(stamps.ok()) << stamps.status();
  ASSERT_EQ(stamps->size(), 2u);
  EXPECT_EQ((*stamps)[0].name, "lion");
  EXPECT_EQ((*stamps)[1].name, "dog");
  EXPECT_EQ((*stamps)[1].hold, "dogs");
  EXPECT_EQ(StampName("A “Granny Smith” apple."), "granny smith apple");
  EXPECT_EQ(StampName("An albino peahen (a female peafowl)."), "albino peahen");
}

TEST_F(PhotographsTest, AThingStandsOnWhiteThenOnGroundAndColour) {
  options_.family = "dog";
  const auto count = RenderPhotographs(options_);
  ASSERT_TRUE(count.ok()) << count.status();
  EXPECT_EQ(*count, 3);
  const auto pixel = [&](int variation, size_t at) {
    const auto image =
        io::ReadImage(fs::path(root_) / "out" / ("animals-dogs-dog-" + std::to_string(variation) + ".png"));
    return std::vector<int>(image->rgb.begin() + static_cast<ptrdiff_t>(3 * at),
                            image->rgb.begin() + static_cast<ptrdiff_t>(3 * at) + 3);
  };
  EXPECT_THAT(pixel(0, 0), ElementsAre(255, 255, 255));
  EXPECT_THAT(pixel(0, 32 * 64 + 32), ElementsAre(255, 0, 0)) << "in the middle, cut to what is visible";
  EXPECT_THAT(pixel(1, 0), ::testing::AnyOf(ElementsAre(90, 90, 90), ElementsAre(255, 0, 0)));
  const std::string lines = *ReadFile(root_ + "/out/metadata.jsonl");
  EXPECT_THAT(lines, HasSubstr("\"text\":\"a photo of dog\""));
  EXPECT_THAT(lines, HasSubstr("\"text\":\"a photo of dog on wood\""));
}

TEST_F(PhotographsTest, TrainingHasGroundsAndNoHeldOutFamily) {
  ASSERT_TRUE(RenderPhotographs(options_).ok());
  const std::string lines = *ReadFile(root_ + "/out/metadata.jsonl");
  EXPECT_THAT(lines, HasSubstr("\"a photo of lion on wood\""));
  EXPECT_THAT(lines, HasSubstr("\"a photo of wood\""));
  EXPECT_THAT(lines, ::testing::Not(HasSubstr("dog")));
}

TEST_F(PhotographsTest, WhatIsMissingIsNamed) {
  options_.family = "unicorns";
  EXPECT_THAT(std::string(RenderPhotographs(options_).status().message()),
              HasSubstr("expected one of all, dogs, held-out, training"));
  options_.sources.stamps = "/nowhere";
  EXPECT_THAT(std::string(RenderPhotographs(options_).status().message()), HasSubstr("tuxpaint-stamps-default"));
}

TEST(PhotographSourcesTest, TheBuiltInListIsRead) {
  const auto sources = PhotographSources::Read("configs/bases/photographs.json");
  ASSERT_TRUE(sources.ok()) << sources.status();
  EXPECT_TRUE(sources->held_out.contains("flowers"));
}

}  // namespace
}  // namespace loupe::worker::data
