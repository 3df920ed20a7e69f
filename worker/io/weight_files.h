// Which files of a model's folder hold its weights, by the names that transformers and diffusers give them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/io/safetensors.h"

namespace loupe::worker::io {

// The arrays of one network, from however many files. Immutable and thread-safe; copies share the files.
class WeightFiles {
 public:
  // `stem`: "model" (transformers) or "diffusion_pytorch_model" (diffusers). Of what is in `folder`, the first of
  //   {stem}.safetensors, {stem}.safetensors.index.json                   one file, or an index and its shards
  //   {stem}.bin, {stem}.bin.index.json                                   the same by torch.save; "model" is
  //   pytorch_model there the same with a variant's name: {stem}.fp16.safetensors, {stem}.safetensors.index.fp16.json,
  //   …
  // Of several variants fp16 is taken, which is the plain one rounded; others could be other weights, and two of them
  // are an error. NOT_FOUND says what was looked for and what is there instead; INVALID_ARGUMENT: a file that is not
  // well formed, an index that does not fit its shards.
  static absl::StatusOr<WeightFiles> Open(const std::string& folder, const std::string& stem);

  // One file: .safetensors, or under any other name what torch.save wrote (torch_checkpoint.h).
  static absl::StatusOr<WeightFiles> OpenFile(const std::string& path);

  const std::string& path() const { return path_; }  // of the file or the index, for messages
  const std::map<std::string, ArrayView>& arrays() const { return arrays_; }

 private:
  WeightFiles() = default;
  static absl::StatusOr<WeightFiles> OpenIndex(const std::string& path, const std::string& folder);

  std::string path_;
  std::map<std::string, ArrayView> arrays_;
  std::vector<std::shared_ptr<const void>> kept_;  // what the views show
};

}  // namespace loupe::worker::io
