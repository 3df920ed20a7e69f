// TIFF, through libtiff: the first page.
#include <tiffio.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>

#include "worker/io/picture_formats.h"

namespace loupe::worker::io {
namespace {

constexpr tmsize_t kMostTiffBytesAtOnce = tmsize_t{1} << 30;

struct TiffSource {
  std::string_view bytes;
  uint64_t at = 0;
  std::string error;
};

TiffSource& SourceOf(thandle_t handle) { return *static_cast<TiffSource*>(handle); }

tmsize_t ReadTiffBytes(thandle_t handle, void* to, tmsize_t count) {
  TiffSource& source = SourceOf(handle);
  const uint64_t left = source.at < source.bytes.size() ? source.bytes.size() - source.at : 0;
  const auto taken = std::min(left, static_cast<uint64_t>(count));
  std::memcpy(to, source.bytes.data() + (source.bytes.size() - left), taken);
  source.at += taken;
  return static_cast<tmsize_t>(taken);
}

tmsize_t WriteNoTiffBytes(thandle_t, void*, tmsize_t) { return 0; }

toff_t SeekTiff(thandle_t handle, toff_t offset, int from) {
  TiffSource& source = SourceOf(handle);
  source.at = from == SEEK_CUR ? source.at + offset : from == SEEK_END ? source.bytes.size() + offset : offset;
  return source.at;
}

int CloseNoTiff(thandle_t) { return 0; }

// The file lies in memory, and libtiff only reads there.
int MapTiff(thandle_t handle, void** base, toff_t* size) {
  const std::string_view bytes = SourceOf(handle).bytes;
  *base = const_cast<char*>(bytes.data());
  *size = bytes.size();
  return 1;
}

void UnmapNoTiff(thandle_t, void*, toff_t) {}

toff_t TiffSize(thandle_t handle) { return SourceOf(handle).bytes.size(); }

// The first error is the one that says what is wrong.
int OnTiffError(TIFF*, void* source, const char*, const char* format, va_list arguments) {
  std::string& error = static_cast<TiffSource*>(source)->error;
  char text[256];
  std::vsnprintf(text, sizeof(text), format, arguments);
  if (error.empty()) error = text;
  return 1;
}

// libtiff warns of tags that it passes over. Most say nothing about the pixels; a table of colours that cannot be read
// would make grey of a picture in colours.
int OnTiffWarning(TIFF* tiff, void* source, const char* module, const char* format, va_list arguments) {
  va_list again;
  va_copy(again, arguments);
  char text[256];
  std::vsnprintf(text, sizeof(text), format, again);
  va_end(again);
  const std::string_view warning = text;
  if (warning.find("ColorMap") == std::string_view::npos && warning.find("IO error") == std::string_view::npos)
    return 1;
  return OnTiffError(tiff, source, module, format, arguments);
}

std::unique_ptr<TIFF, decltype(&TIFFClose)> OpenTiff(TiffSource& source) {
  const std::unique_ptr<TIFFOpenOptions, decltype(&TIFFOpenOptionsFree)> options(TIFFOpenOptionsAlloc(),
                                                                                 TIFFOpenOptionsFree);
  TIFFOpenOptionsSetMaxSingleMemAlloc(options.get(), kMostTiffBytesAtOnce);
  TIFFOpenOptionsSetErrorHandlerExtR(options.get(), OnTiffError, &source);
  TIFFOpenOptionsSetWarningHandlerExtR(options.get(), OnTiffWarning, &source);
  return {TIFFClientOpenExt("TIFF", "r", &source, ReadTiffBytes, WriteNoTiffBytes, SeekTiff, CloseNoTiff, TiffSize,
                            MapTiff, UnmapNoTiff, options.get()),
          TIFFClose};
}

// libtiff's own picture of any page whose samples are whole numbers of up to 16 bits, in RGBA, colours multiplied by
// alpha.
bool ReadTiffPage(TIFF* tiff, TiffSource& source, StoredPicture& picture) {
  char why[1024] = "";
  TIFFRGBAImage page;
  if (TIFFRGBAImageOK(tiff, why) == 0 || TIFFRGBAImageBegin(&page, tiff, /*stop=*/1, why) == 0) {
    source.error = why;
    return false;
  }
  picture.width = page.width;
  picture.height = page.height;
  picture.orientation = page.orientation;
  // libtiff leaves grey as it is beside an alpha that is its own sample.
  const bool is_grey = page.photometric == PHOTOMETRIC_MINISBLACK || page.photometric == PHOTOMETRIC_MINISWHITE;
  picture.premultiplied = !is_grey || page.alpha == EXTRASAMPLE_ASSOCALPHA;
  bool ok = picture.width * picture.height <= kMaxPixelsOfFlat;
  if (!ok) {
    source.error = kTooManyPixelsOfFlat;
  } else {
    // As stored: turning is done for all formats in one place.
    page.req_orientation = page.orientation;
    std::vector<uint32_t> raster(picture.width * picture.height);
    ok = TIFFRGBAImageGet(&page, raster.data(), page.width, page.height) != 0 && source.error.empty();
    picture.rgba.reserve(4 * raster.size());
    for (const uint32_t pixel : raster) {
      for (const uint32_t value : {TIFFGetR(pixel), TIFFGetG(pixel), TIFFGetB(pixel), TIFFGetA(pixel)}) {
        picture.rgba.push_back(static_cast<uint8_t>(value));
      }
    }
  }
  TIFFRGBAImageEnd(&page);
  return ok;
}

}  // namespace

std::optional<std::string> DecodeTiff(std::string_view bytes, StoredPicture& picture) {
  TiffSource source{bytes, 0, ""};
  const auto tiff = OpenTiff(source);
  if (tiff == nullptr || !ReadTiffPage(tiff.get(), source, picture)) {
    return source.error.empty() ? "a damaged TIFF picture, or one that is not whole" : source.error;
  }
  if (TIFFLastDirectory(tiff.get()) == 0) picture.warnings.push_back("has several pages; the first is used");
  return std::nullopt;
}

}  // namespace loupe::worker::io
