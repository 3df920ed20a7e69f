// Emoji as pictures, from a folder of PNG files named by code points (Debian's ruby-gemojione): a second style beside
// the font's, so that the built-in base has something to adapt to.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/io/image.h"

namespace loupe::worker {

// Where Debian's package puts them: 1,796 pictures of 64 pixels.
inline constexpr char kGemojionePath[] = "/usr/share/rubygems-integration/all/gems/gemojione-3.3.0/assets/png";

// NOT_FOUND when there is no such folder; the sentence names the Debian package.
absl::Status CheckEmojiAssets(const std::string& folder);

// The picture of a code point sequence over white, brought to `side` by a Lanczos filter: the file "1F600.png", or with
// dashes between several; variation selectors (U+FE0F) are never part of a name, joiners (U+200D) may be. NOT_FOUND
// when the folder has none; INVALID_ARGUMENT names the file that is no square picture.
absl::StatusOr<Image> ReadEmojiAsset(const std::string& folder, const std::vector<uint32_t>& code_points, int side);

}  // namespace loupe::worker
