#include "worker/data/image_folder.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <system_error>

#include "common/atomic_file.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::worker {
namespace {

namespace fs = std::filesystem;

bool IsImageName(const std::string& name) {
  std::string ending = fs::path(name).extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(), [](unsigned char c) { return std::tolower(c); });
  return !name.starts_with('.') && (ending == ".png" || ending == ".jpg" || ending == ".jpeg");
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ImageNamesIn(const std::string& folder) {
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  if (error) {
    return absl::NotFoundError(
        fmt::format("{}: the folder of images cannot be read ({}); expected a folder with .png or .jpg files", folder,
                    error.message()));
  }
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : entries) {
    const std::string name = entry.path().filename().string();
    if (IsImageName(name) && !entry.is_directory(error)) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<ImageFolder> ReadImageFolder(const std::string& folder, int side) {
  LOUPE_ASSIGN_OR_RETURN(std::vector<std::string> names, ImageNamesIn(folder));
  if (names.empty()) {
    return absl::InvalidArgumentError(fmt::format("{}: holds no image; expected .png or .jpg files in it", folder));
  }
  return ReadImageFiles(folder, std::move(names), side);
}

absl::StatusOr<ImageFolder> ReadImageFiles(const std::string& folder, std::vector<std::string> names, int side) {
  ImageFolder result{.path = folder, .names = std::move(names), .images = {}, .content_hash = {}};
  Sha256 digest;
  for (const std::string& name : result.names) {
    const std::string path = folder + "/" + name;
    LOUPE_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
    digest.Update(Sha256Hex(bytes));
    LOUPE_ASSIGN_OR_RETURN(const Image image, DecodeImage(bytes, path, Alpha::kOverWhite));
    result.images.push_back(ResizeAndCrop(image, side));
  }
  result.content_hash = digest.FinishHex();
  return result;
}

}  // namespace loupe::worker
