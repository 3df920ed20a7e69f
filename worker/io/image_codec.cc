// Which format a file has, and from pixels as they are stored to a picture as it is looked at.
#include <algorithm>
#include <array>

#include "common/atomic_file.h"
#include "common/lfs_pointer.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/image.h"
#include "worker/io/picture_formats.h"

namespace loupe::worker::io {
namespace {

using namespace std::string_view_literals;

// Squares are made of pictures: of one much longer than wide, at a fixed shorter side, nothing would fit into memory.
constexpr uint64_t kMaxAspect = 256;

struct Beginning {
  size_t at;  // where the bytes stand
  std::string_view bytes;
  std::string_view name;
  std::optional<std::string> (*decode)(std::string_view bytes, StoredPicture& picture);  // null: known by name only
};

// In this order. An ISO media file (HEIC, AVIF) has its brand at 8.
constexpr std::array kBeginnings = {
    Beginning{0, "\x89PNG\r\n\x1a\n"sv, "a PNG picture", DecodePng},
    Beginning{0, "\xFF\xD8\xFF"sv, "a JPEG picture", DecodeJpeg},
    Beginning{8, "WEBPVP8"sv, "a WebP picture", DecodeWebp},
    Beginning{0, "GIF87a"sv, "a GIF picture", DecodeGif},
    Beginning{0, "GIF89a"sv, "a GIF picture", DecodeGif},
    Beginning{0, "II*\0"sv, "a TIFF picture", DecodeTiff},
    Beginning{0, "MM\0*"sv, "a TIFF picture", DecodeTiff},
    Beginning{0, "II+\0"sv, "a TIFF picture", DecodeTiff},
    Beginning{0, "MM\0+"sv, "a TIFF picture", DecodeTiff},
    Beginning{4, "ftypavi"sv, "an AVIF picture", nullptr},
    Beginning{4, "ftyphe"sv, "a HEIC picture", nullptr},
    Beginning{4, "ftypm"sv, "a HEIF picture or a film", nullptr},
    Beginning{4, "ftyp"sv, "a film", nullptr},
    Beginning{0, "\0\0\0\x0cJXL "sv, "a JPEG XL picture", nullptr},
    Beginning{0, "\xFF\x0A"sv, "a JPEG XL picture", nullptr},
    Beginning{0, "\0\0\0\x0cjP  "sv, "a JPEG 2000 picture", nullptr},
    Beginning{0, "\xFF\x4F\xFF\x51"sv, "a JPEG 2000 picture", nullptr},
    Beginning{0, "BM"sv, "a BMP picture", nullptr},
    Beginning{0, "8BPS"sv, "a Photoshop picture", nullptr},
    Beginning{0, "\0\0\1\0"sv, "an ICO picture", nullptr},
    Beginning{0, "\x76\x2F\x31\x01"sv, "an OpenEXR picture", nullptr},
    Beginning{0, "#?RADIANCE"sv, "a Radiance picture", nullptr},
    Beginning{0, "qoif"sv, "a QOI picture", nullptr},
    Beginning{0, "DDS "sv, "a DDS picture", nullptr},
    Beginning{0, "P4\n"sv, "a PBM picture", nullptr},
    Beginning{0, "P5\n"sv, "a PGM picture", nullptr},
    Beginning{0, "P6\n"sv, "a PPM picture", nullptr},
    Beginning{0, "<svg"sv, "an SVG picture", nullptr},
};

const Beginning* Find(std::string_view bytes) {
  for (const Beginning& kind : kBeginnings) {
    if (bytes.size() >= kind.at && bytes.substr(kind.at).starts_with(kind.bytes)) return &kind;
  }
  return nullptr;
}

// Why a file of no known format is none, where it can be told.
std::string NoPicture(std::string_view bytes) {
  if (bytes.empty()) return "it is empty";
  if (bytes.starts_with("<") || bytes.starts_with("\xEF\xBB\xBF<")) return "it is a web page or another XML file";
  if (bytes.find_first_not_of('\0') == std::string_view::npos) return "it holds nothing but zeros";
  return fmt::format("it begins like no picture; read are {}", kReadableFormats);
}

// Where the pixel that a viewer shows at (x, y) is stored (EXIF 2.32, table 6: what row 0 and column 0 are).
uint64_t StoredAt(const StoredPicture& picture, uint64_t x, uint64_t y) {
  const uint64_t right = picture.width - 1, bottom = picture.height - 1;
  const auto at = [&](uint64_t column, uint64_t row) { return picture.width * row + column; };
  switch (picture.orientation) {
    case 2:
      return at(right - x, y);
    case 3:
      return at(right - x, bottom - y);
    case 4:
      return at(x, bottom - y);
    case 5:
      return at(y, x);
    case 6:
      return at(y, bottom - x);
    case 7:
      return at(right - y, bottom - x);
    case 8:
      return at(right - y, x);
    default:
      return at(x, y);
  }
}

// Over a white background, rounded.
uint8_t OverWhite(unsigned value, unsigned alpha, bool premultiplied) {
  if (premultiplied) return static_cast<uint8_t>(std::min(value + 255 - alpha, 255u));
  return static_cast<uint8_t>((value * alpha + 255 * (255 - alpha) + 127) / 255);
}

uint8_t OverBlack(unsigned value, unsigned alpha, bool premultiplied) {
  return static_cast<uint8_t>(premultiplied ? std::min(value, 255u) : (value * alpha + 127) / 255);
}

uint8_t WithoutAlpha(unsigned value, unsigned alpha, bool premultiplied) {
  if (!premultiplied || alpha == 0) return static_cast<uint8_t>(value);
  return static_cast<uint8_t>(std::min((value * 255 + alpha / 2) / alpha, 255u));
}

Image Upright(const StoredPicture& picture, Alpha alpha) {
  const bool swapped = picture.orientation >= 5, premultiplied = picture.premultiplied;
  const uint64_t width = swapped ? picture.height : picture.width, height = swapped ? picture.width : picture.height;
  Image image{static_cast<int>(width), static_cast<int>(height), std::vector<uint8_t>(3 * width * height)};
  uint8_t* to = image.rgb.data();
  for (uint64_t y = 0; y < height; ++y) {
    const uint8_t* from = picture.rgba.data() + 4 * StoredAt(picture, 0, y);
    // Along a shown row the stored pixels lie at equal distances.
    const auto at = [&](uint64_t x) { return static_cast<ptrdiff_t>(StoredAt(picture, x, y)); };
    const ptrdiff_t step = width < 2 ? 0 : 4 * (at(1) - at(0));
    for (uint64_t x = 0; x < width; ++x, from += step) {
      for (int c = 0; c < 3; ++c) {
        *to++ = from[3] == 255               ? from[c]
                : alpha == Alpha::kDrop      ? WithoutAlpha(from[c], from[3], premultiplied)
                : alpha == Alpha::kOverWhite ? OverWhite(from[c], from[3], premultiplied)
                                             : OverBlack(from[c], from[3], premultiplied);
      }
    }
  }
  return image;
}

}  // namespace

FileKind KindOf(std::string_view bytes) {
  const Beginning* kind = Find(bytes);
  return kind == nullptr ? FileKind{} : FileKind{kind->name, kind->decode != nullptr};
}

absl::StatusOr<PictureFile> DecodePicture(std::string_view bytes, const std::string& name, Alpha alpha) {
  LOUPE_RETURN_IF_ERROR(CheckIsNoLfsPointer(name, bytes));
  StoredPicture stored;
  std::optional<std::string> error;
  const Beginning* kind = Find(bytes);
  if (kind == nullptr) {
    error = NoPicture(bytes);
  } else if (kind->decode == nullptr) {
    error = fmt::format("it is {}, which is not read; convert it to PNG or JPEG", kind->name);
  } else {
    error = kind->decode(bytes, stored);
  }
  if (!error && std::max(stored.width, stored.height) > kMaxAspect * std::min(stored.width, stored.height)) {
    error =
        fmt::format("{} × {} pixels, one side more than {} times the other", stored.width, stored.height, kMaxAspect);
  }
  if (error)
    return absl::InvalidArgumentError(fmt::format("{}: not a picture this program can read: {}", name, *error));
  return PictureFile{
      .image = Upright(stored, alpha), .turned = stored.orientation != 1, .warnings = std::move(stored.warnings)};
}

absl::StatusOr<Image> DecodeImage(std::string_view bytes, const std::string& name, Alpha alpha) {
  LOUPE_ASSIGN_OR_RETURN(PictureFile picture, DecodePicture(bytes, name, alpha));
  return std::move(picture.image);
}

absl::StatusOr<Image> ReadImage(const std::string& path, Alpha alpha) {
  LOUPE_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  return DecodeImage(bytes, path, alpha);
}

}  // namespace loupe::worker::io
