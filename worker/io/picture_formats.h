// One reader per picture format, each a thin shell around the library that everybody uses for it; image.h is what the
// rest of the program sees. A reader gives the pixels as they are stored: turning them upright and the background are
// image_codec.cc's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace loupe::worker::io {

// What a file may ask for before its pixels are read. A few bytes must not cost gigabytes, so each reader also refuses
// a file that is too short for the picture that it announces, by its format's greatest possible expansion, before it
// makes room.
inline constexpr uint64_t kMaxPixels = uint64_t{1} << 28;
// Of formats in which a flat picture of any size takes a few bytes: here the size alone is the bound.
inline constexpr uint64_t kMaxPixelsOfFlat = uint64_t{1} << 26;
inline constexpr char kTooManyPixels[] = "more than 2^28 pixels";
inline constexpr char kTooManyPixelsOfFlat[] = "more than 2^26 pixels, the most in this format";
inline constexpr char kTooShort[] = "the file is too short for a picture of its size";

struct StoredPicture {
  uint64_t width = 0;
  uint64_t height = 0;
  std::vector<uint8_t> rgba;   // 4·width·height, row by row
  bool premultiplied = false;  // the colours are multiplied by alpha already (TIFF)
  int orientation = 1;         // EXIF's, 1 … 8: how a viewer turns it
  std::vector<std::string> warnings;
};

// Each gives nothing, or the reason why there is no picture.
std::optional<std::string> DecodePng(std::string_view bytes, StoredPicture& picture);
std::optional<std::string> DecodeJpeg(std::string_view bytes, StoredPicture& picture);
std::optional<std::string> DecodeWebp(std::string_view bytes, StoredPicture& picture);
std::optional<std::string> DecodeGif(std::string_view bytes, StoredPicture& picture);
std::optional<std::string> DecodeTiff(std::string_view bytes, StoredPicture& picture);

// The orientation that an EXIF block (a small TIFF file, as in JPEG's APP1 after "Exif\0\0", PNG's eXIf, WebP's EXIF)
// or an XMP packet (tiff:Orientation) names; nullopt where it names none of the eight. Any bytes are safe.
std::optional<int> ExifOrientation(std::string_view exif);
std::optional<int> XmpOrientation(std::string_view xmp);

}  // namespace loupe::worker::io
