#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <optional>

#include <jpeglib.h>
#include <png.h>

#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/image.h"

namespace loupe::worker {
namespace {

constexpr uint64_t kMaxPixels = uint64_t{1} << 28;
// Squares are made of pictures: of one much longer than wide, at a fixed shorter side, nothing would fit into memory.
constexpr int kMaxAspect = 256;

// A few bytes must not ask for a gigabyte, so a file has to be long enough for the picture that it announces. Deflate, of PNG,
// expands at most 1032 times (zlib's own figure).
constexpr uint64_t kMostDeflated = 1032;
// Of JPEG a block takes at least a bit, and with whatever subsampling there is a block for every 128 pixels.
constexpr uint64_t kMostPixelsPerJpegByte = 1024;
// Each scan of a progressive JPEG goes over the whole picture again. Encoders write about ten.
constexpr int kMostJpegScans = 200;
constexpr const char* kTooShort = "the file is too short for a picture of its size";

// Both libraries report errors by longjmp, which skips destructors: in the functions between setjmp and the libraries'
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

struct RgbaImage {
  uint64_t width = 0;
  uint64_t height = 0;
  std::vector<uint8_t> rgba;
  std::vector<png_bytep> rows;
};

bool DecodePngRows(png_structp png, png_infop info, PngSource& source, RgbaImage& image) {
  if (setjmp(source.jump) != 0) return false;
  png_read_info(png, info);
  image.width = png_get_image_width(png, info);
  image.height = png_get_image_height(png, info);
  if (image.width * image.height > kMaxPixels) png_error(png, "more than 2^28 pixels");
  if (image.height * png_get_rowbytes(png, info) / kMostDeflated > source.all.size()) png_error(png, kTooShort);
  png_set_strip_16(png);
  png_set_expand(png);
  png_set_gray_to_rgb(png);
  png_set_add_alpha(png, 0xFF, PNG_FILLER_AFTER);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  if (png_get_rowbytes(png, info) != 4 * image.width) png_error(png, "unexpected row size");
  image.rgba.resize(4 * image.width * image.height);
  image.rows.resize(image.height);
  for (uint64_t y = 0; y < image.height; ++y) image.rows[y] = image.rgba.data() + 4 * image.width * y;
  png_read_image(png, image.rows.data());
  png_read_end(png, nullptr);
  return true;
}

// Alpha over a white background, rounded.
uint8_t OverWhite(unsigned value, unsigned alpha) {
  return static_cast<uint8_t>((value * alpha + 255 * (255 - alpha) + 127) / 255);
}

std::optional<std::string> DecodePng(std::string_view bytes, Alpha alpha, Image& image) {
  PngSource source{bytes, bytes, "", {}};
  RgbaImage decoded;
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, OnPngError, OnPngWarning);
  png_infop info = png_create_info_struct(png);
  png_set_read_fn(png, &source, ReadPngBytes);
  const bool ok = DecodePngRows(png, info, source, decoded);
  png_destroy_read_struct(&png, &info, nullptr);
  if (!ok) return source.error;
  image.width = static_cast<int>(decoded.width);
  image.height = static_cast<int>(decoded.height);
  image.rgb.reserve(decoded.rgba.size() / 4 * 3);
  for (size_t i = 0; i < decoded.rgba.size(); i += 4) {
    for (size_t c = 0; c < 3; ++c) {
      const uint8_t value = decoded.rgba[i + c];
      image.rgb.push_back(alpha == Alpha::kDrop ? value : OverWhite(value, decoded.rgba[i + 3]));
    }
  }
  return std::nullopt;
}

struct JpegErrors {
  jpeg_error_mgr manager;  // first, so that the library's pointer to it is ours
  char message[JMSG_LENGTH_MAX];
  std::jmp_buf jump;
};

[[noreturn]] void OnJpegError(j_common_ptr jpeg) {
  auto* errors = reinterpret_cast<JpegErrors*>(jpeg->err);
  errors->manager.format_message(jpeg, errors->message);
  std::longjmp(errors->jump, 1);
}

[[noreturn]] void RefuseJpeg(j_common_ptr jpeg, const char* why) {
  auto* errors = reinterpret_cast<JpegErrors*>(jpeg->err);
  std::snprintf(errors->message, sizeof(errors->message), "%s", why);
  std::longjmp(errors->jump, 1);
}

void OnJpegProgress(j_common_ptr jpeg) {
  if (reinterpret_cast<j_decompress_ptr>(jpeg)->input_scan_number > kMostJpegScans) RefuseJpeg(jpeg, "more than 200 scans");
}

// libjpeg goes on past damage with a warning; a picture that is not whole is refused instead.
void OnJpegMessage(j_common_ptr jpeg, int level) {
  if (level < 0) OnJpegError(jpeg);
}

bool DecodeJpegRows(jpeg_decompress_struct& jpeg, JpegErrors& errors, std::string_view bytes, Image& image) {
  if (setjmp(errors.jump) != 0) return false;
  jpeg_create_decompress(&jpeg);
  jpeg_progress_mgr progress{};
  progress.progress_monitor = OnJpegProgress;
  jpeg.progress = &progress;
  jpeg_mem_src(&jpeg, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(&jpeg, TRUE);
  const auto common = reinterpret_cast<j_common_ptr>(&jpeg);
  const uint64_t pixels = uint64_t{jpeg.image_width} * jpeg.image_height;
  if (pixels > kMaxPixels) RefuseJpeg(common, "more than 2^28 pixels");
  // In arithmetic coding, which hardly anything writes, no bytes at all can stand for any number of blocks.
  if (jpeg.arith_code) RefuseJpeg(common, "arithmetic coding; expected Huffman's");
  if (pixels / kMostPixelsPerJpegByte > bytes.size()) RefuseJpeg(common, kTooShort);
  jpeg.out_color_space = JCS_RGB;
  jpeg_start_decompress(&jpeg);
  image.width = static_cast<int>(jpeg.output_width);
  image.height = static_cast<int>(jpeg.output_height);
  image.rgb.resize(size_t{3} * jpeg.output_width * jpeg.output_height);
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW row = image.rgb.data() + size_t{3} * jpeg.output_width * jpeg.output_scanline;
    jpeg_read_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_decompress(&jpeg);
  return true;
}

std::optional<std::string> DecodeJpeg(std::string_view bytes, Image& image) {
  jpeg_decompress_struct jpeg{};
  JpegErrors errors{};
  jpeg.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = OnJpegError;
  errors.manager.emit_message = OnJpegMessage;
  const bool ok = DecodeJpegRows(jpeg, errors, bytes, image);
  jpeg_destroy_decompress(&jpeg);
  if (!ok) return errors.message;
  return std::nullopt;
}

void AppendPngBytes(png_structp png, png_bytep bytes, png_size_t count) {
  static_cast<std::string*>(png_get_io_ptr(png))->append(reinterpret_cast<const char*>(bytes), count);
}

}  // namespace

absl::StatusOr<Image> DecodeImage(std::string_view bytes, const std::string& name, Alpha alpha) {
  Image image;
  std::optional<std::string> error;
  if (bytes.starts_with("\x89PNG\r\n\x1a\n")) {
    error = DecodePng(bytes, alpha, image);
  } else if (bytes.starts_with("\xFF\xD8\xFF")) {
    error = DecodeJpeg(bytes, image);
  } else {
    error = "it begins like neither a PNG nor a JPEG file";
  }
  if (!error && std::max(image.width, image.height) > kMaxAspect * std::min(image.width, image.height)) {
    error = fmt::format("{} × {} pixels, one side more than {} times the other", image.width, image.height, kMaxAspect);
  }
  if (error) return absl::InvalidArgumentError(fmt::format("{}: not a picture this program can read: {}", name, *error));
  return image;
}

absl::StatusOr<Image> ReadImage(const std::string& path, Alpha alpha) {
  LOUPE_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  return DecodeImage(bytes, path, alpha);
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

absl::Status WritePng(const std::string& path, const Image& image) { return WriteFileAtomically(path, EncodePng(image)); }

}  // namespace loupe::worker
