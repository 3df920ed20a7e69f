// What torch.save writes (tests/parity/checkpoints.py), read without running anything.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "common/atomic_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/io/safetensors.h"
#include "worker/io/torch_checkpoint.h"

namespace loupe::worker {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Folder() {
  const char* folder = std::getenv("LOUPE_PARITY_DIR");
  return folder == nullptr ? "" : folder + std::string("/checkpoints/");
}

std::string ErrorOf(const std::string& path) {
  const auto checkpoint = io::TorchCheckpoint::Open(path);
  return checkpoint.ok() ? "" : std::string(checkpoint.status().message());
}

// Of changed bytes, in a file of their own.
std::string ErrorOfBytes(const std::string& bytes) {
  const std::string path = ::testing::TempDir() + "changed-checkpoint.pth";
  std::ofstream(path, std::ios::binary) << bytes;
  return ErrorOf(path);
}

void ExpectSame(const std::string& path, const std::string& reference) {
  const auto checkpoint = io::TorchCheckpoint::Open(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto expected = io::SafetensorsFile::Open(Folder() + reference);
  ASSERT_TRUE(expected.ok()) << expected.status();
  for (const auto& [name, array] : expected->arrays()) {
    ASSERT_TRUE(checkpoint->arrays().contains(name)) << name;
    const io::ArrayView& found = checkpoint->arrays().at(name);
    EXPECT_EQ(found.type, array.type) << name;
    EXPECT_EQ(found.shape, array.shape) << name;
    EXPECT_EQ(found.bytes, array.bytes) << name;
  }
}

// Files come as one archive and as a sequence of pickles.
class CheckpointParity : public ::testing::TestWithParam<const char*> {
 protected:
  static std::string File(const std::string& name) { return Folder() + name + "." + GetParam() + ".pth"; }
};

TEST_P(CheckpointParity, TensorsOfEveryTypeShapeAndStorage) {
  ExpectSame(File("good"), "good.safetensors");
  EXPECT_EQ(io::TorchCheckpoint::Open(File("good"))->arrays().size(), 15u);
  ExpectSame(File("protocol4"), "good.safetensors");
}

TEST_P(CheckpointParity, TensorsInAnotherOrderOfTheirDimensions) {
  ExpectSame(File("transposed"), "transposed.safetensors");
}

TEST_P(CheckpointParity, StateDictionariesAndParameters) {
  ExpectSame(File("module"), "weight.safetensors");
  EXPECT_EQ(io::TorchCheckpoint::Open(File("module"))->arrays().size(), 5u);
  ExpectSame(File("parameter"), "weight.safetensors");
  ExpectSame(File("training"), "good.safetensors");
}

TEST_P(CheckpointParity, WhatWouldRunIsRefusedByName) {
  EXPECT_THAT(
      ErrorOf(File("evil")),
      AllOf(HasSubstr(File("evil")), HasSubstr("it wants to call 'posix.system', which weights do not need; refused")));
  EXPECT_FALSE(fs::exists(Folder() + "marker"));
  EXPECT_THAT(ErrorOf(File("whole-module")), HasSubstr("refused"));
}

TEST_P(CheckpointParity, WhatIsNotUnderstoodIsNamed) {
  EXPECT_THAT(ErrorOf(File("sliced")), HasSubstr("sliced: a tensor that is not contiguous"));
  EXPECT_THAT(ErrorOf(File("expanded")), HasSubstr("expanded: a tensor that is not contiguous"));
  EXPECT_THAT(ErrorOf(File("shared")), HasSubstr("in a file of tensors that share their numbers"));
  EXPECT_THAT(ErrorOf(File("complex")), HasSubstr("ComplexDoubleStorage"));
  EXPECT_THAT(ErrorOf(File("nested")), HasSubstr("entry 'model' is no tensor"));
}

TEST_P(CheckpointParity, EveryTruncationIsAnErrorThatNamesTheFile) {
  const std::string whole = *ReadFile(File("good"));
  for (size_t size = 0; size < whole.size(); size += 1 + size % 7) {
    EXPECT_THAT(ErrorOfBytes(whole.substr(0, size)), HasSubstr("changed-checkpoint.pth")) << size;
  }
}

TEST_P(CheckpointParity, NoChangedByteCrashes) {
  const std::string whole = *ReadFile(File("good"));
  for (size_t at = 0; at < whole.size(); at += 1 + at % 5) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 0x41);
    ErrorOfBytes(changed);
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, CheckpointParity, ::testing::Values("sequence", "archive"),
                         [](const auto& info) { return std::string(info.param); });

TEST(CheckpointArchiveParity, CompressionIsRefused) {
  EXPECT_THAT(ErrorOf(Folder() + "compressed.archive.pth"), HasSubstr("a compressed archive"));
}

// The older form has no checksums: there a changed number goes unseen.
TEST(CheckpointArchiveParity, AChangedNumberIsNoticed) {
  std::string bytes = *ReadFile(Folder() + "good.archive.pth");
  const auto reference = io::SafetensorsFile::Open(Folder() + "good.safetensors");
  ASSERT_TRUE(reference.ok()) << reference.status();
  const size_t at = bytes.find(reference->arrays().at("double").bytes);
  ASSERT_NE(at, std::string::npos);
  bytes[at + 3] = static_cast<char>(bytes[at + 3] ^ 1);
  EXPECT_THAT(ErrorOfBytes(bytes), HasSubstr("data/1: its checksum does not match"));
}

}  // namespace
}  // namespace loupe::worker
