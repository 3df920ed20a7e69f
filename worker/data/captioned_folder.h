// A folder of images with captions, in the layouts that other trainers use.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/image_folder.h"

namespace loupe::worker {

struct CaptionedFolder {
  ImageFolder pictures;
  std::vector<std::string> captions;  // beside pictures.names
};

// The first of these that the folder has:
//   metadata.jsonl   lines of {"file_name": "a.png", "text": "a red heart"} (Hugging Face's imagefolder)
//   a.txt            beside each a.png
//   one folder per class: the caption is "a photo of " + its name, with - and _ as spaces
// Pictures as ReadImageFolder. INVALID_ARGUMENT names the caption whose image is missing, the image whose caption is
// missing, the class folder without an image, or the line that is not understood; else as ReadImageFolder.
absl::StatusOr<CaptionedFolder> ReadCaptionedFolder(const std::string& folder, int side);

}  // namespace loupe::worker
