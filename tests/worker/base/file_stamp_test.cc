#include "worker/base/file_stamp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <utility>

#include "tests/testing/temp_folder.h"

namespace loupe::worker::base {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;

class FileStampTest : public ::testing::Test {
 protected:
  FileStampTest() : folder_(temp_ / "base") {
    fs::create_directories(folder_ + "/unet");
    Write("unet/weights", "abc");
    Write("config.json", "{}");
  }
  void Write(const std::string& name, const std::string& text) { std::ofstream(folder_ + "/" + name) << text; }

  testing::TempFolder temp_;
  const std::string folder_;
};

TEST_F(FileStampTest, StaysWhileNothingChanges) {
  EXPECT_EQ(FileStamp(folder_), FileStamp(folder_));
  EXPECT_NE(FileStamp(folder_), "");
}

TEST_F(FileStampTest, TellsEditsReplacementsAdditionsAndRemovals) {
  auto differs = [before = FileStamp(folder_), this]() mutable {
    const std::string now = FileStamp(folder_);
    return std::exchange(before, now) != now;
  };
  Write("unet/weights", "abcd");
  EXPECT_TRUE(differs()) << "another size";
  Write("tokenizer.json", "{}");
  EXPECT_TRUE(differs()) << "a new file";
  fs::remove(folder_ + "/tokenizer.json");
  EXPECT_TRUE(differs()) << "a file less";
  fs::rename(folder_ + "/unet", folder_ + "/other");
  EXPECT_TRUE(differs()) << "a folder less";
  fs::remove_all(folder_);
  EXPECT_TRUE(differs()) << "nothing left";
  EXPECT_EQ(FileStamp(folder_), "");
}

TEST_F(FileStampTest, TellsAReplacementOfTheSameSizeAndTime) {
  const std::string file = folder_ + "/unet/weights", before = FileStamp(folder_);
  const auto time = fs::last_write_time(file);
  std::ofstream(folder_ + "/../copy") << "xyz";
  fs::last_write_time(folder_ + "/../copy", time);
  fs::rename(folder_ + "/../copy", file);
  EXPECT_NE(FileStamp(folder_), before);
  EXPECT_EQ(fs::last_write_time(file), time);
}

TEST_F(FileStampTest, FollowsLinksToFilesAndFoldersOnce) {
  fs::create_directories(temp_ / "elsewhere/v1");
  fs::create_directories(temp_ / "elsewhere/v2");
  std::ofstream(temp_ / "elsewhere/v1/model") << "1";
  std::ofstream(temp_ / "elsewhere/v2/model") << "2";
  fs::create_directory_symlink(temp_ / "elsewhere/v1", folder_ + "/vae");
  fs::create_directory_symlink(folder_, folder_ + "/unet/circle");
  EXPECT_THAT(FilesBelow(folder_), ElementsAre("config.json", "unet/weights", "vae/model"));
  const std::string before = FileStamp(folder_);
  fs::remove(folder_ + "/vae");
  fs::create_directory_symlink(temp_ / "elsewhere/v2", folder_ + "/vae");
  EXPECT_NE(FileStamp(folder_), before) << "the link points elsewhere";
}

TEST_F(FileStampTest, IsAlsoThatOfAFile) {
  const std::string file = folder_ + "/config.json", before = FileStamp(file);
  Write("config.json", "{ }");
  EXPECT_NE(FileStamp(file), before);
}

}  // namespace
}  // namespace loupe::worker::base
