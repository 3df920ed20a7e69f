#include "worker/io/image.h"

#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/picture_kinds.h"

namespace loupe::worker::io {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
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
  ExpectRefused("", "it is empty");
  ExpectRefused("<html>not found</html>", "a web page");
  ExpectRefused(std::string(64, '\0'), "nothing but zeros");
  ExpectRefused("cat", "begins like no picture");
  ExpectRefused("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull");
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

TEST(ImageTest, OtherKindsOfPicturesAreRead) {
  for (const auto& kinds : {testing::PngKinds(), testing::JpegKinds(), testing::WebpKinds(), testing::TiffKinds()}) {
    for (const std::string& bytes : kinds) {
      const auto image = DecodePicture(bytes, "x", Alpha::kOverWhite);
      ASSERT_TRUE(image.ok()) << image.status();
      EXPECT_EQ(image->image.width, 20);
      EXPECT_EQ(image->image.height, 20);
      EXPECT_EQ(image->image.rgb.size(), 3u * 20 * 20);
      EXPECT_TRUE(image->warnings.empty());
    }
  }
}

TEST(ImageTest, AGifIsItsFirstPictureOnItsCanvas) {
  const std::vector<std::string> kinds = testing::GifKinds();
  const auto plain = DecodePicture(kinds[0], "x");
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_TRUE(plain->warnings.empty());
  const auto odd = DecodePicture(kinds[1], "x", Alpha::kOverWhite);
  ASSERT_TRUE(odd.ok()) << odd.status();
  EXPECT_THAT(odd->warnings, ElementsAre("is animated; the first picture is used"));
  EXPECT_EQ(odd->image.width, 24);
  // At (1, 3) of the canvas, whose rest is free; the same rows in another order, its third colour transparent.
  for (int y = 0; y < 24; ++y) {
    for (int x = 0; x < 24; ++x) {
      const bool inside = x >= 1 && x < 21 && y >= 3 && y < 23;
      for (int c = 0; c < 3; ++c) {
        const uint8_t* pixel = &plain->image.rgb[inside ? 3 * (20 * (y - 3) + x - 1) : 0];
        const bool seen = inside && pixel[2] != 255;
        ASSERT_EQ(odd->image.rgb[3 * (24 * y + x) + c], seen ? pixel[c] : 255) << x << ", " << y;
      }
    }
  }
}

// The picture that EXIF 2.32 (table 6) describes, corner by corner: where the stored upper left and upper right pixels
// are shown.
TEST(ImageTest, OrientationTagsTurnThePictureUpright) {
  const Image stored{2, 1, {255, 0, 0, 0, 0, 255}};  // red, blue
  const std::string png = EncodePng(stored);
  const std::vector<uint8_t> red_first = stored.rgb, blue_first = {0, 0, 255, 255, 0, 0};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    for (const bool big_endian : {false, true}) {
      SCOPED_TRACE(orientation);
      const auto picture =
          DecodePicture(testing::PngWithExif(png, testing::ExifOfOrientation(orientation, big_endian)), "x");
      ASSERT_TRUE(picture.ok()) << picture.status();
      EXPECT_EQ(picture->turned, orientation != 1);
      EXPECT_EQ(picture->image.width, orientation < 5 ? 2 : 1);
      EXPECT_EQ(picture->image.height, orientation < 5 ? 1 : 2);
      const bool reversed = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
      EXPECT_EQ(picture->image.rgb, reversed ? blue_first : red_first);
    }
  }
  for (const int unknown : {0, 9, 65535}) {
    EXPECT_FALSE(DecodePicture(testing::PngWithExif(png, testing::ExifOfOrientation(unknown, true)), "x")->turned);
  }
  const std::string jpeg = testing::JpegWithExif(testing::JpegKinds().front(), testing::ExifOfOrientation(6, true));
  EXPECT_TRUE(DecodePicture(jpeg, "x")->turned);
}

TEST(ImageTest, StrayBytesInAJpegAreAWarning) {
  const std::string jpeg = testing::JpegKinds().front();
  const auto whole = DecodePicture(jpeg, "x");
  ASSERT_TRUE(whole.ok());
  const auto before_scan = jpeg.find("\xff\xda");
  for (const auto& [at, bytes] :
       {std::pair{before_scan, std::string(5, '\0')}, {jpeg.size() - 2, std::string(37, 'x')}}) {
    const auto stray = DecodePicture(jpeg.substr(0, at) + bytes + jpeg.substr(at), "x");
    ASSERT_TRUE(stray.ok()) << stray.status();
    EXPECT_THAT(stray->warnings, ElementsAre(HasSubstr("extraneous bytes")));
    EXPECT_EQ(stray->image.rgb, whole->image.rgb);
  }
  EXPECT_TRUE(DecodePicture(jpeg + "a trailer", "x")->warnings.empty());
  const auto without_end = DecodePicture(jpeg.substr(0, jpeg.size() - 2), "x");
  ASSERT_TRUE(without_end.ok()) << without_end.status();
  EXPECT_EQ(without_end->image.rgb, whole->image.rgb);
  EXPECT_EQ(without_end->warnings.size(), 1u);
  // What is missing for good is damage.
  ExpectRefused(jpeg.substr(0, jpeg.size() - 40), "premature end");
  const std::string progressive = testing::JpegKinds()[1];
  ExpectRefused(progressive.substr(0, progressive.rfind("\xff\xda")), "Premature end");
}

TEST(ImageTest, EveryTruncatedPictureIsRefused) {
  for (const auto& kinds : {testing::WebpKinds(), testing::TiffKinds(), {testing::GifKinds().front()}}) {
    for (const std::string& bytes : kinds) {
      for (const size_t part : {1u, 2u, 3u})
        EXPECT_FALSE(DecodeImage(bytes.substr(0, bytes.size() * part / 4), "x").ok());
    }
  }
}

TEST(ImageTest, KindsThatAreNotReadAreNamed) {
  ExpectRefused(std::string("\0\0\0\x18"
                            "ftypheic\0\0\0\0",
                            16),
                "it is a HEIC picture");
  ExpectRefused(std::string("\0\0\0\x18"
                            "ftypavif\0\0\0\0",
                            16),
                "it is an AVIF picture");
  ExpectRefused("BM" + std::string(60, '\0'), "it is a BMP picture");
  EXPECT_EQ(KindOf(testing::WebpKinds().front()).name, "a WebP picture");
  EXPECT_TRUE(KindOf("GIF89a").is_read);
  EXPECT_FALSE(KindOf("8BPS").is_read);
  EXPECT_TRUE(KindOf("a text").name.empty());
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
  std::string gif = testing::GifKinds().front();
  const size_t frame = gif.find(std::string(",\0\0\0\0", 5));
  ExpectRefused(std::string(gif).replace(6, 4, "\xff\xff\xff\xff"), "more than 2^26 pixels");
  gif.replace(frame + 5, 2, "\0\x20", 2).replace(frame + 7, 2, "\0\x20", 2);  // 8,192
  ExpectRefused(gif, "too short for a picture of its size");
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
}  // namespace loupe::worker::io
