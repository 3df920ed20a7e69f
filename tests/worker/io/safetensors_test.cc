#include "worker/io/safetensors.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace loupe::worker::io {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class SafetensorsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        std::filesystem::path(::testing::TempDir()) / ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Path(const std::string& name) const { return (folder_ / name).string(); }

  std::string Write(const std::string& name, const std::string& bytes) {
    std::ofstream(Path(name), std::ios::binary) << bytes;
    return Path(name);
  }

  // A file of this header and `data_size` data bytes.
  std::string WriteHeader(const std::string& header, size_t data_size) {
    const uint64_t size = header.size();
    std::string bytes(reinterpret_cast<const char*>(&size), sizeof(size));
    return Write("file.safetensors", bytes + header + std::string(data_size, '\1'));
  }

  void ExpectRefused(const std::string& path, const std::string& why) {
    const auto file = SafetensorsFile::Open(path);
    ASSERT_FALSE(file.ok());
    EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(file.status().message()), AllOf(HasSubstr(path), HasSubstr(why)));
  }

  std::filesystem::path folder_;
};

TEST_F(SafetensorsTest, WhatIsWrittenIsReadBack) {
  const std::vector<float> floats{1.5f, -2.0f, 3.25f, 0.0f, 5.0f, 6.0f};
  const std::string bytes = "abc";
  const std::map<std::string, ArrayView> arrays{
      {"z", {ElementType::kF32, {2, 3}, {reinterpret_cast<const char*>(floats.data()), 24}}},
      {"a.bytes", {ElementType::kU8, {3}, bytes}},
      {"empty", {ElementType::kF16, {0, 7}, {}}},
      {"scalar", {ElementType::kI32, {}, {reinterpret_cast<const char*>(floats.data()), 4}}}};
  const Metadata metadata{{"cell", "CA_out → FFN_in"}, {"quote", "\"\\\n"}};
  ASSERT_TRUE(WriteSafetensors(Path("x.safetensors"), arrays, metadata).ok());

  const auto file = SafetensorsFile::Open(Path("x.safetensors"));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata(), metadata);
  ASSERT_EQ(file->arrays().size(), arrays.size());
  for (const auto& [name, array] : arrays) {
    const ArrayView& read = file->arrays().at(name);
    EXPECT_EQ(read.type, array.type) << name;
    EXPECT_EQ(read.shape, array.shape) << name;
    EXPECT_EQ(read.bytes, array.bytes) << name;
  }
  // Largest elements first: every array is aligned.
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file->arrays().at("z").bytes.data()) % 4, 0u);
}

TEST_F(SafetensorsTest, SameContentGivesSameBytes) {
  const std::map<std::string, ArrayView> arrays{{"b", {ElementType::kU8, {1}, "1"}},
                                                {"a", {ElementType::kU8, {1}, "2"}}};
  EXPECT_EQ(*SerialiseSafetensors(arrays, {{"k", "v"}}), *SerialiseSafetensors(arrays, {{"k", "v"}}));
}

TEST_F(SafetensorsTest, ViewsOutliveTheFileObjectTheyWereCopiedFrom) {
  ASSERT_TRUE(WriteSafetensors(Path("x"), {{"a", {ElementType::kU8, {2}, "hi"}}}, {}).ok());
  std::optional<SafetensorsFile> copy;
  {
    auto file = SafetensorsFile::Open(Path("x"));
    ASSERT_TRUE(file.ok());
    copy = *file;
  }
  EXPECT_EQ(copy->arrays().at("a").bytes, "hi");
}

TEST_F(SafetensorsTest, MissingFileIsNotFound) {
  const auto file = SafetensorsFile::Open(Path("nothing"));
  EXPECT_EQ(file.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(file.status().message()), HasSubstr(Path("nothing")));
}

TEST_F(SafetensorsTest, FolderIsRefused) { ExpectRefused(folder_.string(), "not a regular file"); }

TEST_F(SafetensorsTest, ShortFilesAreRefused) {
  ExpectRefused(Write("empty", ""), "only 0 bytes");
  ExpectRefused(Write("four", "\1\2\3\4"), "only 4 bytes");
}

TEST_F(SafetensorsTest, HeaderLengthBeyondTheFileOrTheCapIsRefused) {
  const uint64_t beyond = 1000, huge = ~uint64_t{0};
  ExpectRefused(Write("beyond", std::string(reinterpret_cast<const char*>(&beyond), 8) + "{}"), "truncated");
  ExpectRefused(Write("huge", std::string(reinterpret_cast<const char*>(&huge), 8) + "{}"), "over 100000000");
}

TEST_F(SafetensorsTest, EveryTruncationIsRefused) {
  const auto bytes = SerialiseSafetensors({{"a", {ElementType::kF32, {2}, "12345678"}}}, {});
  ASSERT_TRUE(bytes.ok());
  for (size_t size = 0; size < bytes->size(); ++size) {
    EXPECT_FALSE(SafetensorsFile::Open(Write("cut", bytes->substr(0, size))).ok()) << size;
  }
  EXPECT_FALSE(SafetensorsFile::Open(Write("long", *bytes + "x")).ok());
}

