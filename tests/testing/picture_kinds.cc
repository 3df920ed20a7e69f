#include "tests/testing/picture_kinds.h"

#include <cstdio>
#include <cstdlib>
#include <functional>

#include <jpeglib.h>
#include <png.h>
#include <zlib.h>

namespace loupe::testing {
namespace {

constexpr unsigned kSide = 20;

std::vector<unsigned char> Row(unsigned y, size_t bytes) {
  std::vector<unsigned char> row(bytes);
  for (size_t x = 0; x < bytes; ++x) row[x] = static_cast<unsigned char>(11 * x + 7 * y * y);
  return row;
}

void AppendPngBytes(png_structp png, png_bytep bytes, png_size_t count) {
  static_cast<std::string*>(png_get_io_ptr(png))->append(reinterpret_cast<const char*>(bytes), count);
}

std::string Png(int depth, int colours, int interlace) {
  std::string out;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(png, &out, AppendPngBytes, nullptr);
  png_set_IHDR(png, info, kSide, kSide, depth, colours, interlace, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (colours == PNG_COLOR_TYPE_PALETTE) {
    const png_color palette[] = {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {9, 9, 9}};
    const png_byte alpha[] = {0, 128};
    png_set_PLTE(png, info, palette, 4);
    png_set_tRNS(png, info, alpha, 2, nullptr);
  }
  char key[] = "Comment", text[] = "none";
  png_text comment{};
  comment.compression = PNG_TEXT_COMPRESSION_NONE;
  comment.key = key;
  comment.text = text;
  png_set_text(png, info, &comment, 1);
  png_set_gAMA(png, info, 0.45455);
  png_write_info(png, info);
  for (int pass = png_set_interlace_handling(png); pass > 0; --pass) {
    for (unsigned y = 0; y < kSide; ++y) png_write_row(png, Row(y, size_t{8} * kSide).data());
  }
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return out;
}

std::string Jpeg(int components, const std::function<void(jpeg_compress_struct&)>& choose) {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;  // NOLINT: libjpeg's type
  jpeg_mem_dest(&jpeg, &bytes, &size);
  jpeg.image_width = jpeg.image_height = kSide;
  jpeg.input_components = components;
  jpeg.in_color_space = components == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&jpeg);
  choose(jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  for (unsigned y = 0; y < kSide; ++y) {
    std::vector<unsigned char> row = Row(y, static_cast<size_t>(components) * kSide);
    JSAMPROW rows[] = {row.data()};
    jpeg_write_scanlines(&jpeg, rows, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  std::string out(reinterpret_cast<const char*>(bytes), size);
  std::free(bytes);
  return out;
}

}  // namespace

std::vector<std::string> PngKinds() {
  return {Png(1, PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE),          Png(8, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_INTERLACE_ADAM7),
          Png(2, PNG_COLOR_TYPE_PALETTE, PNG_INTERLACE_NONE),       Png(16, PNG_COLOR_TYPE_RGB_ALPHA, PNG_INTERLACE_NONE),
          Png(16, PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_ADAM7),        Png(8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE)};
}

std::vector<std::string> JpegKinds() {
  const auto baseline = [](jpeg_compress_struct&) {};
  const auto progressive = [](jpeg_compress_struct& jpeg) { jpeg_simple_progression(&jpeg); };
  const auto restarting = [](jpeg_compress_struct& jpeg) { jpeg.restart_interval = 2; };
  return {Jpeg(3, baseline), Jpeg(3, progressive), Jpeg(1, restarting), Jpeg(1, progressive)};
}

std::string JpegOfScans(int scans) {
  constexpr int kCoefficients = 64;
  // Component, first and last coefficient, the bit above and the lowest bit sent.
  std::vector<jpeg_scan_info> script = {{1, {0, 0, 0, 0}, 0, 0, 0, 0}};
  const int bits = (scans - 1) / (kCoefficients - 1);
  for (int bit = bits - 1; bit >= 0; --bit) {
    for (int at = 1; at < kCoefficients; ++at) script.push_back({1, {0, 0, 0, 0}, at, at, bit == bits - 1 ? 0 : bit + 1, bit});
  }
  return Jpeg(1, [&](jpeg_compress_struct& jpeg) {
    jpeg.scan_info = script.data();
    jpeg.num_scans = static_cast<int>(script.size());
  });
}

std::string WithPngChecksums(std::string bytes) {
  constexpr size_t kSignature = 8, kFrame = 12;  // length, type and checksum, four bytes each
  const auto byte = [&](size_t at) { return static_cast<size_t>(static_cast<unsigned char>(bytes[at])); };
  for (size_t at = kSignature; at + kFrame <= bytes.size();) {
    const size_t length = byte(at) << 24 | byte(at + 1) << 16 | byte(at + 2) << 8 | byte(at + 3);
    if (length > bytes.size() - at - kFrame) break;
    const auto checksum = ::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()) + at + 4, length + 4);
    for (size_t i = 0; i < 4; ++i) bytes[at + 8 + length + i] = static_cast<char>(checksum >> (24 - 8 * i) & 0xff);
    at += kFrame + length;
  }
  return bytes;
}

}  // namespace loupe::testing
