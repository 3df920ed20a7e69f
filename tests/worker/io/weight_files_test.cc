// Which of a folder's files are read, under which names, and what is said where none can be.
#include "worker/io/weight_files.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_folder.h"
#include "worker/io/torch_archive.h"

namespace loupe::worker::io {
namespace {

using ::testing::HasSubstr;

// One array, "w", of one byte, by which a file is told from another.
std::map<std::string, ArrayView> Marked(std::string_view byte, const std::string& name = "w") {
  return {{name, {ElementType::kU8, {1}, byte}}};
}

class WeightFilesTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return folder_ / name; }
  void Safetensors(const std::string& name, std::string_view byte, const std::string& array = "w") {
    ASSERT_TRUE(WriteSafetensors(Path(name), Marked(byte, array), {}).ok());
  }
  void Bin(const std::string& name, std::string_view byte) {
    ASSERT_TRUE(WriteTorchArchive(Path(name), Marked(byte)).ok());
  }
  void Text(const std::string& name, const std::string& text) { std::ofstream(Path(name)) << text; }

  // What "w" holds in the files that are read.
  std::string Read(const std::string& stem = "model") {
    const auto files = WeightFiles::Open(folder_.path(), stem);
    if (!files.ok()) return std::string(files.status().message());
    return std::string(files->arrays().at("w").bytes);
  }

  const testing::TempFolder folder_;
};

TEST_F(WeightFilesTest, PlainBeforeVariantsAndSafetensorsFirst) {
  Safetensors("model.non_ema.safetensors", "n");
  EXPECT_EQ(Read(), "n");
  Safetensors("model.fp16.safetensors", "h");
  EXPECT_EQ(Read(), "h");
  Bin("pytorch_model.bin", "b");
  EXPECT_EQ(Read(), "b");
  Safetensors("model.safetensors", "s");
  EXPECT_EQ(Read(), "s");
}

TEST_F(WeightFilesTest, StemsOfBothLibraries) {
  Bin("diffusion_pytorch_model.bin", "d");
  EXPECT_EQ(Read("diffusion_pytorch_model"), "d");
  Bin("pytorch_model.fp16.bin", "p");
  EXPECT_EQ(Read("model"), "p");
}

TEST_F(WeightFilesTest, TwoVariantsAreBothNamed) {
  Safetensors("model.ema.safetensors", "e");
  Safetensors("model.non_ema.safetensors", "n");
  EXPECT_THAT(Read(), AllOf(HasSubstr("model.ema.safetensors"), HasSubstr("model.non_ema.safetensors")));
}

TEST_F(WeightFilesTest, ShardsAreReadByTheirIndex) {
  Safetensors("model-00001-of-00002.safetensors", "1");
  Safetensors("model-00002-of-00002.safetensors", "2", "v");
  EXPECT_THAT(
      Read(),
      HasSubstr("model-00001-of-00002.safetensors, a part: its index (model.safetensors.index.json) is missing"));
  Text(
      "model.safetensors.index.json",
      R"({"metadata": {"total_size": 2}, "weight_map": {"w": "model-00001-of-00002.safetensors", "v": "model-00002-of-00002.safetensors"}})");
  const auto files = WeightFiles::Open(folder_.path(), "model");
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->path(), Path("model.safetensors.index.json"));
  EXPECT_EQ(files->arrays().at("w").bytes, "1");
  EXPECT_EQ(files->arrays().at("v").bytes, "2");
}

TEST_F(WeightFilesTest, IndexOfAVariantAndOfBin) {
  Bin("pytorch_model-1.bin", "b");
  Text("pytorch_model.bin.index.json", R"({"weight_map": {"w": "pytorch_model-1.bin"}})");
  EXPECT_EQ(Read(), "b");
  std::filesystem::remove(Path("pytorch_model.bin.index.json"));
  Safetensors("model.fp16-00001-of-00001.safetensors", "h");
  Text("model.safetensors.index.fp16.json", R"({"weight_map": {"w": "model.fp16-00001-of-00001.safetensors"}})");
  EXPECT_EQ(Read(), "h");
}

TEST_F(WeightFilesTest, AnIndexThatDoesNotFitIsRefused) {
  Safetensors("a.safetensors", "a");
  Safetensors("b.safetensors", "b");
  Text("model.safetensors.index.json", R"({"weight_map": {"w": "a.safetensors", "x": "a.safetensors"}})");
  EXPECT_THAT(Read(), HasSubstr("'x' should be in a.safetensors and is not"));
  Text("model.safetensors.index.json", R"({"weight_map": {"w": "a.safetensors", "x": "b.safetensors"}})");
  EXPECT_THAT(Read(), HasSubstr("'w' is both in a.safetensors and in b.safetensors"));
  Text("model.safetensors.index.json", R"({"weight_map": {"w": "../a.safetensors"}})");
  EXPECT_THAT(Read(), HasSubstr("expected the name of a file beside it"));
  Text("model.safetensors.index.json", R"({"weight_map": {"w": "c.safetensors"}})");
  EXPECT_THAT(Read(), HasSubstr("c.safetensors"));
  Text("model.safetensors.index.json", R"({"metadata": {}})");
  EXPECT_THAT(Read(), HasSubstr("'weight_map' is missing"));
}

TEST_F(WeightFilesTest, OtherFormatsAreNamed) {
  EXPECT_THAT(Read(), HasSubstr("model.safetensors: not found"));
  Text("flax_model.msgpack", "x");
  EXPECT_THAT(Read(), HasSubstr("there is flax_model.msgpack, which is not read"));
}

TEST_F(WeightFilesTest, LfsPointersAreNamedInEveryKindOfFile) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
  for (const char* name : {"pytorch_model.bin", "model.safetensors.index.json", "model.safetensors"}) {
    Text(name, pointer);
    EXPECT_THAT(Read(), AllOf(HasSubstr(Path(name)), HasSubstr("a pointer of Git LFS"))) << name;
    std::filesystem::remove(Path(name));
  }
}

}  // namespace
}  // namespace loupe::worker::io
