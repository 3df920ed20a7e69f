// A folder of image files as a data set.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/io/image.h"

namespace loupe::worker {

struct ImageFolder {
  std::string path;
  std::vector<std::string> names;  // file names, sorted by bytes: the data's order
  std::vector<Image> images;       // beside names; squares of one side
  // SHA-256 over the files' digests in order: the same files are the same data set, wherever they lie.
  std::string content_hash;
};

// Every .png, .jpg and .jpeg file directly in `folder` (hidden ones and other kinds are passed over), transparency over
// white, the shorter side brought to `side` and the middle square kept. NOT_FOUND when there is no such folder;
// INVALID_ARGUMENT when it holds no image, or names the file that is not one.
absl::StatusOr<ImageFolder> ReadImageFolder(const std::string& folder, int side);

// The same for files named by the caller (paths below `folder`, in the order given).
absl::StatusOr<ImageFolder> ReadImageFiles(const std::string& folder, std::vector<std::string> names, int side);

// The names of the image files directly in `folder`, sorted by bytes; may be empty. NOT_FOUND when it cannot be read.
absl::StatusOr<std::vector<std::string>> ImageNamesIn(const std::string& folder);

}  // namespace loupe::worker
