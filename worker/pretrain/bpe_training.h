// Training CLIP's byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909, in CLIP's byte-level form) and writing
// the tokenizer's files.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace loupe::worker::pretrain {

struct BpeOptions {
  int64_t merges = 1500;              // at most; fewer if no pair occurs twice any more
  std::vector<std::string> reserved;  // words that are one token each, made by the last merges ("sks")
};

// A vocabulary: 256 byte symbols, the same with "</w>", one symbol per merge, then <|startoftext|> and <|endoftext|>.
struct BpeVocabulary {
  std::vector<std::pair<std::string, std::string>> merges;
  std::map<std::string, int64_t> ids;

  int64_t size() const { return static_cast<int64_t>(ids.size()); }
  int64_t start_id() const { return size() - 2; }
  int64_t end_id() const { return size() - 1; }
};

// Merges the most frequent pair of symbols until enough; among equals the alphabetically first, so that the same texts
// give the same vocabulary. Texts are lower-cased and cut into words as CLIP cuts them.
BpeVocabulary TrainBpe(const std::vector<std::string>& texts, const BpeOptions& options);

// vocab.json, merges.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json, as transformers reads
// them. `folder` exists.
absl::Status WriteTokenizer(const std::string& folder, const BpeVocabulary& vocabulary, int64_t max_length);

}  // namespace loupe::worker::pretrain
