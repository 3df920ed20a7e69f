#include "worker/data/captioned_folder.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <sstream>
#include <system_error>

#include "absl/strings/ascii.h"
#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace loupe::worker {
namespace {

namespace fs = std::filesystem;

using CaptionsByName = std::map<std::string, std::string>;

absl::StatusOr<CaptionsByName> ReadMetadataLines(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  CaptionsByName captions;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    const auto entry = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const auto is_text = [&](const char* key) { return entry.contains(key) && entry[key].is_string(); };
    if (!entry.is_object() || !is_text("file_name") || !is_text("text")) {
      return absl::InvalidArgumentError(
          fmt::format("{}: line {}: expected {{\"file_name\": \"….png\", \"text\": \"…\"}}", path, number));
    }
    captions[entry["file_name"].get<std::string>()] = entry["text"].get<std::string>();
  }
  return captions;
}

// The .txt files directly in `folder`, sorted.
std::vector<std::string> TextNamesIn(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (entry.path().extension() == ".txt" && !name.starts_with('.')) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string Stem(const std::string& name) { return fs::path(name).stem().string(); }

absl::StatusOr<CaptionsByName> ReadTextFiles(const std::string& folder, const std::vector<std::string>& names,
                                             const std::vector<std::string>& texts) {
  std::map<std::string, std::string> image_of;
  for (const std::string& name : names) {
    const auto [other, is_new] = image_of.emplace(Stem(name), name);
    if (!is_new) {
      return absl::InvalidArgumentError(
          fmt::format("{}: {} and {} would share the caption {}.txt", folder, other->second, name, Stem(name)));
    }
  }
  for (const std::string& text : texts) {
    if (!image_of.contains(Stem(text))) {
      return absl::InvalidArgumentError(fmt::format(
          "{}/{}: a caption without its image; expected {}.png or .jpg beside it", folder, text, Stem(text)));
    }
  }
  CaptionsByName captions;
  for (const std::string& name : names) {
    const std::string path = folder + "/" + Stem(name) + ".txt";
    const auto text = ReadFile(path);
    if (!text.ok()) {
      return absl::InvalidArgumentError(fmt::format("{}/{}: its caption {} is missing", folder, name, path));
    }
    const auto trimmed = absl::StripAsciiWhitespace(*text);
    captions[name] = std::string(trimmed.data(), trimmed.size());
  }
  return captions;
}

absl::StatusOr<CaptionsByName> ReadClassFolders(const std::string& folder) {
  std::vector<std::string> classes;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory(error) && !name.starts_with('.')) classes.push_back(name);
  }
  std::sort(classes.begin(), classes.end());
  CaptionsByName captions;
  for (const std::string& name : classes) {
    std::string words = name;
    std::replace_if(words.begin(), words.end(), [](char c) { return c == '-' || c == '_'; }, ' ');
    LOUPE_ASSIGN_OR_RETURN(const auto files, ImageNamesIn(folder + "/" + name));
    if (files.empty()) {
      return absl::InvalidArgumentError(
          fmt::format("{}/{}: a class folder without an image; expected .png or .jpg files in it", folder, name));
    }
    for (const std::string& file : files) captions[name + "/" + file] = "a photo of " + words;
  }
  return captions;
}

// Every caption has its image and every image its caption.
absl::Status CheckComplete(const std::string& folder, const std::vector<std::string>& names,
                           const CaptionsByName& captions) {
  for (const std::string& name : names) {
    if (!captions.contains(name)) {
      return absl::InvalidArgumentError(fmt::format("{}/{}: has no caption in metadata.jsonl", folder, name));
    }
  }
  std::error_code error;
  for (const auto& [name, caption] : captions) {
    if (!fs::exists(folder + "/" + name, error)) {
      return absl::InvalidArgumentError(fmt::format("{}/{}: has a caption, but there is no such image", folder, name));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CaptionedFolder> ReadCaptionedFolder(const std::string& folder, int side) {
  LOUPE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ImageNamesIn(folder));
  CaptionsByName captions;
  std::error_code error;
  if (fs::exists(folder + "/metadata.jsonl", error)) {
    LOUPE_ASSIGN_OR_RETURN(captions, ReadMetadataLines(folder + "/metadata.jsonl"));
    LOUPE_RETURN_IF_ERROR(CheckComplete(folder, names, captions));
  } else if (const auto texts = TextNamesIn(folder); !texts.empty()) {
    LOUPE_ASSIGN_OR_RETURN(captions, ReadTextFiles(folder, names, texts));
  } else if (names.empty()) {
    LOUPE_ASSIGN_OR_RETURN(captions, ReadClassFolders(folder));
  }
  if (captions.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: has no captions; expected metadata.jsonl, a .txt file beside each image, or one folder per class",
                    folder));
  }
  CaptionedFolder result;
  std::vector<std::string> ordered;
  for (const auto& [name, caption] : captions) {
    ordered.push_back(name);
    result.captions.push_back(caption);
  }
  LOUPE_ASSIGN_OR_RETURN(result.pictures, ReadImageFiles(folder, std::move(ordered), side));
  return result;
}

}  // namespace loupe::worker
