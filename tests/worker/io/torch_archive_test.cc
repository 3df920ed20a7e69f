// Archives as torch.save writes them, read back by the reader of such files here; PyTorch itself reads them in
// tests/parity/export_test.py.
#include "worker/io/torch_archive.h"

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/io/torch_checkpoint.h"

namespace loupe::worker::io {
namespace {

TEST(TorchArchiveTest, WhatIsWrittenIsReadBackInEveryType) {
  const std::string bytes(48, '\7');
  const auto first = [&](size_t count) { return std::string_view(bytes).substr(0, count); };
  const std::map<std::string, ArrayView> arrays{
      {"weight", {ElementType::kF32, {3, 4}, first(48)}}, {"half", {ElementType::kF16, {2}, first(4)}},
      {"bfloat", {ElementType::kBF16, {2}, first(4)}},    {"double", {ElementType::kF64, {1, 1, 2}, first(16)}},
      {"long", {ElementType::kI64, {3}, first(24)}},      {"int", {ElementType::kI32, {2, 1}, first(8)}},
      {"byte", {ElementType::kU8, {5}, first(5)}},        {"number", {ElementType::kF32, {}, first(4)}},
      {"empty", {ElementType::kF32, {0, 3}, {}}}};
  const std::string path = ::testing::TempDir() + "torch_archive_test.pt";
  ASSERT_TRUE(WriteTorchArchive(path, arrays).ok());
  const auto read = TorchCheckpoint::Open(path);
  std::filesystem::remove(path);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->arrays().size(), arrays.size());
  for (const auto& [name, array] : arrays) {
    SCOPED_TRACE(name);
    const ArrayView& found = read->arrays().at(name);
    EXPECT_EQ(found.type, array.type);
    EXPECT_EQ(found.shape, array.shape);
    EXPECT_EQ(found.bytes, array.bytes);
  }
}

TEST(TorchArchiveTest, NestedDataReadsBackWithItsArrays) {
  using Dictionary = TorchValue::Dictionary;
  const ArrayView array{ElementType::kI16, {2}, std::string_view("ab\0\xff", 4)};
  const auto text = [](const char* value) { return TorchValue{std::string(value)}; };
  const Dictionary inner{{{text("linear.0.bias"), {array}}}};
  const Dictionary root{{{{int64_t{768}}, {TorchValue::Tuple{{{inner}, {inner}}}}},
                         {text("list"), {TorchValue::List{{int64_t{1}}, {0.5}}}},
                         {text("truth"), {true}},
                         {text("none"), {}}}};
  const std::string path = ::testing::TempDir() + "torch_value_test.pt";
  ASSERT_TRUE(WriteTorchValue(path, {root}).ok());
  const auto read = TorchObject::Open(path);
  EXPECT_FALSE(TorchCheckpoint::Open(path).ok()) << "no state dictionary";
  std::filesystem::remove(path);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->root().kind, PickleValue::Kind::kDictionary);
  EXPECT_EQ((*read->root().items)[0].integer, 768);
  const auto& pair = *(*read->root().items)[1].items;
  ASSERT_EQ(pair.size(), 2u);
  const auto found = read->Array(*TorchObject::Find(pair[1], "linear.0.bias"));
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->bytes, array.bytes);
  const auto& list = *TorchObject::Find(read->root(), "list")->items;
  EXPECT_EQ(list[0].integer, 1);
  EXPECT_EQ(list[1].real, 0.5);
  EXPECT_EQ(TorchObject::Find(read->root(), "truth")->integer, 1);
  EXPECT_EQ(TorchObject::Find(read->root(), "none")->kind, PickleValue::Kind::kNone);
  EXPECT_EQ(TorchObject::Find(read->root(), "nothing"), nullptr);
  EXPECT_FALSE(read->Array(list[0]).ok());
}

TEST(TorchArchiveTest, SameArraysGiveTheSameBytes) {
  const std::map<std::string, ArrayView> arrays{{"b", {ElementType::kU8, {1}, "1"}},
                                                {"a", {ElementType::kU8, {1}, "2"}}};
  EXPECT_EQ(*SerialiseTorchArchive(arrays), *SerialiseTorchArchive(arrays));
}

TEST(TorchArchiveTest, AnErrorOfWritingNamesTheFileAndLeavesNone) {
  const absl::Status status = WriteTorchArchive("/nowhere/a.pt", {{"a", {ElementType::kU8, {1}, "1"}}});
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("/nowhere/a.pt"));
}

}  // namespace
}  // namespace loupe::worker::io
