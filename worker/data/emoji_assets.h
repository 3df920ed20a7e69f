// Emoji as pictures, from a folder of files named by code points: further styles beside the font's, so that a base has
// more than one way to draw a thing, and something to adapt to.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/io/image.h"

namespace loupe::worker::data {

// A style that can be had: where its pictures are looked for, and how they come there (docs/data.md has their
// licences).
struct EmojiStyle {
  std::string name;    // "twemoji"; stands in captions
  std::string folder;  // empty: drawn from the font
  std::string source;  // "install the Debian package …", for messages
};

// In the order of docs/data.md; "noto" first.
const std::vector<EmojiStyle>& EmojiStyles();

// The pictures of one folder. Files are named by code points in hexadecimal, with - or _ between several ("1F600.png",
// "1f468-200d-1f469.webp"), in any case; whether a name has its joiners (U+200D) and variation selectors (U+FE0F)
// differs from set to set and makes no difference here; of two files of one emoji the first by name is taken.
class EmojiAssets {
 public:
  // NOT_FOUND when there is no such folder; the sentence ends with `source`.
  static absl::StatusOr<EmojiAssets> Open(const std::string& folder, const std::string& source);

  // The picture of a code point sequence over white, brought to `side` by a Lanczos filter. NOT_FOUND when the folder
  // has none; INVALID_ARGUMENT names the file that is not nearly square.
  absl::StatusOr<io::Image> Read(const std::vector<uint32_t>& code_points, int side) const;

 private:
  std::string folder_;
  std::map<std::vector<uint32_t>, std::string> files_;  // without joiners and selectors -> name
};

}  // namespace loupe::worker::data
