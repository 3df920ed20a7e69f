#include "worker/data/image_folder.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/ascii.h"
#include "common/atomic_file.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "fmt/format.h"

namespace loupe::worker::data {
namespace {

namespace fs = std::filesystem;

using namespace std::string_view_literals;

constexpr std::array kReadEndings = {".png"sv,  ".jpg"sv, ".jpeg"sv, ".jpe"sv,  ".jfif"sv,
                                     ".webp"sv, ".gif"sv, ".tif"sv,  ".tiff"sv, ".apng"sv};
// Pictures whose first bytes do not tell (or are those of TIFF, in a camera's own format).
constexpr std::array kOtherEndings = {".bmp"sv, ".heic"sv, ".heif"sv, ".avif"sv, ".jxl"sv, ".jp2"sv, ".j2k"sv, ".psd"sv,
                                      ".svg"sv, ".tga"sv,  ".ico"sv,  ".exr"sv,  ".hdr"sv, ".qoi"sv, ".ppm"sv, ".pgm"sv,
                                      ".pbm"sv, ".pnm"sv,  ".dds"sv,  ".xcf"sv,  ".eps"sv, ".dng"sv, ".cr2"sv, ".cr3"sv,
                                      ".nef"sv, ".arw"sv,  ".raf"sv,  ".orf"sv,  ".rw2"sv};
// Texts that lie beside pictures, one for each: not opened to see whether they hold a picture.
constexpr std::array kTextEndings = {".txt"sv, ".caption"sv, ".json"sv, ".jsonl"sv, ".csv"sv, ".md"sv, ".npz"sv};

template <typename Endings>
bool EndsAs(const std::string& name, const Endings& endings) {
  const std::string ending = absl::AsciiStrToLower(fs::path(name).extension().string());
  return std::find(endings.begin(), endings.end(), ending) != endings.end();
}

// Empty where the file cannot be read: reading it will say why.
std::string FirstBytes(const std::string& path) {
  std::string bytes(16, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bytes.resize(static_cast<size_t>(file.gcount()));
  return bytes;
}

// Why a file that may be a picture is left out; empty for one that is read, and for one that is no picture.
std::string WhyLeftOut(const std::string& path, const std::string& name) {
  if (EndsAs(name, kTextEndings)) return "";
  const io::FileKind kind = io::KindOf(FirstBytes(path));
  const bool named_as_read = EndsAs(name, kReadEndings), is_known = !kind.name.empty();
  if (is_known && !kind.is_read)
    return fmt::format("it is {}, which is not read; convert it to PNG or JPEG", kind.name);
  if (named_as_read) return "";
  if (EndsAs(name, kOtherEndings)) return "pictures of this kind are not read; convert it to PNG or JPEG";
  if (is_known) return fmt::format("it is {} whose name does not end so; rename it", kind.name);
  return "";
}

void Sort(FolderListing& listing) {
  for (auto* names : {&listing.pictures, &listing.folders, &listing.others, &listing.left_out, &listing.notes}) {
    std::sort(names->begin(), names->end());
  }
}

}  // namespace

absl::StatusOr<FolderListing> ListFolder(const std::string& folder) {
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  if (error) {
    return absl::NotFoundError(fmt::format("{}: the folder of images cannot be read ({}); expected a folder with {}",
                                           folder, error.message(), kPictureEndings));
  }
  FolderListing listing;
  for (const fs::directory_entry& entry : entries) {
    const std::string name = entry.path().filename().string(), path = folder + "/" + name;
    if (name.starts_with('.') || name == "__MACOSX" || name == "@eaDir") continue;
    if (entry.is_directory(error)) {
      listing.folders.push_back(name);
      continue;
    }
    // Reading a pipe would wait for ever. A link that leads nowhere is no such thing, and reading it says what is
    // missing.
    const bool is_special = entry.is_other(error);
    const std::string why = is_special ? "it is no file" : WhyLeftOut(path, name);
    if (!why.empty()) {
      listing.left_out.push_back(name);
      listing.notes.push_back(fmt::format("{}: left out: {}", Printable(path), why));
    } else if (EndsAs(name, kReadEndings)) {
      listing.pictures.push_back(name);
    } else {
      listing.others.push_back(name);
    }
  }
  Sort(listing);
  return listing;
}

absl::StatusOr<ImageFolder> ReadImageFolder(const std::string& folder, int side) {
  LOUPE_ASSIGN_OR_RETURN(FolderListing listing, ListFolder(folder));
  if (listing.pictures.empty()) {
    std::string message = fmt::format("{}: holds no image; expected {} in it", folder, kPictureEndings);
    if (!listing.notes.empty()) message += fmt::format(" ({})", listing.notes.front());
    return absl::InvalidArgumentError(message);
  }
  LOUPE_ASSIGN_OR_RETURN(ImageFolder result, ReadImageFiles(folder, std::move(listing.pictures), side));
  result.notes.insert(result.notes.begin(), listing.notes.begin(), listing.notes.end());
  for (const std::string& inner : listing.folders) {
    result.notes.push_back(fmt::format("{}: left out: pictures are taken from the folder itself and none below it",
                                       Printable(folder + "/" + inner)));
  }
  return result;
}

absl::StatusOr<ImageFolder> ReadImageFiles(const std::string& folder, std::vector<std::string> names, int side) {
  ImageFolder result{.path = folder, .names = std::move(names)};
  Sha256 digest;
  for (const std::string& name : result.names) {
    const std::string path = folder + "/" + name;
    LOUPE_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
    LOUPE_ASSIGN_OR_RETURN(const io::PictureFile picture,
                           io::DecodePicture(bytes, Printable(path), io::Alpha::kOverWhite));
    digest.Update(Sha256Hex(bytes));
    // What was made of a turned picture before pictures were turned must not be taken for this one's.
    if (picture.turned) digest.Update("upright");
    for (const std::string& warning : picture.warnings)
      result.notes.push_back(fmt::format("{}: {}", Printable(path), warning));
    result.images.push_back(io::ResizeAndCrop(picture.image, side));
  }
  result.content_hash = digest.FinishHex();
  return result;
}

}  // namespace loupe::worker::data
