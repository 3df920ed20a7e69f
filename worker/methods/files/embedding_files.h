// Textual inversion's vectors in the files of other programs.
//
//   diffusers  learned_embeds.safetensors: one array [n, width] under the word; read also as torch.save's {word: array}
//   a1111      {word}.pt: {"string_to_token": {"*": 265}, "string_to_param": {"*": array}, "name": word, "step": …, …};
//              the file's name is the word there
//   kohya      {word}.safetensors: one array "emb_params"; the file's name is the word
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace loupe::worker::methods::files {

struct EmbeddingFile {
  // What the file itself calls the word: its key, its "name" or, where it has neither, its own name without the ending.
  std::string token;
  torch::Tensor vectors;   // [n, width], float32
  std::string form;        // "diffusers", "a1111" or "kohya"
  int64_t step = 0;        // 0: not said
  std::string checkpoint;  // the base's name, where it is said
};

// NOT_FOUND and the like from the file; INVALID_ARGUMENT, with the path and a sentence, when it is no embedding, one
// for a base with two text encoders, or not finite.
absl::StatusOr<EmbeddingFile> ReadEmbedding(const std::string& path);

// Into the file `path`; errors as WriteFileAtomically.
absl::Status WriteDiffusersEmbedding(const std::string& path, const EmbeddingFile& embedding);
absl::Status WriteA1111Embedding(const std::string& path, const EmbeddingFile& embedding);
absl::Status WriteKohyaEmbedding(const std::string& path, const EmbeddingFile& embedding);

// The word as a file may be called: its letters, digits, '.', '_' and '-'; "embedding" where none are left.
std::string FileNameOf(const std::string& token);

}  // namespace loupe::worker::methods::files
