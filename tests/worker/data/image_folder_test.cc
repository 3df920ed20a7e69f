// Folders of pictures as people have them: what is read, what is left out, and what is said of it.
#include "worker/data/image_folder.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/picture_kinds.h"
#include "worker/io/image.h"

namespace loupe::worker::data {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ImageFolderTest : public ::testing::Test {
 protected:
  ImageFolderTest()
      : folder_(::testing::TempDir() + "image_folder_test_" +
                ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~ImageFolderTest() override { fs::remove_all(folder_); }

  void File(const std::string& name, const std::string& bytes) {
    fs::create_directories(fs::path(folder_ + "/" + name).parent_path());
    std::ofstream(folder_ + "/" + name, std::ios::binary) << bytes;
  }
  ImageFolder Read() {
    auto folder = ReadImageFolder(folder_, 8);
    EXPECT_TRUE(folder.ok()) << folder.status();
    return folder.ok() ? *std::move(folder) : ImageFolder{};
  }
  std::string Error() { return std::string(ReadImageFolder(folder_, 8).status().message()); }

  const std::string png_ = io::EncodePng(io::Image{8, 8, std::vector<uint8_t>(3 * 8 * 8, 100)});
  const std::string folder_;
};

TEST_F(ImageFolderTest, EveryFormatIsReadByItsContent) {
  File("a.webp", testing::WebpKinds().front());
  File("b.GIF", testing::GifKinds().front());
  File("c.tif", testing::TiffKinds().front());
  File("d.JPEG", testing::JpegKinds().front());
  File("e.jpg", png_);
  const ImageFolder folder = Read();
  EXPECT_THAT(folder.names, ElementsAre("a.webp", "b.GIF", "c.tif", "d.JPEG", "e.jpg"));
  EXPECT_THAT(folder.notes, IsEmpty());
}

TEST_F(ImageFolderTest, WhatMacOsAndServersAddIsPassedOver) {
  File("a.png", png_);
  File("._a.png", "no picture");
  File(".DS_Store", "no picture");
  File("__MACOSX/._a.png", "no picture");
  File("@eaDir/a.png", "no picture");
  File("notes.txt", "no picture");
  const ImageFolder folder = Read();
  EXPECT_THAT(folder.names, ElementsAre("a.png"));
  EXPECT_THAT(folder.notes, IsEmpty());
}

TEST_F(ImageFolderTest, EachPictureThatIsLeftOutIsNamed) {
  const std::string heic(
      "\0\0\0\x18"
      "ftypheic\0\0\0\0",
      16);
  File("a.png", png_);
  File("b.bmp", "BM" + std::string(60, '\0'));
  File("c.heic", heic);
  File("d.jpg", heic);
  File("e.dng", "II*" + std::string(60, '\0'));
  File("f", png_);
  File("g.png.part", png_);
  File("inner/h.png", png_);
  ::mkfifo((folder_ + "/i.png").c_str(), 0600);
  const ImageFolder folder = Read();
  EXPECT_THAT(folder.names, ElementsAre("a.png"));
  EXPECT_THAT(folder.notes,
              ElementsAre(HasSubstr("/b.bmp: left out: it is a BMP picture"),
                          HasSubstr("/c.heic: left out: it is a HEIC picture"),
                          HasSubstr("/d.jpg: left out: it is a HEIC picture"), HasSubstr("/e.dng: left out"),
                          HasSubstr("/f: left out: it is a PNG picture whose name"), HasSubstr("/g.png.part: left out"),
                          HasSubstr("/i.png: left out: it is no file"), HasSubstr("/inner: left out")));
  fs::remove(folder_ + "/a.png");
  EXPECT_THAT(Error(), AllOf(HasSubstr("holds no image"), HasSubstr("b.bmp: left out")));
}

TEST_F(ImageFolderTest, ADamagedPictureIsRefusedByName) {
  File("a.png", png_);
  File("b.png", png_.substr(0, png_.size() / 2));
  EXPECT_THAT(Error(), HasSubstr(folder_ + "/b.png: not a picture"));
  File("b.png", "");
  EXPECT_THAT(Error(), HasSubstr(folder_ + "/b.png: not a picture this program can read: it is empty"));
  fs::remove(folder_ + "/b.png");
  fs::create_symlink("nowhere.png", folder_ + "/b.png");
  EXPECT_THAT(Error(), HasSubstr(folder_ + "/b.png"));
}

TEST_F(ImageFolderTest, NamesThatAreNotUtf8AreReadAndEscaped) {
  File("caf\xe9.png", png_);
  EXPECT_EQ(Read().names.size(), 1u);
  File("caf\xe9.png", "");
  EXPECT_THAT(Error(), HasSubstr("caf\\xe9.png: not a picture"));
}

// What was computed from a picture before it was turned must not be taken for what is computed from it now.
TEST_F(ImageFolderTest, TurnedPicturesAreAnotherDataSet) {
  const std::string jpeg = testing::JpegKinds().front();
  File("a.jpg", testing::JpegWithExif(jpeg, testing::ExifOfOrientation(1, true)));
  const ImageFolder upright = Read();
  File("a.jpg", testing::JpegWithExif(jpeg, testing::ExifOfOrientation(3, true)));
  const ImageFolder turned = Read();
  EXPECT_NE(upright.content_hash, turned.content_hash);
  EXPECT_NE(upright.images.front().rgb, turned.images.front().rgb);
}

TEST_F(ImageFolderTest, AWarningNamesItsFile) {
  const std::string jpeg = testing::JpegKinds().front();
  File("a.jpg", jpeg.substr(0, jpeg.size() - 2) + std::string(9, 'x') + jpeg.substr(jpeg.size() - 2));
  EXPECT_THAT(Read().notes, ElementsAre(AllOf(HasSubstr("/a.jpg: "), HasSubstr("extraneous bytes"))));
}

}  // namespace
}  // namespace loupe::worker::data
