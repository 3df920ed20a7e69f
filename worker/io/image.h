// Pictures as bytes: reading picture files, writing PNG, resizing and cropping as Pillow does.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe::worker::io {

// 8-bit RGB, row by row, three bytes a pixel.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;  // 3·width·height
};

// What becomes of transparency. Dropping keeps the stored colours, as Pillow's convert("RGB") does. Over white less
// over black is what shows of the background, 255 − α: the two together are a cut-out.
enum class Alpha { kDrop, kOverWhite, kOverBlack };

inline constexpr std::string_view kReadableFormats = "PNG, JPEG, WebP, GIF and TIFF";

// What a file's first 16 bytes (or more) say that it is, as "a HEIC picture"; no name where they say nothing.
struct FileKind {
  std::string_view name = {};
  bool is_read = false;  // by DecodePicture
};
FileKind KindOf(std::string_view bytes);

struct PictureFile {
  Image image;
  bool turned = false;                // brought upright: not as the file stores it
  std::vector<std::string> warnings;  // "has several pages; the first is used", without the file's name
};

// The format is told by the first bytes, not by the name. Turned upright as EXIF or XMP say (ImageOps.exif_transpose).
// Grey, palette and four-ink pictures become RGB, 16-bit ones keep their high bytes; colour profiles and gamma are
// ignored, as Pillow does; of several pictures in a file the first is taken. INVALID_ARGUMENT, with `name` and the
// decoder's reason, if it is not a whole picture of kReadableFormats, has more than 2^28 pixels (WebP, GIF and TIFF:
// 2^26) or one side over 256 times the other, or is an arithmetic-coded JPEG or one of more than 200 scans.
// docs/compatibility.md has the table.
absl::StatusOr<PictureFile> DecodePicture(std::string_view bytes, const std::string& name, Alpha alpha = Alpha::kDrop);

// Its picture alone.
absl::StatusOr<Image> DecodeImage(std::string_view bytes, const std::string& name, Alpha alpha = Alpha::kDrop);
// The same from a file; besides, NOT_FOUND or PERMISSION_DENIED from it.
absl::StatusOr<Image> ReadImage(const std::string& path, Alpha alpha = Alpha::kDrop);

// The same picture gives the same bytes.
std::string EncodePng(const Image& image);
// Whole or not at all; errors as WriteFileAtomically.
absl::Status WritePng(const std::string& path, const Image& image);

// Bicubic (a = −1/2), with the kernel widened when shrinking so that it does not alias; rounded to bytes after each of
// the two passes, in fixed point of 22 bits: Pillow 13's Image.resize(BICUBIC) byte for byte. Sizes ≥ 1.
Image ResizeBicubic(const Image& image, int width, int height);

// The same with the Lanczos kernel of three lobes, or a triangle's: Pillow's Image.resize(LANCZOS) and (BILINEAR) byte
// for byte.
Image ResizeLanczos(const Image& image, int width, int height);
Image ResizeBilinear(const Image& image, int width, int height);

// Which of the two passes comes first: it shows in the last bit, as each rounds. What Pillow 13 was observed to do.
bool ResizesColumnsFirst(const Image& image, int width, int height);

// The rectangle of that size in the middle (the upper left pixel at ⌊(extent − size)/2⌋). The image must be at least as
// large.
Image CentreCrop(const Image& image, int width, int height);

// `image` so that its shorter side is `side`, the other side rounded down; by one of the functions above.
Image ResizeShorterSide(const Image& image, int side, Image (*resize)(const Image& image, int width, int height));

// The same, bicubic, then the middle square of it: how CLIP's preprocessing and DreamBooth's loaders make squares.
Image ResizeAndCrop(const Image& image, int side);

}  // namespace loupe::worker::io
