#include "worker/data/captioned_folder.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <system_error>

#include "absl/strings/ascii.h"
#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"
#include "worker/data/caption_text.h"

namespace loupe::worker::data {
namespace {

namespace fs = std::filesystem;

using CaptionsByName = std::map<std::string, std::string>;

std::string Stem(const std::string& name) { return fs::path(name).stem().string(); }

// {"file_name": …, "text": …}, each once.
struct MetadataLine {
  std::string file_name;
  std::string text;
};

absl::StatusOr<MetadataLine> ParseMetadataLine(const std::string& line, const std::string& where) {
  std::set<std::string> keys;
  std::string twice;
  const auto on_key = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& value) {
    if (event == nlohmann::json::parse_event_t::key && depth == 1 && !keys.insert(value.get<std::string>()).second) {
      twice = value.get<std::string>();
    }
    return true;
  };
  const auto entry = nlohmann::json::parse(line, on_key, /*allow_exceptions=*/false);
  if (!twice.empty())
    return absl::InvalidArgumentError(fmt::format("{}: the key '{}' is there twice", where, Printable(twice)));
  const auto is_text = [&](const char* key) { return entry.contains(key) && entry[key].is_string(); };
  if (!entry.is_object() || !is_text("file_name") || !is_text("text")) {
    return absl::InvalidArgumentError(fmt::format("{}: expected {{\"file_name\": \"….png\", \"text\": \"…\"}}", where));
  }
  MetadataLine result;
  // "./a.png", "b//a.png" and "b/../a.png" are names of files as any other.
  result.file_name = fs::path(entry["file_name"].get<std::string>()).lexically_normal().string();
  LOUPE_ASSIGN_OR_RETURN(result.text, CaptionText(entry["text"].get_ref<const std::string&>(), where));
  return result;
}

absl::StatusOr<CaptionsByName> ReadMetadataLines(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
  LOUPE_ASSIGN_OR_RETURN(const std::string text, Utf8Text(bytes, path));
  CaptionsByName captions;
  std::map<std::string, int> line_of;
  std::istringstream lines(text);
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    if (absl::StripAsciiWhitespace(line).empty()) continue;
    LOUPE_ASSIGN_OR_RETURN(MetadataLine entry, ParseMetadataLine(line, fmt::format("{}: line {}", path, number)));
    const auto [first, is_new] = line_of.emplace(entry.file_name, number);
    if (!is_new) {
      return absl::InvalidArgumentError(
          fmt::format("{}: lines {} and {} both have a caption for {}; an image has one: remove a line", path,
                      first->second, number, Printable(entry.file_name)));
    }
    captions[entry.file_name] = std::move(entry.text);
  }
  if (captions.empty()) return absl::InvalidArgumentError(fmt::format("{}: has no caption in it", path));
  return captions;
}

// The captions beside the pictures: stem -> name of the text file. Two for one stem ("a.txt", "a.TXT") are an error.
absl::StatusOr<std::map<std::string, std::string>> TextFilesIn(const std::string& folder,
                                                               const FolderListing& listing) {
  std::map<std::string, std::string> texts;
  for (const std::string& name : listing.others) {
    if (absl::AsciiStrToLower(fs::path(name).extension().string()) != ".txt") continue;
    const auto [other, is_new] = texts.emplace(Stem(name), name);
    if (!is_new) {
      return absl::InvalidArgumentError(fmt::format("{}: {} and {} are both captions of one image", folder,
                                                    Printable(other->second), Printable(name)));
    }
  }
  return texts;
}

absl::StatusOr<CaptionsByName> ReadTextFiles(const std::string& folder, const FolderListing& listing,
                                             const std::map<std::string, std::string>& texts) {
  std::map<std::string, std::string> image_of;
  for (const std::string& name : listing.pictures) {
    const auto [other, is_new] = image_of.emplace(Stem(name), name);
    if (!is_new) {
      return absl::InvalidArgumentError(
          fmt::format("{}: {} and {} would share the caption {}.txt", folder, other->second, name, Stem(name)));
    }
  }
  // A picture that is left out takes its caption along.
  std::set<std::string> left_out;
  for (const std::string& name : listing.left_out) left_out.insert(Stem(name));
  for (const auto& [stem, text] : texts) {
    if (!image_of.contains(stem) && !left_out.contains(stem)) {
      return absl::InvalidArgumentError(
          fmt::format("{}/{}: a caption without its image; expected {}.png or .jpg beside it", folder, Printable(text),
                      Printable(stem)));
    }
  }
  CaptionsByName captions;
  for (const std::string& name : listing.pictures) {
    const auto text = texts.find(Stem(name));
    if (text == texts.end()) {
      return absl::InvalidArgumentError(
          fmt::format("{0}/{1}: its caption {0}/{2}.txt is missing", folder, Printable(name), Printable(Stem(name))));
    }
    const std::string path = folder + "/" + text->second;
    LOUPE_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
    LOUPE_ASSIGN_OR_RETURN(captions[name], CaptionText(bytes, path));
  }
  return captions;
}

