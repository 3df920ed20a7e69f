// GIF, through giflib: the first picture, on the file's canvas.
#include <gif_lib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "fmt/format.h"
#include "worker/io/picture_formats.h"

namespace loupe::worker::io {
namespace {

// A code of LZW takes up to 12 bits and stands for at most 4,095 pixels.
constexpr uint64_t kMostPixelsPerGifByte = 2730;

int ReadGifBytes(GifFileType* gif, GifByteType* to, int count) {
  auto& rest = *static_cast<std::string_view*>(gif->UserData);
  const size_t taken = std::min(rest.size(), static_cast<size_t>(count));
  std::memcpy(to, rest.data(), taken);
  rest.remove_prefix(taken);
  return static_cast<int>(taken);
}

void CloseGif(GifFileType* gif) { DGifCloseFile(gif, nullptr); }

std::string GifError(int code) {
  const char* text = GifErrorString(code);
  return text == nullptr ? "a damaged GIF picture, or one that is not whole" : text;
}

// Goes over what stands before a picture and keeps the transparent colour. False at the end of the file or of what can
// be read.
bool FindGifPicture(GifFileType* gif, int& transparent) {
  for (GifRecordType record{}; DGifGetRecordType(gif, &record) == GIF_OK;) {
    if (record == IMAGE_DESC_RECORD_TYPE) return true;
    if (record != EXTENSION_RECORD_TYPE) return false;
    int kind = 0;
    GifByteType* block = nullptr;
    if (DGifGetExtension(gif, &kind, &block) == GIF_ERROR) return false;
    GraphicsControlBlock control;
    if (kind == GRAPHICS_EXT_FUNC_CODE && block != nullptr &&
        DGifExtensionToGCB(block[0], block + 1, &control) == GIF_OK) {
      transparent = control.TransparentColor;
    }
    while (block != nullptr) {
      if (DGifGetExtensionNext(gif, &block) == GIF_ERROR) return false;
    }
  }
  return false;
}

// The rows of an interlaced picture, in the order in which they are stored.
std::vector<int> GifRowOrder(int height, bool interlaced) {
  std::vector<int> order;
  constexpr int kFirst[] = {0, 4, 2, 1}, kStep[] = {8, 8, 4, 2};
  for (int pass = 0; pass < (interlaced ? 4 : 1); ++pass) {
    for (int y = interlaced ? kFirst[pass] : 0; y < height; y += interlaced ? kStep[pass] : 1) order.push_back(y);
  }
  return order;
}

std::optional<std::string> DecodeFirstGifPicture(GifFileType* gif, size_t file_bytes, StoredPicture& picture) {
  int transparent = NO_TRANSPARENT_COLOR;
  if (!FindGifPicture(gif, transparent)) return GifError(gif->Error != 0 ? gif->Error : D_GIF_ERR_NO_IMAG_DSCR);
  if (DGifGetImageDesc(gif) == GIF_ERROR) return GifError(gif->Error);
  const GifImageDesc& frame = gif->Image;
  // A picture that reaches over the canvas makes it larger.
  picture.width = static_cast<uint64_t>(std::max(gif->SWidth, frame.Left + frame.Width));
  picture.height = static_cast<uint64_t>(std::max(gif->SHeight, frame.Top + frame.Height));
  if (frame.Width < 1 || frame.Height < 1) return "a picture without pixels";
  if (picture.width * picture.height > kMaxPixelsOfFlat) return kTooManyPixelsOfFlat;
  const uint64_t pixels = static_cast<uint64_t>(frame.Width) * static_cast<uint64_t>(frame.Height);
  if (pixels / kMostPixelsPerGifByte > file_bytes) return kTooShort;
  const ColorMapObject* colours = frame.ColorMap != nullptr ? frame.ColorMap : gif->SColorMap;
  if (colours == nullptr) return "it has no table of colours";

  const auto pixel_of = [&](int index) {
    const GifColorType colour = index < colours->ColorCount ? colours->Colors[index] : GifColorType{0, 0, 0};
    return std::array<uint8_t, 4>{colour.Red, colour.Green, colour.Blue,
                                  static_cast<uint8_t>(index == transparent ? 0 : 255)};
  };
  // What the picture leaves free of the canvas is transparent, or has the first colour where nothing is (as Pillow has
  // it).
  const auto around = pixel_of(std::max(transparent, 0));
  picture.rgba.reserve(4 * picture.width * picture.height);
  for (uint64_t i = 0; i < picture.width * picture.height; ++i)
    picture.rgba.insert(picture.rgba.end(), around.begin(), around.end());
  std::vector<GifPixelType> row(static_cast<size_t>(frame.Width));
  for (const int y : GifRowOrder(frame.Height, frame.Interlace)) {
    if (DGifGetLine(gif, row.data(), frame.Width) == GIF_ERROR) return GifError(gif->Error);
    uint8_t* to = picture.rgba.data() +
                  4 * (picture.width * static_cast<uint64_t>(frame.Top + y) + static_cast<uint64_t>(frame.Left));
    for (const GifPixelType index : row) {
      const auto pixel = pixel_of(index);
      to = std::copy(pixel.begin(), pixel.end(), to);
    }
  }
  if (FindGifPicture(gif, transparent)) picture.warnings.push_back("is animated; the first picture is used");
  return std::nullopt;
}

}  // namespace

std::optional<std::string> DecodeGif(std::string_view bytes, StoredPicture& picture) {
  std::string_view rest = bytes;
  int error = 0;
  const std::unique_ptr<GifFileType, decltype(&CloseGif)> gif(DGifOpen(&rest, ReadGifBytes, &error), CloseGif);
  if (gif == nullptr) return GifError(error);
  return DecodeFirstGifPicture(gif.get(), bytes.size(), picture);
}

}  // namespace loupe::worker::io
