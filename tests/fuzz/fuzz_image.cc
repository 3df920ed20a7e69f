// Pictures of every format that is read: an error that names the picture, or pixels as many as its size says, which
// survive being written as PNG and can be made into a square of any side.
//
// libpng stops at the first chunk whose checksum is wrong, so every input is also tried with its checksums put right.
#include "absl/status/status.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/testing/picture_kinds.h"
#include "worker/io/image.h"

namespace loupe::fuzz {
namespace {

void Decode(const std::string& bytes) {
  const auto image = worker::io::DecodeImage(bytes, "fuzz.png", worker::io::Alpha::kOverWhite);
  if (!image.ok()) {
    Require(
        absl::IsInvalidArgument(image.status()) && image.status().message().find("fuzz.png") != absl::string_view::npos,
        "a refusal names the picture");
    return;
  }
  Require(image->width > 0 && image->height > 0, "a picture has a size");
  Require(image->rgb.size() == size_t{3} * static_cast<size_t>(image->width) * static_cast<size_t>(image->height),
          "three bytes a pixel");
  if (image->rgb.size() > 1 << 16) return;  // the same again, slowly
  const auto again = worker::io::DecodeImage(worker::io::EncodePng(*image), "again");
  Require(again.ok() && again->width == image->width && again->height == image->height && again->rgb == image->rgb,
          "a picture survives writing");
  for (const int side : {1, 3, 16})
    Require(worker::io::ResizeAndCrop(*image, side).rgb.size() == size_t(3 * side * side), "a square");
  Require(worker::io::ResizeLanczos(*image, 5, 2).rgb.size() == 30, "the size asked for");
}

}  // namespace

std::vector<std::string> Seeds() {
  worker::io::Image small{6, 4, {}};
  for (int i = 0; i < 72; ++i) small.rgb.push_back(static_cast<uint8_t>(5 * i));
  std::vector<std::string> seeds = {worker::io::EncodePng(small)};
  for (const auto& more :
       {testing::PngKinds(), testing::JpegKinds(), testing::WebpKinds(), testing::GifKinds(), testing::TiffKinds()}) {
    seeds.insert(seeds.end(), more.begin(), more.end());
  }
  const std::string exif = testing::ExifOfOrientation(6, true);
  seeds.push_back(testing::JpegWithExif(testing::JpegKinds().front(), exif));
  seeds.push_back(testing::PngWithExif(seeds.front(), exif));
  return seeds;
}

std::vector<std::string> Dictionary() {
  return {"IHDR",
          "PLTE",
          "IDAT",
          "IEND",
          "tRNS",
          "gAMA",
          "cHRM",
          "iCCP",
          "sBIT",
          "bKGD",
          "pHYs",
          "tEXt",
          "zTXt",
          "iTXt",
          "tIME",
          "eXIf",
          "acTL",
          "\x89PNG\r\n\x1a\n",
          "\xff\xd8",
          "\xff\xd9",
          "\xff\xda",
          "\xff\xc0",
          "\xff\xc2",
          "\xff\xc4",
          "\xff\xc9",
          "\xff\xca",
          "\xff\xcc",
          "\xff\xdb",
          "\xff\xdd",
          "\xff\xd0",
          "\xff\xee",
          std::string("Adobe\0", 6),
          std::string("JFIF\0", 5),
          std::string("\0\1\0\0", 4),
          std::string("Exif\0\0", 6),
          std::string("\1\x12", 2),
          "tiff:Orientation=\"",
          "RIFF",
          "WEBPVP8 ",
          "VP8L",
          "VP8X",
          "ANIM",
          "ANMF",
          "ALPH",
          "EXIF",
          "GIF89a",
          ",",
          "!\xf9\4",
          std::string("II*\0", 4),
          std::string("MM\0*", 4)};
}

int DefaultRuns() { return 4000; }

}  // namespace loupe::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loupe::fuzz;  // NOLINT: one function
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  Decode(bytes);
  if (const std::string repaired = loupe::testing::WithPngChecksums(bytes); repaired != bytes) Decode(repaired);
  return 0;
}
