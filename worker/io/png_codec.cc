// PNG, through libpng.
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>

#include "common/atomic_file.h"
#include "worker/io/image.h"
#include "worker/io/picture_formats.h"

namespace loupe::worker::io {
namespace {

// Deflate expands at most 1032 times (zlib's own figure).
constexpr uint64_t kMostDeflated = 1032;

// The library reports errors by longjmp, which skips destructors: in the functions between setjmp and the library's
// calls, everything that owns memory is declared before setjmp, by the caller.
struct PngSource {
  std::string_view all;
  std::string_view rest;
  std::string error;
  std::jmp_buf jump;
};

[[noreturn]] void OnPngError(png_structp png, png_const_charp message) {
  auto* source = static_cast<PngSource*>(png_get_error_ptr(png));
  source->error = message;
  std::longjmp(source->jump, 1);
}

void OnPngWarning(png_structp, png_const_charp) {}

void ReadPngBytes(png_structp png, png_bytep to, png_size_t count) {
  auto* source = static_cast<PngSource*>(png_get_io_ptr(png));
  if (count > source->rest.size()) png_error(png, "the file ends in the middle of the picture");
  std::memcpy(to, source->rest.data(), count);
  source->rest.remove_prefix(count);
}

// ImageMagick keeps EXIF as text: "\nexif\n  <length>\n" and hexadecimal digits in lines.
std::string FromRawProfile(std::string_view text) {
  for (int line = 0; line < 3; ++line) text.remove_prefix(std::min(text.find('\n') + 1, text.size()));
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  std::string bytes;
  int high = -1;
  for (const char c : text) {
    const int value = digit(c);
    if (value < 0) continue;
    if (high < 0) {
      high = value;
    } else {
      bytes += static_cast<char>(high << 4 | value);
      high = -1;
    }
  }
  return bytes;
}

// After the picture, which chunks about it may follow.
int PngOrientation(png_structp png, png_infop info) {
  png_bytep exif = nullptr;
  png_uint_32 exif_size = 0;
  if (png_get_eXIf_1(png, info, &exif_size, &exif) != 0) {
    if (const auto found = ExifOrientation({reinterpret_cast<const char*>(exif), exif_size})) return *found;
  }
  png_textp texts = nullptr;
  int count = 0;
  png_get_text(png, info, &texts, &count);
  for (int i = 0; i < count; ++i) {
    const std::string_view key = texts[i].key,
                           text(texts[i].text, std::max(texts[i].text_length, texts[i].itxt_length));
    std::optional<int> found;
    if (key == "Raw profile type exif") found = ExifOrientation(FromRawProfile(text));
    if (key == "XML:com.adobe.xmp") found = XmpOrientation(text);
    if (found) return *found;
  }
  return 1;
}

// `rows` is the caller's.
bool DecodePngRows(png_structp png, png_infop info, PngSource& source, StoredPicture& picture,
                   std::vector<png_bytep>& rows) {
  if (setjmp(source.jump) != 0) return false;
  png_read_info(png, info);
  picture.width = png_get_image_width(png, info);
  picture.height = png_get_image_height(png, info);
  if (picture.width * picture.height > kMaxPixels) png_error(png, kTooManyPixels);
  if (picture.height * png_get_rowbytes(png, info) / kMostDeflated > source.all.size()) png_error(png, kTooShort);
  png_set_strip_16(png);
  png_set_expand(png);
  png_set_gray_to_rgb(png);
  png_set_add_alpha(png, 0xFF, PNG_FILLER_AFTER);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  if (png_get_rowbytes(png, info) != 4 * picture.width) png_error(png, "unexpected row size");
  picture.rgba.resize(4 * picture.width * picture.height);
  rows.resize(picture.height);
  for (uint64_t y = 0; y < picture.height; ++y) rows[y] = picture.rgba.data() + 4 * picture.width * y;
  png_read_image(png, rows.data());
  png_read_end(png, info);
  return true;
}

void AppendPngBytes(png_structp png, png_bytep bytes, png_size_t count) {
  static_cast<std::string*>(png_get_io_ptr(png))->append(reinterpret_cast<const char*>(bytes), count);
}

}  // namespace

std::optional<std::string> DecodePng(std::string_view bytes, StoredPicture& picture) {
  PngSource source{bytes, bytes, "", {}};
  std::vector<png_bytep> rows;
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, OnPngError, OnPngWarning);
  png_infop info = png_create_info_struct(png);
  png_set_read_fn(png, &source, ReadPngBytes);
  const bool ok = DecodePngRows(png, info, source, picture, rows);
  if (ok) picture.orientation = PngOrientation(png, info);
  png_destroy_read_struct(&png, &info, nullptr);
  if (!ok) return source.error;
  // The chunk that says how many frames there are stands before the picture.
  if (bytes.substr(0, bytes.find("IDAT")).find("acTL") != std::string_view::npos) {
    picture.warnings.push_back("is animated; the first picture is used");
  }
  return std::nullopt;
}

std::string EncodePng(const Image& image) {
  std::string out;
  PngSource errors;
  std::vector<png_const_bytep> rows(static_cast<size_t>(image.height));
  for (size_t y = 0; y < rows.size(); ++y) rows[y] = image.rgb.data() + 3 * static_cast<size_t>(image.width) * y;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &errors, OnPngError, OnPngWarning);
  png_infop info = png_create_info_struct(png);
  // Writing valid rows to memory cannot fail; the jump is there because the library wants one.
  if (setjmp(errors.jump) == 0) {
    png_set_write_fn(png, &out, AppendPngBytes, nullptr);
    png_set_IHDR(png, info, static_cast<png_uint_32>(image.width), static_cast<png_uint_32>(image.height), 8,
                 PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    png_write_image(png, const_cast<png_bytepp>(rows.data()));
    png_write_end(png, nullptr);
  }
  png_destroy_write_struct(&png, &info);
  return out;
}

absl::Status WritePng(const std::string& path, const Image& image) {
  return WriteFileAtomically(path, EncodePng(image));
}

}  // namespace loupe::worker::io
