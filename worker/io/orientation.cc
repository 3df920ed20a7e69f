#include "worker/io/picture_formats.h"

namespace loupe::worker::io {
namespace {

// TIFF 6.0, section 2; tag 0x0112 is Orientation.
constexpr uint32_t kOrientationTag = 0x0112;
constexpr uint32_t kShort = 3;
constexpr uint32_t kLong = 4;
constexpr uint32_t kEntryBytes = 12;

std::optional<uint32_t> Number(std::string_view bytes, uint64_t at, uint32_t size, bool big_endian) {
  if (at + size > bytes.size()) return std::nullopt;
  uint32_t value = 0;
  for (uint32_t i = 0; i < size; ++i) {
    const uint64_t place = big_endian ? at + i : at + size - 1 - i;
    value = value << 8 | static_cast<unsigned char>(bytes[place]);
  }
  return value;
}

std::optional<int> Legal(uint32_t value) {
  if (value < 1 || value > 8) return std::nullopt;
  return static_cast<int>(value);
}

}  // namespace

std::optional<int> ExifOrientation(std::string_view exif) {
  constexpr std::string_view kPrefix("Exif\0\0", 6);
  if (exif.starts_with(kPrefix)) exif.remove_prefix(kPrefix.size());
  const bool big_endian = exif.starts_with("MM");
  if (!big_endian && !exif.starts_with("II")) return std::nullopt;
  const auto directory = Number(exif, 4, 4, big_endian);
  if (!directory) return std::nullopt;
  const uint32_t entries = Number(exif, *directory, 2, big_endian).value_or(0);
  for (uint64_t i = 0; i < entries; ++i) {
    const uint64_t at = *directory + 2 + i * kEntryBytes;
    const auto tag = Number(exif, at, 2, big_endian), type = Number(exif, at + 2, 2, big_endian);
    if (!tag || !type) return std::nullopt;
    if (*tag != kOrientationTag) continue;
    const auto value = Number(exif, at + 8, *type == kLong ? 4 : 2, big_endian);
    if (!value || (*type != kShort && *type != kLong)) return std::nullopt;
    return Legal(*value);
  }
  return std::nullopt;
}

std::optional<int> XmpOrientation(std::string_view xmp) {
  // As an attribute, tiff:Orientation="6", or an element, <tiff:Orientation>6<.
  constexpr std::string_view kName = "tiff:Orientation";
  const size_t name = xmp.find(kName);
  if (name == std::string_view::npos) return std::nullopt;
  xmp.remove_prefix(name + kName.size());
  const size_t digit = xmp.starts_with("=\"") || xmp.starts_with("='") ? 2 : xmp.starts_with(">") ? 1 : 0;
  if (digit == 0 || digit >= xmp.size() || xmp[digit] < '1' || xmp[digit] > '8') return std::nullopt;
  return xmp[digit] - '0';
}

}  // namespace loupe::worker::io
