// Pictures as bytes: reading PNG and JPEG files, writing PNG, resizing and cropping as Pillow does.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe::worker {

// 8-bit RGB, row by row, three bytes a pixel.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;  // 3·width·height
};

// What becomes of a PNG's transparency. Dropping keeps the stored colours, as Pillow's convert("RGB") does.
enum class Alpha { kDrop, kOverWhite };

// The kind is told by the first bytes, not by the name. Grey and palette pictures become RGB, 16-bit ones keep their high
// bytes; colour profiles and orientation tags are ignored. NOT_FOUND or PERMISSION_DENIED from the file;
// INVALID_ARGUMENT, with the path and the decoder's reason, if it is not a whole PNG or JPEG picture, has more than 2^28 pixels or
// one side over 256 times the other, or is an arithmetic-coded JPEG or one of more than 200 scans.
absl::StatusOr<Image> ReadImage(const std::string& path, Alpha alpha = Alpha::kDrop);
// The same from memory; `name` is for messages.
absl::StatusOr<Image> DecodeImage(std::string_view bytes, const std::string& name, Alpha alpha = Alpha::kDrop);

// The same picture gives the same bytes.
std::string EncodePng(const Image& image);
// Whole or not at all; errors as WriteFileAtomically.
absl::Status WritePng(const std::string& path, const Image& image);

// Bicubic (a = −1/2), with the kernel widened when shrinking so that it does not alias; rounded to bytes after each of
// the two passes, in fixed point of 22 bits: Pillow 13's Image.resize(BICUBIC) byte for byte. Sizes ≥ 1.
Image ResizeBicubic(const Image& image, int width, int height);

// The same with the Lanczos kernel of three lobes, or a triangle's: Pillow's Image.resize(LANCZOS) and (BILINEAR) byte for byte.
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

}  // namespace loupe::worker
