// Token ids and pictures against transformers and Pillow: tests/parity/tokens.py and pictures.py wrote the numbers.
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "fmt/format.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "worker/io/clip_tokenizer.h"
#include "worker/io/image.h"
#include "worker/io/safetensors.h"

namespace loupe::worker {
namespace {

std::string Folder() {
  const char* folder = std::getenv("LOUPE_PARITY_DIR");
  return folder == nullptr ? "" : folder;
}

template <typename T>
std::vector<T> Numbers(const io::ArrayView& array) {
  std::vector<T> numbers(array.bytes.size() / sizeof(T));
  std::memcpy(numbers.data(), array.bytes.data(), array.bytes.size());
  return numbers;
}

std::string Hex(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return text;
}

TEST(TokenizerParity, MoreThanAThousandCaptionsWithOddUnicode) {
  const auto tokenizer = io::ClipTokenizer::Load("configs/bases/emoji-sd/tokenizer");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto file = io::SafetensorsFile::Open(Folder() + "/tokens.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  const auto captions = nlohmann::json::parse(std::ifstream(Folder() + "/tokens.json")).get<std::vector<std::string>>();
  ASSERT_GE(captions.size(), 1000u);
  const auto ids = Numbers<int64_t>(file->arrays().at("ids"));
  const auto long_ids = Numbers<int32_t>(file->arrays().at("long_ids"));
  for (size_t i = 0; i < captions.size(); ++i) {
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(32 * i);
    EXPECT_EQ(tokenizer->Encode(captions[i]), std::vector<int64_t>(begin, begin + 32)) << i << ": " << captions[i];
    const auto long_begin = long_ids.begin() + static_cast<std::ptrdiff_t>(400 * i);
    EXPECT_EQ(tokenizer->Encode(captions[i], 400), std::vector<int64_t>(long_begin, long_begin + 400))
        << i << ": " << captions[i];
  }
}

// tests/parity/tokenizer_folders.py made them up.
TEST(TokenizerParity, FoldersOfEveryAgeAndAddedTokens) {
  int same = 0;
  for (const auto& item : nlohmann::json::parse(std::ifstream(Folder() + "/tokenizers.json"))) {
    SCOPED_TRACE(item["folder"].get<std::string>());
    const auto tokenizer = io::ClipTokenizer::Load(Folder() + "/tokenizers/" + item["folder"].get<std::string>());
    if (!tokenizer.ok()) {
      // An added token with another id than the next one: its row in the text tower would be another one's.
      EXPECT_TRUE(item["wrong_id"].get<bool>() || item.contains("error")) << tokenizer.status();
      continue;
    }
    ASSERT_TRUE(item.contains("ids")) << "transformers refuses it: " << item["error"];
    EXPECT_EQ(tokenizer->pad_id(), item["pad"].get<int64_t>());
    for (size_t i = 0; i < item["texts"].size(); ++i) {
      const auto text = item["texts"][i].get<std::string>();
      EXPECT_EQ(tokenizer->Encode(text), item["ids"][i].get<std::vector<int64_t>>()) << text;
    }
    ++same;
  }
  EXPECT_GE(same, 140);
}

// tests/parity/safetensors_files.py made them up, and asked the safetensors library.
TEST(SafetensorsParity, SameFilesAreReadWithTheSameArrays) {
  int read = 0, refused = 0;
  for (const auto& item : nlohmann::json::parse(std::ifstream(Folder() + "/safetensors_files.json"))) {
    const auto path = Folder() + "/safetensors_files/" + item["name"].get<std::string>() + ".safetensors";
    SCOPED_TRACE(path);
    const auto file = io::SafetensorsFile::Open(path);
    ASSERT_EQ(file.ok(), item.contains("arrays"))
        << file.status() << "; the library: " << item.value("error", "reads it");
    ++(file.ok() ? read : refused);
    if (!file.ok()) continue;
    ASSERT_EQ(file->arrays().size(), item["arrays"].size());
    for (const auto& [name, expected] : item["arrays"].items()) {
      const io::ArrayView& found = file->arrays().at(name);
      EXPECT_EQ(io::ElementTypeName(found.type), expected["dtype"].get<std::string>());
      EXPECT_EQ(found.shape, expected["shape"].get<std::vector<int64_t>>());
      EXPECT_EQ(Hex(found.bytes), expected["data"].get<std::string>());
    }
  }
  EXPECT_GT(read, 150);
  EXPECT_GT(refused, 150);
}

TEST(PictureParity, ReadingAndResizingGivePillowsBytes) {
  const auto file = io::SafetensorsFile::Open(Folder() + "/pictures.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  for (const auto& item : nlohmann::json::parse(std::ifstream(Folder() + "/pictures.json"))) {
    const auto name = item.get<std::string>();
    SCOPED_TRACE(name);
    const auto image = io::ReadImage(Folder() + "/pictures/" + name);
    ASSERT_TRUE(image.ok()) << image.status();
    const io::ArrayView& expected = file->arrays().at(name + ".rgb");
    ASSERT_EQ((std::vector<int64_t>{image->height, image->width, 3}), expected.shape);
    // A JPEG may be off by one or two: Pillow carries another version of libjpeg-turbo, whose inverse cosine transform
    // and colour conversion round the same but whose chroma upsampling may not.
    const int tolerance = name.ends_with(".jpg") ? 2 : 0;
    const auto bytes = Numbers<uint8_t>(expected);
    for (size_t i = 0; i < bytes.size(); ++i) ASSERT_NEAR(image->rgb[i], bytes[i], tolerance) << "byte " << i;
    // Resizing is compared from the very bytes that Pillow resized.
    const io::Image read{image->width, image->height, bytes};
    for (const auto& [width, height] : {std::pair{64, 64}, {31, 97}, {128, 100}}) {
      const auto resized =
          Numbers<uint8_t>(file->arrays().at(name + "." + std::to_string(width) + "x" + std::to_string(height)));
      EXPECT_EQ(io::ResizeBicubic(read, width, height).rgb, resized) << width << "x" << height;
    }
  }
}

// Orientations, kinds of PNG, JPEG, WebP, GIF and TIFF, transparency over white, stray bytes.
TEST(PictureParity, EveryKindOfFileHasPillowsPixels) {
  const auto file = io::SafetensorsFile::Open(Folder() + "/picture_files.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  for (const auto& item : nlohmann::json::parse(std::ifstream(Folder() + "/picture_files.json"))) {
    const auto name = item.get<std::string>();
    SCOPED_TRACE(name);
    const auto image = io::ReadImage(Folder() + "/picture_files/" + name, io::Alpha::kOverWhite);
    ASSERT_TRUE(image.ok()) << image.status();
    const io::ArrayView& expected = file->arrays().at(name);
    ASSERT_EQ((std::vector<int64_t>{image->height, image->width, 3}), expected.shape);
    // JPEG as above. Alpha is rounded once here, twice by Pillow; libtiff rounds 16 bits, inks and chroma in its own
    // way.
    const bool is_jpeg = name.ends_with(".jpg") || name.starts_with("jpeg");
    const bool is_exact = name.find("alpha") == std::string::npos && name.find("rgba") == std::string::npos &&
                          name != "inks.tif" && name != "ycbcr.tif";
    const int tolerance = is_jpeg ? 2 : is_exact ? 0 : 1;
    const auto bytes = Numbers<uint8_t>(expected);
    for (size_t i = 0; i < bytes.size(); ++i) ASSERT_NEAR(image->rgb[i], bytes[i], tolerance) << "byte " << i;
  }
}

}  // namespace
}  // namespace loupe::worker
