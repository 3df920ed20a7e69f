// Adapter files: a method's trained values as safetensors, with the whole cell in the metadata (docs/formats.md).
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/settings/settings.h"

namespace loupe::worker::methods::files {

struct AdapterFile {
  // Method::Export's names and values; float32.
  std::map<std::string, torch::Tensor> arrays;
  // Everything that the trial was run with.
  settings::Settings settings;
  uint64_t sweep_seed = 0;
  int64_t replicate = 0;
  int64_t steps = 0;
  std::string trial;                              // resource name; may be empty
  std::string base_sha256;                        // of the base's files, as the executor computes it
  std::map<std::string, std::string> cell;        // factor's short name -> level
  std::map<std::string, std::string> provenance;  // versions and seeds
};

// Whether `path` is a file with this program's metadata. False also where there is no such file: its reader says so.
bool IsAdapterFile(const std::string& path);

// Atomically; errors as WriteFileAtomically. A LoRA's file is diffusers' as well (files/lora_files.h).
absl::Status WriteAdapterFile(const std::string& path, const AdapterFile& file);

// INVALID_ARGUMENT when it is not an adapter file (the sentence says which metadata is missing) or its settings are not
// known to this version, or a value is not finite; NOT_FOUND and the like from the file.
absl::StatusOr<AdapterFile> ReadAdapterFile(const std::string& path);

}  // namespace loupe::worker::methods::files