TEST_F(SafetensorsTest, EveryFlippedHeaderByteIsRefusedOrHarmless) {
  const auto bytes = SerialiseSafetensors({{"a", {ElementType::kF32, {2}, "12345678"}}}, {});
  ASSERT_TRUE(bytes.ok());
  for (size_t i = 0; i < bytes->size() - 8; ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = *bytes;
      changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
      const auto file = SafetensorsFile::Open(Write("flipped", changed));
      if (!file.ok()) continue;
      // Another name, or another type of the same size: whatever is there must lie inside.
      for (const auto& [name, array] : file->arrays()) {
        int64_t bits = ElementBits(array.type);
        for (const int64_t extent : array.shape) bits *= extent;
        EXPECT_EQ(bits, 8 * static_cast<int64_t>(array.bytes.size())) << i << " " << bit;
      }
    }
  }
}

// As the safetensors library reads them (tests/parity/safetensors_files.py has many more).
TEST_F(SafetensorsTest, NullMetadataAndUnknownFieldsAreFine) {
  const auto file = SafetensorsFile::Open(WriteHeader(
      R"({"__metadata__": null, "w": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2], "note": {"deep": [[[1]]]}}})",
      2));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(file->metadata().empty());
  EXPECT_EQ(file->arrays().at("w").type, ElementType::kBool);
  // Two elements of F4 fill a byte, three do not.
  EXPECT_TRUE(
      SafetensorsFile::Open(WriteHeader(R"({"w": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}})", 1)).ok());
  ExpectRefused(WriteHeader(R"({"w": {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}})", 1), "does not fill");
}

TEST_F(SafetensorsTest, MalformedHeadersSayWhatIsWrong) {
  const auto array = [](const std::string& rest) { return "{\"w\": {" + rest + "}}"; };
  ExpectRefused(WriteHeader("[1]", 0), "not a JSON object");
  ExpectRefused(WriteHeader("{", 0), "not JSON");
  ExpectRefused(WriteHeader(array(R"("dtype": "U8", "shape": [)" + std::string(200'000, '[') +
                                  std::string(200'000, ']') + R"(], "data_offsets": [0, 1])"),
                            1),
                "far deeper");
  ExpectRefused(WriteHeader(R"({"w": 3})", 0), "'w' is not {dtype");
  ExpectRefused(WriteHeader(array(R"("dtype": "F8", "shape": [1], "data_offsets": [0, 1])"), 1),
                "expected one of F16, BF16");
  ExpectRefused(WriteHeader(array(R"("dtype": "U8", "shape": [-1], "data_offsets": [0, 1])"), 1), "whole number");
  ExpectRefused(WriteHeader(array(R"("dtype": "U8", "shape": [1.5], "data_offsets": [0, 1])"), 1), "whole number");
  ExpectRefused(WriteHeader(array(R"("dtype": "U8", "shape": [2], "data_offsets": [0, 1])"), 1), "does not fill");
  ExpectRefused(WriteHeader(array(R"("dtype": "U8", "shape": [1], "data_offsets": [1, 0])"), 1), "lies at bytes");
  ExpectRefused(WriteHeader(array(R"("dtype": "U8", "shape": [9], "data_offsets": [0, 9])"), 1), "truncated");
  ExpectRefused(WriteHeader(array(R"("dtype": "U8", "shape": [1], "data_offsets": [0, 1, 2])"), 1), "is not {dtype");
  // The product of the extents overflows 64 bits to 0.
  ExpectRefused(WriteHeader(array(R"("dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 0])"), 0),
                "does not fill");
  ExpectRefused(WriteHeader(R"({"__metadata__": {"k": 1}})", 0), "'k' is not a string");
  ExpectRefused(WriteHeader(R"({"__metadata__": []})", 0), "not an object");
}

TEST_F(SafetensorsTest, ArraysMustTileTheData) {
  const auto two = [](int a0, int a1, int b0, int b1) {
    const auto one = [](int from, int to) {
      return R"({"dtype": "U8", "shape": [)" + std::to_string(to - from) + R"(], "data_offsets": [)" +
             std::to_string(from) + ", " + std::to_string(to) + "]}";
    };
    return "{\"a\": " + one(a0, a1) + ", \"b\": " + one(b0, b1) + "}";
  };
  EXPECT_TRUE(SafetensorsFile::Open(WriteHeader(two(4, 8, 0, 4), 8)).ok());
  ExpectRefused(WriteHeader(two(0, 5, 4, 8), 8), "overlap");
  ExpectRefused(WriteHeader(two(0, 3, 4, 8), 8), "a gap");
  ExpectRefused(WriteHeader(two(0, 4, 4, 8), 9), "end at byte 8 of 9");
  ExpectRefused(WriteHeader(two(1, 4, 4, 8), 8), "a gap");
}

TEST_F(SafetensorsTest, RepeatedNamesAreRefused) {
  ExpectRefused(WriteHeader(R"({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
                               "w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}})",
                            1),
                "twice");
}

TEST_F(SafetensorsTest, WritingNonsenseIsAnErrorAndLeavesNoFile) {
  EXPECT_FALSE(WriteSafetensors(Path("x"), {{"a", {ElementType::kF32, {2}, "1234"}}}, {}).ok());
  EXPECT_FALSE(WriteSafetensors(Path("x"), {{"__metadata__", {ElementType::kU8, {1}, "1"}}}, {}).ok());
  EXPECT_FALSE(std::filesystem::exists(Path("x")));
}

}  // namespace
}  // namespace loupe::worker::io
