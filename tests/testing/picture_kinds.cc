#include "tests/testing/picture_kinds.h"

#include <gif_lib.h>
#include <jpeglib.h>
#include <png.h>
#include <tiffio.h>
#include <webp/encode.h>
#include <zlib.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>

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
  png_set_IHDR(png, info, kSide, kSide, depth, colours, interlace, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
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
  jpeg.in_color_space = components == 1 ? JCS_GRAYSCALE : components == 4 ? JCS_CMYK : JCS_RGB;
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

int AppendGifBytes(GifFileType* gif, const GifByteType* bytes, int count) {
  static_cast<std::string*>(gif->UserData)->append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(count));
  return count;
}

std::string Gif(unsigned canvas, bool interlaced, int transparent, int pictures) {
  std::string out;
  GifFileType* gif = EGifOpen(&out, AppendGifBytes, nullptr);
  EGifSetGifVersion(gif, true);
  const GifColorType colours[] = {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {9, 9, 9}};
  ColorMapObject* table = GifMakeMapObject(4, colours);
  EGifPutScreenDesc(gif, static_cast<int>(canvas), static_cast<int>(canvas), 2, 0, table);
  for (int picture = 0; picture < pictures; ++picture) {
    GifByteType control[4];
    const GraphicsControlBlock block{0, false, 10, transparent};
    EGifGCBToExtension(&block, control);
    EGifPutExtension(gif, GRAPHICS_EXT_FUNC_CODE, sizeof(control), control);
    EGifPutImageDesc(gif, 1 * (canvas > kSide), 3 * (canvas > kSide), kSide, kSide, interlaced, nullptr);
    const unsigned first[] = {0, 4, 2, 1}, step[] = {8, 8, 4, 2};
    for (int pass = 0; pass < (interlaced ? 4 : 1); ++pass) {
      for (unsigned y = interlaced ? first[pass] : 0; y < kSide; y += interlaced ? step[pass] : 1) {
        std::vector<unsigned char> row = Row(y + static_cast<unsigned>(picture), kSide);
        for (unsigned char& index : row) index &= 3;
        EGifPutLine(gif, row.data(), kSide);
      }
    }
  }
  EGifCloseFile(gif, nullptr);
  GifFreeMapObject(table);
  return out;
}

// libtiff writes to what it can seek in: a string that grows.
struct TiffSink {
  std::string bytes;
  size_t at = 0;
};

std::string Tiff(uint16_t samples, uint16_t bits, uint16_t colours, uint16_t compression, bool tiled) {
  TiffSink sink;
  const auto write = [](thandle_t handle, void* data, tmsize_t count) -> tmsize_t {
    auto& to = *static_cast<TiffSink*>(handle);
    if (to.bytes.size() < to.at + static_cast<size_t>(count)) to.bytes.resize(to.at + static_cast<size_t>(count));
    std::memcpy(to.bytes.data() + to.at, data, static_cast<size_t>(count));
    to.at += static_cast<size_t>(count);
    return count;
  };
  const auto read = [](thandle_t handle, void* data, tmsize_t count) -> tmsize_t {
    auto& from = *static_cast<TiffSink*>(handle);
    const size_t taken = std::min(static_cast<size_t>(count), from.bytes.size() - std::min(from.at, from.bytes.size()));
    std::memcpy(data, from.bytes.data() + from.at, taken);
    from.at += taken;
    return static_cast<tmsize_t>(taken);
  };
  const auto seek = [](thandle_t handle, toff_t offset, int from) -> toff_t {
    auto& in = *static_cast<TiffSink*>(handle);
    in.at = offset + (from == SEEK_END ? in.bytes.size() : from == SEEK_CUR ? in.at : 0);
    return in.at;
  };
  const auto close = [](thandle_t) { return 0; };
  const auto size = [](thandle_t handle) -> toff_t { return static_cast<TiffSink*>(handle)->bytes.size(); };
  TIFF* tiff = TIFFClientOpen("memory", "wm", &sink, read, write, seek, close, size, nullptr, nullptr);
  TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, kSide);
  TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, kSide);
  TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, samples);
  TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, bits);
  TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC, colours);
  TIFFSetField(tiff, TIFFTAG_COMPRESSION, compression);
  TIFFSetField(tiff, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
  const uint16_t alpha[] = {EXTRASAMPLE_UNASSALPHA};
  if (colours != PHOTOMETRIC_SEPARATED && samples % 2 == 0) TIFFSetField(tiff, TIFFTAG_EXTRASAMPLES, 1, alpha);
  if (colours == PHOTOMETRIC_PALETTE) {
    std::vector<uint16_t> map(256);
    for (size_t i = 0; i < map.size(); ++i) map[i] = static_cast<uint16_t>(257 * i);
    TIFFSetField(tiff, TIFFTAG_COLORMAP, map.data(), map.data(), map.data());
  }
  const size_t row_bytes = size_t{kSide} * samples * bits / 8;
  if (tiled) {
    constexpr unsigned kTile = 16;
    TIFFSetField(tiff, TIFFTAG_TILEWIDTH, kTile);
    TIFFSetField(tiff, TIFFTAG_TILELENGTH, kTile);
    for (unsigned tile = 0; tile < 4; ++tile) {
      std::vector<unsigned char> bytes = Row(tile, size_t{kTile} * kTile * samples * bits / 8);
      TIFFWriteEncodedTile(tiff, tile, bytes.data(), static_cast<tmsize_t>(bytes.size()));
    }
  } else {
    TIFFSetField(tiff, TIFFTAG_ROWSPERSTRIP, 8);
    for (unsigned y = 0; y < kSide; ++y) TIFFWriteScanline(tiff, Row(y, row_bytes).data(), y);
  }
  TIFFClose(tiff);
  return sink.bytes;
}

}  // namespace

