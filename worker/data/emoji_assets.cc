#include "worker/data/emoji_assets.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::worker::data {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kVariationSelector = 0xFE0F;
constexpr uint32_t kJoiner = 0x200D;

std::vector<uint32_t> Bare(std::vector<uint32_t> code_points) {
  std::erase_if(code_points, [](uint32_t c) { return c == kVariationSelector || c == kJoiner; });
  return code_points;
}

// Of "1f468-200d-1f469.png"; none for any other file.
std::optional<std::vector<uint32_t>> CodePointsOf(const fs::path& file) {
  const std::string ending = absl::AsciiStrToLower(file.extension().string());
  if (ending != ".png" && ending != ".webp") return std::nullopt;
  std::vector<uint32_t> code_points;
  for (const auto part : absl::StrSplit(file.stem().string(), absl::ByAnyChar("-_"))) {
    uint32_t value = 0;
    if (!absl::SimpleHexAtoi(part, &value)) return std::nullopt;
    code_points.push_back(value);
  }
  return Bare(std::move(code_points));
}

// In the middle of a white square, where the sides differ by less than a tenth, as a few of fluent's do; else as it is.
io::Image InSquare(const io::Image& image) {
  const int side = std::max(image.width, image.height);
  if (10 * (side - std::min(image.width, image.height)) > side) return image;
  io::Image square{side, side,
                   std::vector<uint8_t>(size_t{3} * static_cast<size_t>(side) * static_cast<size_t>(side), 255)};
  const int left = (side - image.width) / 2, top = (side - image.height) / 2;
  for (int y = 0; y < image.height; ++y) {
    const auto from = image.rgb.begin() + 3 * static_cast<ptrdiff_t>(y) * image.width;
    std::copy(from, from + 3 * image.width, square.rgb.begin() + 3 * (static_cast<ptrdiff_t>(top + y) * side + left));
  }
  return square;
}

}  // namespace

const std::vector<EmojiStyle>& EmojiStyles() {
  static const std::vector<EmojiStyle> styles = {
      {"noto", "", "install the Debian package fonts-noto-color-emoji"},
      {"gemojione", "/usr/share/rubygems-integration/all/gems/gemojione-3.3.0/assets/png",
       "install the Debian package ruby-gemojione, or name another folder with --assets"},
      {"twemoji", "data/styles/twemoji", "run deploy/emoji-styles.sh, or name another folder with --assets"},
      {"openmoji", "data/styles/openmoji", "run deploy/emoji-styles.sh, or name another folder with --assets"},
      {"fluent", "data/styles/fluent", "run deploy/emoji-styles.sh, or name another folder with --assets"},
  };
  return styles;
}

absl::StatusOr<EmojiAssets> EmojiAssets::Open(const std::string& folder, const std::string& source) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    return absl::NotFoundError(fmt::format("{}: there is no such folder of emoji pictures; {}", folder, source));
  }
  EmojiAssets assets;
  assets.folder_ = folder;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const auto code_points = CodePointsOf(entry.path());
    if (!code_points) continue;
    const std::string name = entry.path().filename().string();
    std::string& kept = assets.files_[*code_points];
    if (kept.empty() || name < kept) kept = name;
  }
  if (error) return absl::PermissionDeniedError(fmt::format("{}: cannot be read: {}", folder, error.message()));
  return assets;
}

absl::StatusOr<io::Image> EmojiAssets::Read(const std::vector<uint32_t>& code_points, int side) const {
  const auto found = files_.find(Bare(code_points));
  if (found == files_.end()) {
    return absl::NotFoundError(fmt::format("{}: has no picture of U+{:04X}", folder_, fmt::join(code_points, " U+")));
  }
  const std::string path = folder_ + "/" + found->second;
  LOUPE_ASSIGN_OR_RETURN(io::Image image, io::ReadImage(path, io::Alpha::kOverWhite));
  if (image.width != image.height) image = InSquare(image);
  if (image.width != image.height) {
    return absl::InvalidArgumentError(
        fmt::format("{}: {} x {} pixels; expected a square picture of one emoji", path, image.width, image.height));
  }
  return image.width == side ? image : io::ResizeLanczos(image, side, side);
}

}  // namespace loupe::worker::data
