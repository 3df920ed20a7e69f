#include "coordinator/http/thumbnail.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/testing/picture_kinds.h"
#include "worker/io/image.h"

namespace loupe::coordinator::http {
namespace {

using ::testing::HasSubstr;
using worker::io::Image;

// Columns of black and white, two pixels each, and a grey gradient downwards in red.
Image Stripes(int width, int height) {
  Image image{width, height, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      image.rgb.push_back(static_cast<uint8_t>(255 * y / std::max(1, height - 1)));
      image.rgb.push_back(x / 2 % 2 == 0 ? 0 : 255);
      image.rgb.push_back(7);
    }
  }
  return image;
}

Image Decoded(const std::string& png) { return *worker::io::DecodeImage(png, "thumbnail"); }

TEST(ThumbnailTest, PixelsAreMeansOfTheirBoxes) {
  const auto small = MakeThumbnail(worker::io::EncodePng(Stripes(640, 320)), 160);
  ASSERT_TRUE(small.ok()) << small.status();
  const Image image = Decoded(*small);
  EXPECT_EQ(image.width, 160);
  EXPECT_EQ(image.height, 80);
  // Each box is four columns, two of them white: (0 + 0 + 255 + 255)/4 = 127.5, rounded up.
  EXPECT_EQ(image.rgb[1], 128);
  EXPECT_EQ(image.rgb[2], 7);
  // Rows 0 to 3 of the gradient: 255·(0 + 1 + 2 + 3)/319/4, each rounded down: (0 + 0 + 1 + 2)/4 = 0.75.
  EXPECT_EQ(image.rgb[0], 1);
}

TEST(ThumbnailTest, SidesThatDoNotDivideAreCovered) {
  const Image image = Decoded(*MakeThumbnail(worker::io::EncodePng(Stripes(1001, 3)), 80));
  EXPECT_EQ(image.width, 80);
  EXPECT_EQ(image.height, 1);
  EXPECT_EQ(image.rgb[2], 7);
  EXPECT_EQ(image.rgb[image.rgb.size() - 1], 7);
}

TEST(ThumbnailTest, SmallPicturesStayAsTheyAre) {
  const std::string png = worker::io::EncodePng(Stripes(80, 200));
  EXPECT_EQ(*MakeThumbnail(png, 80), png);
}

TEST(ThumbnailTest, WhatIsNoPictureIsRefused) {
  const std::string png = worker::io::EncodePng(Stripes(200, 200));
  for (const std::string& bytes :
       {std::string(), std::string("GIF89a"), png.substr(0, 20), png.substr(0, png.size() / 2)}) {
    const auto refused = MakeThumbnail(bytes, 80);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition) << bytes.size();
  }
  // Every byte of a picture's head and data damaged once: never more than a refusal.
  for (size_t i = 0; i < png.size(); i += 1 + png.size() / 200) {
    std::string damaged = png;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x55);
    (void)MakeThumbnail(damaged, 80);
  }
}

TEST(ThumbnailTest, TooManyPixelsAreNotDecoded) {
  // One row more than 2^24 pixels.
  const auto refused =
      MakeThumbnail(worker::io::EncodePng(Image{8192, 2049, std::vector<uint8_t>(8192UL * 2049 * 3)}), 80);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("8192 × 2049"));
}

TEST(ThumbnailTest, EveryKindOfPngIsRead) {
  for (const std::string& png : testing::PngKinds()) EXPECT_TRUE(MakeThumbnail(png, 80).ok());
}

TEST(ThumbnailTest, WidthsAreAFewOnly) {
  EXPECT_EQ(*ThumbnailWidth("320"), 320);
  for (const char* text : {"", "0", "-80", "81", "320px", "99999999999"}) {
    EXPECT_THAT(std::string(ThumbnailWidth(text).status().message()), HasSubstr("80, 160, 320, 640")) << text;
  }
}

TEST(ThumbnailCacheTest, IsMadeOnceAndForgottenWhenThereIsNoRoom) {
  const std::string png = worker::io::EncodePng(Stripes(200, 200));
  const size_t size = MakeThumbnail(png, 80)->size();
  ThumbnailCache cache(/*most_bytes=*/2 * size);
  int reads = 0;
  const auto read = [&]() -> absl::StatusOr<std::string> {
    ++reads;
    return png;
  };
  EXPECT_EQ(cache.Find("a", 80), nullptr);
  ASSERT_TRUE(cache.Make("a", 80, read).ok());
  ASSERT_TRUE(cache.Make("a", 80, read).ok());
  EXPECT_EQ(reads, 1);
  ASSERT_TRUE(cache.Make("b", 80, read).ok());
  EXPECT_NE(cache.Find("a", 80), nullptr);
  // Now b is the one that was not asked for longest.
  ASSERT_TRUE(cache.Make("c", 80, read).ok());
  EXPECT_NE(cache.Find("a", 80), nullptr);
  EXPECT_EQ(cache.Find("b", 80), nullptr);
  EXPECT_EQ(cache.Find("a", 160), nullptr);
  EXPECT_FALSE(cache.Make("d", 80, [] { return absl::StatusOr<std::string>(absl::DataLossError("gone")); }).ok());
}

}  // namespace
}  // namespace loupe::coordinator::http