std::vector<std::string> PngKinds() {
  return {Png(1, PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE),    Png(8, PNG_COLOR_TYPE_GRAY_ALPHA, PNG_INTERLACE_ADAM7),
          Png(2, PNG_COLOR_TYPE_PALETTE, PNG_INTERLACE_NONE), Png(16, PNG_COLOR_TYPE_RGB_ALPHA, PNG_INTERLACE_NONE),
          Png(16, PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_ADAM7),  Png(8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE)};
}

std::vector<std::string> JpegKinds() {
  const auto baseline = [](jpeg_compress_struct&) {};
  const auto progressive = [](jpeg_compress_struct& jpeg) { jpeg_simple_progression(&jpeg); };
  const auto restarting = [](jpeg_compress_struct& jpeg) { jpeg.restart_interval = 2; };
  const auto ycck = [](jpeg_compress_struct& jpeg) { jpeg_set_colorspace(&jpeg, JCS_YCCK); };
  return {Jpeg(3, baseline),    Jpeg(3, progressive), Jpeg(1, restarting),
          Jpeg(1, progressive), Jpeg(4, baseline),    Jpeg(4, ycck)};
}

std::vector<std::string> WebpKinds() {
  const std::vector<unsigned char> pixels = Row(3, size_t{4} * kSide * kSide);
  const auto take = [](uint8_t* bytes, size_t size) {
    std::string webp(reinterpret_cast<const char*>(bytes), size);
    WebPFree(bytes);
    return webp;
  };
  uint8_t* lossy = nullptr;
  uint8_t* lossless = nullptr;
  const size_t lossy_size = WebPEncodeRGB(pixels.data(), kSide, kSide, 3 * kSide, 75, &lossy);
  const size_t lossless_size = WebPEncodeLosslessRGBA(pixels.data(), kSide, kSide, 4 * kSide, &lossless);
  return {take(lossy, lossy_size), take(lossless, lossless_size)};
}

std::vector<std::string> GifKinds() {
  return {Gif(/*canvas=*/kSide, /*interlaced=*/false, NO_TRANSPARENT_COLOR, /*pictures=*/1),
          Gif(kSide + 4, true, 2, 2)};
}

std::vector<std::string> TiffKinds() {
  return {Tiff(3, 8, PHOTOMETRIC_RGB, COMPRESSION_NONE, false),
          Tiff(3, 16, PHOTOMETRIC_RGB, COMPRESSION_LZW, true),
          Tiff(4, 8, PHOTOMETRIC_RGB, COMPRESSION_PACKBITS, false),
          Tiff(2, 8, PHOTOMETRIC_MINISBLACK, COMPRESSION_LZW, false),
          Tiff(1, 8, PHOTOMETRIC_PALETTE, COMPRESSION_NONE, true),
          Tiff(4, 8, PHOTOMETRIC_SEPARATED, COMPRESSION_NONE, false)};
}

std::string ExifOfOrientation(int orientation, bool big_endian) {
  // The header, the first directory at 8 with one entry (tag 0x0112, SHORT, one value), and no other directory.
  const auto value_of = static_cast<unsigned>(orientation);
  const std::vector<std::pair<unsigned, int>> fields = {{42, 2}, {8, 4},        {1, 2}, {0x0112, 2}, {3, 2},
                                                        {1, 4},  {value_of, 2}, {0, 2}, {0, 4}};
  std::string exif = big_endian ? "MM" : "II";
  for (const auto& [value, bytes] : fields) {
    for (int i = 0; i < bytes; ++i) exif += static_cast<char>(value >> 8 * (big_endian ? bytes - 1 - i : i) & 0xff);
  }
  return exif;
}

std::string JpegWithExif(const std::string& jpeg, const std::string& exif) {
  const std::string payload = std::string("Exif\0\0", 6) + exif;
  const size_t length = payload.size() + 2;
  const std::string segment =
      std::string("\xff\xe1") + static_cast<char>(length >> 8) + static_cast<char>(length & 0xff) + payload;
  return jpeg.substr(0, 2) + segment + jpeg.substr(2);
}

std::string PngWithExif(const std::string& png, const std::string& exif) {
  constexpr size_t kAfterHeader = 33;  // signature and IHDR
  const std::string chunk = std::string(3, '\0') + static_cast<char>(exif.size()) + "eXIf" + exif + "----";
  return WithPngChecksums(png.substr(0, kAfterHeader) + chunk + png.substr(kAfterHeader));
}

std::string JpegOfScans(int scans) {
  constexpr int kCoefficients = 64;
  // Component, first and last coefficient, the bit above and the lowest bit sent.
  std::vector<jpeg_scan_info> script = {{1, {0, 0, 0, 0}, 0, 0, 0, 0}};
  const int bits = (scans - 1) / (kCoefficients - 1);
  for (int bit = bits - 1; bit >= 0; --bit) {
    for (int at = 1; at < kCoefficients; ++at)
      script.push_back({1, {0, 0, 0, 0}, at, at, bit == bits - 1 ? 0 : bit + 1, bit});
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
