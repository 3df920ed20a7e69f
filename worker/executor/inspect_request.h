// What a file of trained values is: `loupe-worker inspect`. No LibTorch in this header.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace loupe::worker::executor {

struct FileDescription {
  std::string path;
  std::string kind;  // "LoRA", "embedding", "hypernetwork", "trial of loupe-worker"
  std::string form;  // whose layout it has: "diffusers", "peft", "kohya", "a1111", "loupe"
  int64_t bytes = 0;
  int64_t parameters = 0;
  // What there is to know of this kind, in order: {"rank", "4"}, {"targets", "to_k 16, to_q 16"}.
  std::vector<std::pair<std::string, std::string>> facts;
  // The base that it fits, in words, by the widths in it.
  std::string base;
  // Whether it fits the base that was asked about: "yes", or why not; empty where none was.
  std::string fits;
  std::map<std::string, std::string> metadata;  // as the file has it
  std::vector<std::string> odd;                 // whole sentences
};

// `base`: the folder of a base to try it on; may be empty. NOT_FOUND, INVALID_ARGUMENT with the path and a sentence: a
// file that is none of these kinds, or broken.
absl::StatusOr<FileDescription> InspectFile(const std::string& path, const std::string& base);

// The description for people, and as one JSON object.
std::string DescriptionText(const FileDescription& description);
std::string DescriptionJson(const FileDescription& description);

}  // namespace loupe::worker::executor
