// A folder of images with captions, in the layouts that other trainers use.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/image_folder.h"

namespace loupe::worker::data {

struct CaptionedFolder {
  ImageFolder pictures;
  std::vector<std::string> captions;  // beside pictures.names; UTF-8
};

// The first of these that the folder has (names in any case):
//   metadata.jsonl   lines of {"file_name": "a.png", "text": "a red heart"} (Hugging Face's imagefolder); "./a.png" is
//   a.png a.txt            beside each a.png one folder per class: the caption is "a photo of " + its name, with - and
//   _ as spaces
// Pictures as ReadImageFolder. INVALID_ARGUMENT names the caption whose image is missing, the image whose caption is
// missing, the image or key that is named twice, the class folder without an image, the line that is not understood, or
// the text that is not UTF-8 (caption_text.h); else as ReadImageFolder.
absl::StatusOr<CaptionedFolder> ReadCaptionedFolder(const std::string& folder, int side);

}  // namespace loupe::worker::data
