// A file that was trained elsewhere, by this program or another: which kind it is, what is in it, and the method that
// it makes of a base.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "worker/methods/files/adapter_file.h"
#include "worker/methods/files/embedding_files.h"
#include "worker/methods/files/hypernetwork_files.h"
#include "worker/methods/files/lora_files.h"
#include "worker/methods/files/lycoris_files.h"
#include "worker/methods/method.h"
#include "worker/methods/method_registry.h"

namespace loupe::worker::methods {

enum class TunedFileKind { kAdapter, kLora, kLycoris, kEmbedding, kHypernetwork };

// By its layout alone; a LoRA may be a folder of peft's. NOT_FOUND and the like from the file; INVALID_ARGUMENT when it
// is none of them.
absl::StatusOr<TunedFileKind> RecogniseTunedFile(const std::string& path);

struct TunedFile {
  std::string path;
  // What makes the method: the file's own, for a trial's; else the one whose form it has.
  const MethodTraits* traits = nullptr;
  // A trial's adapter.safetensors.
  std::optional<files::AdapterFile> adapter;
  // What it is to other programs, a trial's too where its method has such files; at most one of them.
  std::optional<files::LoraFile> lora;
  std::optional<files::LycorisFile> lycoris;
  std::optional<files::EmbeddingFile> embedding;
  std::optional<files::HypernetworkFile> hypernetwork;
};

// `sites`: of the base that it is for. Errors as RecogniseTunedFile and its kind's reader.
absl::StatusOr<TunedFile> ReadTunedFile(const std::string& path, const nn::TuningSites& sites);

// Into `folder`, which must exist, under the layout's own file name; kDiffusers, kPeft, kKohya or kA1111.
// INVALID_ARGUMENT when the file has no such layout; errors as WriteFileAtomically.
absl::Status WriteTunedFile(const TunedFile& file, ExportLayout layout, const std::string& folder);

// Its method, attached as the slot `range.first` (range.count is 1). `word`: what an embedding stands for in prompts;
// empty: what the file calls it. Throws c10::Error naming what does not fit the base.
std::unique_ptr<Method> MakeMethodOf(const TunedFile& file, const std::string& word, const nn::TuningSites& sites,
                                     const nn::SlotRange& range, torch::Device device);

// method.kind file: what method.path names, as it is. Nothing of it is to be trained. An embedding stands for
// method.token or, where that is not set, for its own word where the instance prompt has it, else for the words that
// the class prompt lacks.
MethodMaker MakeOfFile;

// SHA-256 of a file's bytes, or of a folder's files with their names.
absl::StatusOr<std::string> DigestOfTunedFile(const std::string& path);

}  // namespace loupe::worker::methods
