// The files of a CLIP tokenizer's folder, brought to what they say together. Six files, of three ages of transformers:
//
//   tokenizer.json           vocabulary, merges and added tokens in one; all that version 5 writes beside the next one
//   tokenizer_config.json    special tokens, model_max_length, and since version 4.34 added_tokens_decoder
//   vocab.json, merges.txt   read where there is no tokenizer.json
//   special_tokens_map.json  special tokens; goes before tokenizer_config.json's, unless that has added_tokens_decoder
//   added_tokens.json        {token: id}; likewise
//
// Which of them counts where they differ is transformers' order (5.23: PreTrainedTokenizerBase._from_pretrained,
// TokenizersBackend.__init__), held to it in tests/parity/tokenizer_folders.py.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/io/added_tokens.h"

namespace loupe::worker::io {

struct ClipTokenizerFiles {
  std::unordered_map<std::string, int64_t> vocabulary;  // without what was added
  std::vector<std::pair<std::string, std::string>> merges;
  std::string merges_path;           // for messages: merges.txt or tokenizer.json
  std::vector<int64_t> merge_lines;  // of each merge in merges_path; its number within tokenizer.json
  // In the order in which they are added; a later one of the same content takes an earlier one's place. Those that are
  // not in the vocabulary have the id that they get by that order.
  std::vector<std::pair<AddedToken, int64_t>> added;
  int64_t bos_id = 0, eos_id = 0, pad_id = 0, unknown_id = 0;
  int64_t max_length = 77;

  // NOT_FOUND names a missing file. INVALID_ARGUMENT names file and key: what is malformed, a vocabulary that is no
  // {token: id}, an added token whose id is not the next one, and every setting under which transformers would give
  // other ids than CLIP's.
  static absl::StatusOr<ClipTokenizerFiles> Read(const std::string& folder);
};

}  // namespace loupe::worker::io
