// A folder of image files as a data set.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/io/image.h"

namespace loupe::worker::data {

struct ImageFolder {
  std::string path;
  std::vector<std::string> names;  // file names, sorted by bytes: the data's order
  std::vector<io::Image> images;   // beside names; squares of one side
  // SHA-256 over the files' digests in order, and over how they are read where that changed since: the same files are
  // the same data set, wherever they lie.
  std::string content_hash;
  // For the user: each file that was left out, and each that was read with a warning. Whole phrases that begin with the
  // path.
  std::vector<std::string> notes;
};

// What lies directly in a folder, each list sorted by bytes. Hidden entries (also macOS' "._a.png" and .DS_Store) and
// the folders that archives and file servers add (__MACOSX, @eaDir) are in none.
struct FolderListing {
  std::vector<std::string>
      pictures;  // files named .png, .jpg, .jpeg, .jpe, .jfif, .webp, .gif, .tif, .tiff or .apng, in any case
  std::vector<std::string> folders;
  std::vector<std::string> others;  // every other file
  // Of the pictures that are not read: named as one of a kind that this program does not know, or holding one whatever
  // the name says, or without a picture's ending. In none of the lists above.
  std::vector<std::string> left_out;
  std::vector<std::string> notes;  // beside left_out: why
};

// NOT_FOUND when the folder cannot be read.
absl::StatusOr<FolderListing> ListFolder(const std::string& folder);

// Every picture directly in `folder`, upright, transparency over white, the shorter side brought to `side` and the
// middle square kept. NOT_FOUND when there is no such folder; INVALID_ARGUMENT when it holds no picture, or names the
// file that is damaged.
absl::StatusOr<ImageFolder> ReadImageFolder(const std::string& folder, int side);

// The same for files named by the caller (paths below `folder`, in the order given); a kind that is not read is
// INVALID_ARGUMENT.
absl::StatusOr<ImageFolder> ReadImageFiles(const std::string& folder, std::vector<std::string> names, int side);

// "….png, .jpg, …": for messages about what is missing.
inline constexpr std::string_view kPictureEndings = ".png, .jpg, .webp, .gif or .tif files";

}  // namespace loupe::worker::data
