#include "worker/data/emoji_assets.h"

#include <filesystem>
#include <system_error>

#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::worker {
namespace {

constexpr uint32_t kVariationSelector = 0xFE0F;
constexpr uint32_t kJoiner = 0x200D;

std::string AssetName(const std::vector<uint32_t>& code_points, bool with_joiners) {
  std::string name;
  for (const uint32_t code_point : code_points) {
    if (code_point == kVariationSelector || (code_point == kJoiner && !with_joiners)) continue;
    name += fmt::format("{}{:04X}", name.empty() ? "" : "-", code_point);
  }
  return name + ".png";
}

}  // namespace

absl::Status CheckEmojiAssets(const std::string& folder) {
  std::error_code error;
  if (std::filesystem::is_directory(folder, error)) return absl::OkStatus();
  return absl::NotFoundError(fmt::format(
      "{}: there is no such folder of emoji pictures; install the Debian package ruby-gemojione, or name another folder with "
      "--assets",
      folder));
}

absl::StatusOr<Image> ReadEmojiAsset(const std::string& folder, const std::vector<uint32_t>& code_points, int side) {
  for (const bool with_joiners : {true, false}) {
    const std::string path = folder + "/" + AssetName(code_points, with_joiners);
    std::error_code error;
    if (!std::filesystem::exists(path, error)) continue;
    LOUPE_ASSIGN_OR_RETURN(const Image image, ReadImage(path, Alpha::kOverWhite));
    if (image.width != image.height) {
      return absl::InvalidArgumentError(
          fmt::format("{}: {} x {} pixels; expected a square picture of one emoji", path, image.width, image.height));
    }
    return image.width == side ? image : ResizeLanczos(image, side, side);
  }
  return absl::NotFoundError(fmt::format("{}: has no picture {}", folder, AssetName(code_points, true)));
}

}  // namespace loupe::worker
