// Emoji as pictures, from a font with colour bitmaps (Debian's fonts-noto-color-emoji): the built-in data.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/io/image.h"

namespace loupe::worker::data {

inline constexpr char kNotoColorEmojiPath[] = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf";

// Not thread-safe.
class EmojiRenderer {
 public:
  // NOT_FOUND when there is no such font (the sentence names the Debian package); INVALID_ARGUMENT when it has no
  // colour bitmaps of at least 64 pixels.
  static absl::StatusOr<std::unique_ptr<EmojiRenderer>> Create(const std::string& font_path);
  ~EmojiRenderer();

  // The glyph of a code point sequence (shaped: a sequence joined by U+200D is one glyph), at the font's own size (109
  // pixels per em in Noto), cut to the box of its visible pixels, in the middle of a white square of 136 pixels, then
  // brought to `side` by a Lanczos filter. NOT_FOUND when the font has no single glyph for it.
  absl::StatusOr<io::Image> Render(const std::vector<uint32_t>& code_points, int side) const;

 private:
  struct Font;
  explicit EmojiRenderer(std::unique_ptr<Font> font);
  const std::unique_ptr<Font> font_;
};

}  // namespace loupe::worker::data
