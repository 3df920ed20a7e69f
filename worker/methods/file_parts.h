// One slot's values on their way to and from an adapter file.
#pragma once

#include <torch/types.h>

#include <map>
#include <string>
#include <vector>

namespace loupe::worker::methods {

// A slot's part of one parameter, by the file's name and in the file's orientation: a view, so that writing into it
// changes the parameter.
struct FilePart {
  std::string name;
  torch::Tensor value;
};

// On the CPU, of their own memory.
std::map<std::string, torch::Tensor> ExportParts(const std::vector<FilePart>& parts);

// Throws c10::Error naming an array that is missing, left over or of another shape; then nothing is changed.
void ImportParts(const std::vector<FilePart>& parts, const std::map<std::string, torch::Tensor>& arrays);

}  // namespace loupe::worker::methods
