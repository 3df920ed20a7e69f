// Folders of pictures with captions, in each layout, and what is said of the broken ones.
#include "worker/data/captioned_folder.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/io/image.h"

namespace loupe::worker::data {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CaptionedFolderTest : public ::testing::Test {
 protected:
  CaptionedFolderTest()
      : folder_(::testing::TempDir() + "captioned_folder_test_" +
                ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~CaptionedFolderTest() override { fs::remove_all(folder_); }

  void Picture(const std::string& name, uint8_t value = 0) {
    fs::create_directories(fs::path(folder_ + "/" + name).parent_path());
    const auto status = io::WritePng(folder_ + "/" + name, io::Image{8, 8, std::vector<uint8_t>(8 * 8 * 3, value)});
    ASSERT_TRUE(status.ok()) << status;
  }
  void Text(const std::string& name, const std::string& text) { std::ofstream(folder_ + "/" + name) << text; }
  std::string Error() { return std::string(ReadCaptionedFolder(folder_, 8).status().message()); }

  const std::string folder_;
};

TEST_F(CaptionedFolderTest, MetadataLinesGiveEachImageItsCaption) {
  Picture("b.png", 10);
  Picture("a.png", 20);
  Text("metadata.jsonl",
       "{\"file_name\": \"b.png\", \"text\": \"bee\"}\n\n{\"file_name\": \"a.png\", \"text\": \"ant\"}\n");
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
  EXPECT_THAT(Error(), HasSubstr(folder_ + "/a.txt: a caption without its image"))
      << "also where there is no image at all";
}

TEST_F(CaptionedFolderTest, ALineWithoutItsImageIsRefusedByName) {
  Picture("a.png");
  Text("metadata.jsonl",
       "{\"file_name\": \"a.png\", \"text\": \"ant\"}\n{\"file_name\": \"b.png\", \"text\": \"bee\"}\n");
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

// A byte order mark changes the conditioning as a whole other caption would (cosine .35 to the right one).
TEST_F(CaptionedFolderTest, AByteOrderMarkIsNoPartOfACaption) {
  Picture("a.png");
  Text("a.txt",
       "\xEF\xBB\xBF"
       "a cat\r\n");
  EXPECT_THAT(ReadCaptionedFolder(folder_, 8)->captions, ElementsAre("a cat"));
  Text("metadata.jsonl", "\xEF\xBB\xBF{\"file_name\": \"a.png\", \"text\": \"\\ufeffa cat\"}\r\n");
  EXPECT_THAT(ReadCaptionedFolder(folder_, 8)->captions, ElementsAre("a cat"));
}

TEST_F(CaptionedFolderTest, CaptionsThatAreNotUtf8AreRefused) {
  Picture("a.png");
  const std::string line = "{\"file_name\": \"a.png\", \"text\": \"";
  const std::pair<std::string, const char*> texts[] = {
      {std::string("\xFF\xFE"
                   "c\0a\0t\0",
                   8),
       "is UTF-16"},
      {std::string("\xFE\xFF\0c\0a\0t", 8), "is UTF-16"},
      {std::string("c\0a\0t\0", 6), "line 1 has a NUL"},
      {std::string("\xFF\xFE\0\0c\0\0\0", 8), "is UTF-32"},
      {"a\ncaf\xe9", "line 2 has the byte 0xE9"},
      {"\x93quoted\x94", "line 1 has the byte 0x93"},
      {"a\xC0\x80", "0xC0"},
      {"\xED\xA0\x80", "0xED"},
      {"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"}};
  for (const auto& [text, why] : texts) {
    Text("a.txt", text);
    EXPECT_THAT(Error(), ::testing::AllOf(HasSubstr(folder_ + "/a.txt: "), HasSubstr(why)));
    fs::remove(folder_ + "/a.txt");
    const bool is_whole_file = text.starts_with("\xFF") || text.starts_with("\xFE") || text.starts_with("version");
    Text("metadata.jsonl", is_whole_file ? text : line + text + "\"}");
    EXPECT_THAT(Error(), ::testing::AllOf(HasSubstr(folder_ + "/metadata.jsonl"), HasSubstr(why)));
    fs::remove(folder_ + "/metadata.jsonl");
  }
  Text("metadata.jsonl", line + "a \\u0000 cat\"}");
  EXPECT_THAT(Error(), HasSubstr("has a NUL"));
  fs::remove(folder_ + "/metadata.jsonl");
  fs::remove(folder_ + "/a.png");
  Picture("caf\xe9/a.png");
  EXPECT_THAT(Error(), ::testing::AllOf(HasSubstr("caf\\xe9: "), HasSubstr("is not UTF-8")));
}

TEST_F(CaptionedFolderTest, AFileNamedTwiceIsRefusedWithBothLines) {
  Picture("a.png");
  Picture("b.png");
  const std::string a = "{\"file_name\": \"a.png\", \"text\": \"ant\"}\n",
                    b = "{\"file_name\": \"b.png\", \"text\": \"bee\"}\n";
  for (const char* name : {"a.png", "./a.png", "x/../a.png", ".//a.png"}) {
    Text("metadata.jsonl", a + b + "{\"file_name\": \"" + name + "\", \"text\": \"dog\"}\n");
    EXPECT_THAT(Error(), HasSubstr("metadata.jsonl: lines 1 and 3 both have a caption for a.png"));
  }
  Text("metadata.jsonl", b + "{\"file_name\": \"a.png\", \"text\": \"ant\", \"text\": \"dog\"}\n");
  EXPECT_THAT(Error(), HasSubstr("metadata.jsonl: line 2: the key 'text' is there twice"));
}

TEST_F(CaptionedFolderTest, NamesMayBeginWithADotAndASlash) {
  Picture("a.png", 10);
  Picture("in/b.png", 20);
  Picture("out/c.png", 30);
  Text("metadata.jsonl",
       "{\"file_name\": \"./a.png\", \"text\": \"ant\"}\n{\"file_name\": \"in//b.png\", \"text\": \"bee\"}\n");
  const auto folder = ReadCaptionedFolder(folder_, 8);
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_THAT(folder->captions, ElementsAre("ant", "bee"));
  EXPECT_THAT(folder->pictures.notes, ElementsAre(HasSubstr("/out: left out: no caption names a picture in it")));
}

TEST_F(CaptionedFolderTest, EndingsInUpperCaseAreTheSame) {
  Picture("a.PNG");
  Text("a.TXT", "an ant");
  EXPECT_THAT(ReadCaptionedFolder(folder_, 8)->captions, ElementsAre("an ant"));
  Text("a.txt", "a bee");
  EXPECT_THAT(Error(), ::testing::AllOf(HasSubstr("a.TXT"), HasSubstr("a.txt"), HasSubstr("both captions")));
  Text("METADATA.JSONL", "{\"file_name\": \"a.PNG\", \"text\": \"a cat\"}\n");
  EXPECT_THAT(ReadCaptionedFolder(folder_, 8)->captions, ElementsAre("a cat"));
  Text("metadata.jsonl", "");
  EXPECT_THAT(Error(), HasSubstr("has METADATA.JSONL and metadata.jsonl"));
}

TEST_F(CaptionedFolderTest, WhatMacOsAddsIsNoClassAndNoCaption) {
  Picture("rose/1.png");
  Text("rose/._1.png", "no picture");
  fs::create_directories(folder_ + "/__MACOSX/rose");
  Text("__MACOSX/rose/._1.png", "no picture");
  Text(".DS_Store", "no picture");
  const auto classes = ReadCaptionedFolder(folder_, 8);
  ASSERT_TRUE(classes.ok()) << classes.status();
  EXPECT_THAT(classes->captions, ElementsAre("a photo of rose"));
  Picture("a.png");
  Text("a.txt", "an ant");
  Text("._a.txt", "\xFF\xFE");
  EXPECT_THAT(ReadCaptionedFolder(folder_, 8)->captions, ElementsAre("an ant"));
}

TEST_F(CaptionedFolderTest, ALeftOutPictureTakesItsCaptionAlong) {
  Picture("a.png");
  Text("a.txt", "");
  Text("b.bmp", "BM");
  Text("b.txt", "a bee");
  const auto folder = ReadCaptionedFolder(folder_, 8);
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_THAT(folder->captions, ElementsAre(""));
  EXPECT_THAT(folder->pictures.notes,
              ElementsAre(HasSubstr("b.bmp: left out"), HasSubstr("a.png: has an empty caption")));
}

}  // namespace
}  // namespace loupe::worker::data
