#include "worker/data/emoji_renderer.h"

#include <hb-ft.h>
#include <hb.h>

#include <algorithm>
#include <filesystem>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

// After hb-ft.h, which brings FreeType's own headers.
#include FT_FREETYPE_H

namespace loupe::worker::data {
namespace {

// Noto's strike is 136×128 pixels; the square is a little more than the largest glyph.
constexpr int kCanvas = 136;

// A rectangle of the glyph's bitmap, in pixels; right and bottom are one past the last.
struct Box {
  int left, top, right, bottom;
};

const uint8_t* PixelAt(const FT_Bitmap& bitmap, int x, int y) {
  return bitmap.buffer + static_cast<std::ptrdiff_t>(y) * bitmap.pitch + std::ptrdiff_t{4} * x;
}

Box VisibleBox(const FT_Bitmap& bitmap) {
  Box box{static_cast<int>(bitmap.width), static_cast<int>(bitmap.rows), 0, 0};
  for (int y = 0; y < static_cast<int>(bitmap.rows); ++y) {
    for (int x = 0; x < static_cast<int>(bitmap.width); ++x) {
      if (PixelAt(bitmap, x, y)[3] == 0) continue;
      box = {std::min(box.left, x), std::min(box.top, y), std::max(box.right, x + 1), std::max(box.bottom, y + 1)};
    }
  }
  return box;
}

// Premultiplied BGRA over white.
void PasteOverWhite(const FT_Bitmap& bitmap, const Box& box, io::Image& canvas) {
  const int width = std::min(kCanvas, box.right - box.left), height = std::min(kCanvas, box.bottom - box.top);
  const int left = (kCanvas - width) / 2, top = (kCanvas - height) / 2;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const uint8_t* bgra = PixelAt(bitmap, box.left + x, box.top + y);
      uint8_t* rgb = canvas.rgb.data() + size_t{3} * static_cast<size_t>((top + y) * kCanvas + left + x);
      for (int c = 0; c < 3; ++c) rgb[c] = static_cast<uint8_t>(std::min(255, bgra[2 - c] + 255 - bgra[3]));
    }
  }
}

}  // namespace

struct EmojiRenderer::Font {
  FT_Library library = nullptr;
  FT_Face face = nullptr;
  hb_font_t* shaper = nullptr;

  ~Font() {
    if (shaper != nullptr) hb_font_destroy(shaper);
    if (face != nullptr) FT_Done_Face(face);
    if (library != nullptr) FT_Done_FreeType(library);
  }

  // The one glyph of the sequence; 0 when there is none or more than one.
  FT_UInt Shape(const std::vector<uint32_t>& code_points) const {
    hb_buffer_t* buffer = hb_buffer_create();
    hb_buffer_add_utf32(buffer, code_points.data(), static_cast<int>(code_points.size()), 0, -1);
    hb_buffer_guess_segment_properties(buffer);
    hb_shape(shaper, buffer, nullptr, 0);
    unsigned count = 0;
    const hb_glyph_info_t* glyphs = hb_buffer_get_glyph_infos(buffer, &count);
    const FT_UInt glyph = count == 1 ? glyphs[0].codepoint : 0;
    hb_buffer_destroy(buffer);
    return glyph;
  }
};

EmojiRenderer::EmojiRenderer(std::unique_ptr<Font> font) : font_(std::move(font)) {}
EmojiRenderer::~EmojiRenderer() = default;

absl::StatusOr<std::unique_ptr<EmojiRenderer>> EmojiRenderer::Create(const std::string& font_path) {
  if (!std::filesystem::exists(font_path)) {
    return absl::NotFoundError(fmt::format("{}: no such font; install Debian's fonts-noto-color-emoji", font_path));
  }
  auto font = std::make_unique<Font>();
  if (FT_Init_FreeType(&font->library) != 0) return absl::InternalError("FreeType does not start");
  if (FT_New_Face(font->library, font_path.c_str(), 0, &font->face) != 0) {
    return absl::InvalidArgumentError(fmt::format("{}: not a font that FreeType can read", font_path));
  }
  if (font->face->num_fixed_sizes < 1 || FT_Select_Size(font->face, 0) != 0 ||
      font->face->available_sizes[0].height < 64) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: has no colour bitmaps of at least 64 pixels; expected Noto Color Emoji with CBDT tables", font_path));
  }
  font->shaper = hb_ft_font_create_referenced(font->face);
  return std::unique_ptr<EmojiRenderer>(new EmojiRenderer(std::move(font)));
}

absl::StatusOr<io::Image> EmojiRenderer::Render(const std::vector<uint32_t>& code_points, int side) const {
  const FT_UInt glyph = font_->Shape(code_points);
  if (glyph == 0 || FT_Load_Glyph(font_->face, glyph, FT_LOAD_COLOR) != 0 ||
      font_->face->glyph->bitmap.pixel_mode != FT_PIXEL_MODE_BGRA) {
    return absl::NotFoundError(
        fmt::format("the font has no colour picture for U+{:04X}", fmt::join(code_points, " U+")));
  }
  const FT_Bitmap& bitmap = font_->face->glyph->bitmap;
  io::Image canvas{kCanvas, kCanvas, std::vector<uint8_t>(size_t{3} * kCanvas * kCanvas, 255)};
  const Box box = VisibleBox(bitmap);
  if (box.right > box.left) PasteOverWhite(bitmap, box, canvas);
  return io::ResizeLanczos(canvas, side, side);
}

}  // namespace loupe::worker::data
