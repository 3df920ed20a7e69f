// Folders of pictures with captions, in each layout, and what is said of the broken ones.
#include "worker/data/captioned_folder.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/io/image.h"

namespace loupe::worker {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class CaptionedFolderTest : public testing::Test {
 protected:
  CaptionedFolderTest()
      : folder_(testing::TempDir() + "captioned_folder_test_" +
                testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~CaptionedFolderTest() override { fs::remove_all(folder_); }

  void Picture(const std::string& name, uint8_t value = 0) {
    fs::create_directories(fs::path(folder_ + "/" + name).parent_path());
    const auto status = WritePng(folder_ + "/" + name, Image{8, 8, std::vector<uint8_t>(8 * 8 * 3, value)});
    ASSERT_TRUE(status.ok()) << status;
  }
  void Text(const std::string& name, const std::string& text) { std::ofstream(folder_ + "/" + name) << text; }
  std::string Error() { return std::string(ReadCaptionedFolder(folder_, 8).status().message()); }

  const std::string folder_;
};

TEST_F(CaptionedFolderTest, MetadataLinesGiveEachImageItsCaption) {
  Picture("b.png", 10);
  Picture("a.png", 20);
  Text("metadata.jsonl", "{\"file_name\": \"b.png\", \"text\": \"bee\"}\n\n{\"file_name\": \"a.png\", \"text\": \"ant\"}\n");
  const auto folder = ReadCaptionedFolder(folder_, 8);
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_THAT(folder->captions, ElementsAre("ant", "bee"));
  EXPECT_THAT(folder->pictures.names, ElementsAre("a.png", "b.png"));
  EXPECT_EQ(folder->pictures.images[0].rgb[0], 20);
}

TEST_F(CaptionedFolderTest, TextFilesBesideTheImagesAreTheirCaptions) {
  Picture("a.png");
  Picture("b.png");
  Text("a.txt", "  an ant\n");
  Text("b.txt", "a bee");
  const auto folder = ReadCaptionedFolder(folder_, 8);
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_THAT(folder->captions, ElementsAre("an ant", "a bee"));
}

TEST_F(CaptionedFolderTest, ClassFoldersNameTheirCaptions) {
  Picture("water-lily/1.png");
  Picture("water-lily/2.png");
  Picture("rose/1.png");
  const auto folder = ReadCaptionedFolder(folder_, 8);
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_THAT(folder->captions, ElementsAre("a photo of rose", "a photo of water lily", "a photo of water lily"));
}

TEST_F(CaptionedFolderTest, ACaptionWithoutItsImageIsRefusedByName) {
  Picture("a.png");
  Text("a.txt", "an ant");
  Text("b.txt", "a bee");
  EXPECT_THAT(Error(), HasSubstr(folder_ + "/b.txt: a caption without its image; expected b.png"));
  fs::remove(folder_ + "/a.png");
  EXPECT_THAT(Error(), HasSubstr(folder_ + "/a.txt: a caption without its image")) << "also where there is no image at all";
}

TEST_F(CaptionedFolderTest, ALineWithoutItsImageIsRefusedByName) {
  Picture("a.png");
  Text("metadata.jsonl", "{\"file_name\": \"a.png\", \"text\": \"ant\"}\n{\"file_name\": \"b.png\", \"text\": \"bee\"}\n");
  EXPECT_THAT(Error(), HasSubstr("b.png: has a caption, but there is no such image"));
}

TEST_F(CaptionedFolderTest, AnImageWithoutItsCaptionIsRefusedByName) {
  Picture("a.png");
  Picture("b.png");
  Text("a.txt", "an ant");
  EXPECT_THAT(Error(), HasSubstr("b.png: its caption " + folder_ + "/b.txt is missing"));
  Text("metadata.jsonl", "{\"file_name\": \"a.png\", \"text\": \"ant\"}\n");
  EXPECT_THAT(Error(), HasSubstr("b.png: has no caption in metadata.jsonl"));
}

TEST_F(CaptionedFolderTest, WhatIsNotUnderstoodIsNamed) {
  EXPECT_THAT(Error(), HasSubstr(folder_ + ": has no captions")) << "an empty folder";
  Picture("rose/1.png");
  fs::create_directories(folder_ + "/tulip");
  EXPECT_THAT(Error(), HasSubstr("tulip: a class folder without an image"));
  Text("tulip/1.png", "no picture");
  EXPECT_THAT(Error(), HasSubstr("tulip/1.png"));
  Text("metadata.jsonl", "{\"file_name\": \"rose/1.png\"}\n");
  EXPECT_THAT(Error(), HasSubstr("metadata.jsonl: line 1: expected"));
  EXPECT_THAT(std::string(ReadCaptionedFolder("/nowhere", 8).status().message()), HasSubstr("/nowhere"));
}

TEST_F(CaptionedFolderTest, OneCaptionCannotServeTwoImages) {
  Picture("a.png");
  Picture("a.jpg");
  Text("a.txt", "an ant");
  EXPECT_THAT(Error(), HasSubstr("would share the caption a.txt"));
}

}  // namespace
}  // namespace loupe::worker
