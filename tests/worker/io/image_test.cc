#include "worker/io/image.h"

#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/picture_kinds.h"

namespace loupe::worker {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Image Gradient(int width, int height) {
  Image image{width, height, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (const int value : {7 * x, 5 * y, x + y}) image.rgb.push_back(static_cast<uint8_t>(value % 256));
    }
  }
  return image;
}

void ExpectRefused(const std::string& bytes, const std::string& why) {
  const auto image = DecodeImage(bytes, "folder/cat.png");
  ASSERT_FALSE(image.ok());
  EXPECT_EQ(image.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(image.status().message()), AllOf(HasSubstr("folder/cat.png"), HasSubstr(why)));
}

TEST(ImageTest, PngRoundTripIsExactAndDeterministic) {
  const Image image = Gradient(37, 21);
  const std::string bytes = EncodePng(image);
  EXPECT_EQ(bytes, EncodePng(image));
  const auto read = DecodeImage(bytes, "x");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->width, 37);
  EXPECT_EQ(read->height, 21);
  EXPECT_EQ(read->rgb, image.rgb);
}

TEST(ImageTest, WhatIsNoPictureIsRefusedByName) {
  ExpectRefused("", "neither a PNG nor a JPEG");
  ExpectRefused("<html>not found</html>", "neither a PNG nor a JPEG");
  ExpectRefused("\x89PNG\r\n\x1a\n", "ends in the middle");
  ExpectRefused("\xFF\xD8\xFF", "");
  ExpectRefused(std::string("\xFF\xD8\xFF\xE0") + std::string(50, 'x'), "");
}

TEST(ImageTest, EveryTruncatedPngIsRefused) {
  const std::string bytes = EncodePng(Gradient(9, 8));
  // The last 12 bytes are the end marker, which says nothing about the picture; the four before are a checksum.
  for (size_t size = 0; size + 16 < bytes.size(); ++size) {
    EXPECT_FALSE(DecodeImage(bytes.substr(0, size), "x").ok()) << size;
  }
}

TEST(ImageTest, FlippedBytesNeverCrash) {
  const std::string bytes = EncodePng(Gradient(9, 8));
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string changed = bytes;
    changed[i] = static_cast<char>(changed[i] ^ 0x55);
    const auto image = DecodeImage(changed, "x");
    if (!image.ok()) continue;
    EXPECT_EQ(image->rgb.size(), size_t{3} * image->width * image->height);
  }
}

TEST(ImageTest, OtherKindsOfPngAndJpegAreRead) {
  for (const auto& kinds : {testing::PngKinds(), testing::JpegKinds()}) {
    for (const std::string& bytes : kinds) {
      const auto image = DecodeImage(bytes, "x", Alpha::kOverWhite);
      ASSERT_TRUE(image.ok()) << image.status();
      EXPECT_EQ(image->width, 20);
      EXPECT_EQ(image->height, 20);
      EXPECT_EQ(image->rgb.size(), 3u * 20 * 20);
    }
  }
}

// A few bytes that announce 2^28 pixels took a gigabyte.
TEST(ImageTest, AFileTooShortForItsPictureIsRefusedBeforeRoomIsMade) {
  const std::string side("\x3e\x80", 2);  // 16,000
  std::string png = EncodePng(Gradient(9, 8));
  png.replace(18, 2, side).replace(22, 2, side);
  ExpectRefused(testing::WithPngChecksums(png), "too short for a picture of its size");
  std::string jpeg = testing::JpegKinds().front();
  jpeg.replace(jpeg.find("\xff\xc0") + 5, 4, side + side);
  ExpectRefused(jpeg, "too short for a picture of its size");
}

TEST(ImageTest, PicturesThatCostFarMoreThanTheyHoldAreRefused) {
  // At a fixed shorter side.
  ExpectRefused(EncodePng(Gradient(1, 257)), "one side more than 256 times the other");
  EXPECT_TRUE(DecodeImage(EncodePng(Gradient(256, 1)), "x").ok());
  // Without a byte per block.
  std::string arithmetic = testing::JpegKinds().front();
  arithmetic[arithmetic.find("\xff\xc0") + 1] = '\xc9';
  ExpectRefused(arithmetic, "arithmetic coding");
  // Pass after pass over the whole picture.
  EXPECT_TRUE(DecodeImage(testing::JpegOfScans(1 + 63), "x").ok());
  ExpectRefused(testing::JpegOfScans(1 + 4 * 63), "more than 200 scans");
}

TEST(ImageTest, MissingFileIsNotFound) {
  EXPECT_EQ(ReadImage("no/such/file.png").status().code(), absl::StatusCode::kNotFound);
}

TEST(ImageTest, ResizingAFlatPictureKeepsItFlat) {
  Image image{11, 7, std::vector<uint8_t>(3 * 11 * 7, 200)};
  for (const auto& [width, height] : {std::pair{64, 64}, {3, 5}, {11, 100}}) {
    const Image resized = ResizeBicubic(image, width, height);
    EXPECT_EQ(resized.rgb, std::vector<uint8_t>(size_t{3} * width * height, 200));
  }
}

TEST(ImageTest, CropTakesTheMiddle) {
  const Image image = Gradient(10, 6);
  const Image middle = CentreCrop(image, 4, 3);
  // Upper left at (3, 1).
  EXPECT_EQ(middle.rgb[0], 7 * 3);
  EXPECT_EQ(middle.rgb[1], 5 * 1);
  const Image square = ResizeAndCrop(image, 3);
  EXPECT_EQ(square.width, 3);
  EXPECT_EQ(square.height, 3);
}

}  // namespace
}  // namespace loupe::worker