absl::StatusOr<CaptionsByName> ReadClassFolders(const std::string& folder, const std::vector<std::string>& classes,
                                                std::vector<std::string>& notes) {
  CaptionsByName captions;
  for (const std::string& name : classes) {
    const std::string path = folder + "/" + name;
    std::string words = name;
    std::replace_if(
        words.begin(), words.end(), [](char c) { return c == '-' || c == '_'; }, ' ');
    LOUPE_ASSIGN_OR_RETURN(words, CaptionText(words, path));
    LOUPE_ASSIGN_OR_RETURN(FolderListing listing, ListFolder(path));
    if (listing.pictures.empty()) {
      return absl::InvalidArgumentError(
          fmt::format("{}: a class folder without an image; expected {} in it", path, kPictureEndings));
    }
    for (const std::string& file : listing.pictures) captions[name + "/" + file] = "a photo of " + words;
    std::move(listing.notes.begin(), listing.notes.end(), std::back_inserter(notes));
  }
  return captions;
}

// Every caption has its image and every image its caption.
absl::Status CheckComplete(const std::string& folder, const std::vector<std::string>& names,
                           const CaptionsByName& captions) {
  for (const std::string& name : names) {
    if (!captions.contains(name)) {
      return absl::InvalidArgumentError(
          fmt::format("{}/{}: has no caption in metadata.jsonl", folder, Printable(name)));
    }
  }
  std::error_code error;
  for (const auto& [name, caption] : captions) {
    if (!fs::exists(folder + "/" + name, error)) {
      return absl::InvalidArgumentError(
          fmt::format("{}/{}: has a caption, but there is no such image", folder, Printable(name)));
    }
  }
  return absl::OkStatus();
}

// The names of metadata.jsonl, in whatever case; more than one are an error.
absl::StatusOr<std::string> MetadataName(const std::string& folder, const std::vector<std::string>& others) {
  std::string found;
  for (const std::string& name : others) {
    if (absl::AsciiStrToLower(name) != "metadata.jsonl") continue;
    if (!found.empty())
      return absl::InvalidArgumentError(fmt::format("{}: has {} and {}; expected one of them", folder, found, name));
    found = name;
  }
  return found;
}

// Folders that no caption leads into.
void NoteUnusedFolders(const std::string& folder, const CaptionsByName& captions, FolderListing& listing) {
  for (const std::string& name : listing.folders) {
    const auto first = captions.lower_bound(name + "/");
    if (first != captions.end() && first->first.starts_with(name + "/")) continue;
    listing.notes.push_back(
        fmt::format("{}: left out: no caption names a picture in it", Printable(folder + "/" + name)));
  }
}

absl::StatusOr<CaptionsByName> ReadCaptions(const std::string& folder, FolderListing& listing) {
  LOUPE_ASSIGN_OR_RETURN(const std::string metadata, MetadataName(folder, listing.others));
  if (!metadata.empty()) {
    LOUPE_ASSIGN_OR_RETURN(CaptionsByName captions, ReadMetadataLines(folder + "/" + metadata));
    LOUPE_RETURN_IF_ERROR(CheckComplete(folder, listing.pictures, captions));
    return captions;
  }
  LOUPE_ASSIGN_OR_RETURN(const auto texts, TextFilesIn(folder, listing));
  if (!texts.empty()) return ReadTextFiles(folder, listing, texts);
  if (listing.pictures.empty() && !listing.folders.empty())
    return ReadClassFolders(folder, listing.folders, listing.notes);
  return absl::InvalidArgumentError(fmt::format(
      "{}: has no captions; expected metadata.jsonl, a .txt file beside each image, or one folder per class", folder));
}

}  // namespace

absl::StatusOr<CaptionedFolder> ReadCaptionedFolder(const std::string& folder, int side) {
  LOUPE_ASSIGN_OR_RETURN(FolderListing listing, ListFolder(folder));
  LOUPE_ASSIGN_OR_RETURN(const CaptionsByName captions, ReadCaptions(folder, listing));
  if (captions.empty())
    return absl::InvalidArgumentError(fmt::format("{}: no picture in it is read: {}", folder, listing.notes.front()));
  NoteUnusedFolders(folder, captions, listing);
  CaptionedFolder result;
  std::vector<std::string> ordered;
  for (const auto& [name, caption] : captions) {
    if (caption.empty()) listing.notes.push_back(fmt::format("{}/{}: has an empty caption", folder, Printable(name)));
    ordered.push_back(name);
    result.captions.push_back(caption);
  }
  LOUPE_ASSIGN_OR_RETURN(result.pictures, ReadImageFiles(folder, std::move(ordered), side));
  result.pictures.notes.insert(result.pictures.notes.begin(), listing.notes.begin(), listing.notes.end());
  return result;
}

}  // namespace loupe::worker::data
