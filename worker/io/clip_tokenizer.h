// CLIP's byte-level BPE tokenizer, from a folder's vocab.json, merges.txt and tokenizer_config.json.
//
// Text becomes ids as in transformers' CLIPTokenizer: special tokens written out in the text are taken first; the rest is
// brought to NFC, white space runs become one space, letters lower case; it is cut into words by CLIP's pattern
// (contractions, letter runs, single digits, runs of anything else); each word's UTF-8 bytes, the last one marked </w>,
// are merged pair by pair in the order of merges.txt (Sennrich et al. 2016, arXiv 1508.07909). Unicode 15 (ICU 72).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"

namespace loupe::worker {

// Immutable after Load; thread-safe.
class ClipTokenizer {
 public:
  // NOT_FOUND names a missing file. INVALID_ARGUMENT names file and line or key: a vocabulary that is not {token: id}, a
  // merge of tokens that are not in it, a special token that is not in it.
  static absl::StatusOr<ClipTokenizer> Load(const std::string& folder);

  // [bos, tokens…, eos], cut to `length` ids with eos kept, then filled up with pad. `length` ≥ 2.
  std::vector<int64_t> Encode(std::string_view text, int64_t length) const;
  std::vector<int64_t> Encode(std::string_view text) const { return Encode(text, max_length_); }

  // The tokens alone, without bos, eos, limit or padding. Bytes that are not UTF-8 count as U+FFFD.
  std::vector<int64_t> Tokenise(std::string_view text) const;

  int64_t vocab_size() const { return static_cast<int64_t>(vocab_.size()); }
  int64_t max_length() const { return max_length_; }  // model_max_length; 77 where the file has none
  int64_t bos_id() const { return bos_id_; }
  int64_t eos_id() const { return eos_id_; }
  int64_t pad_id() const { return pad_id_; }

 private:
  struct Merge {
    int64_t rank;
    int64_t merged_id;
  };
  struct PairHash {
    size_t operator()(const std::pair<int64_t, int64_t>& pair) const {
      return std::hash<uint64_t>()(static_cast<uint64_t>(pair.first) << 32 ^ static_cast<uint64_t>(pair.second));
    }
  };

  ClipTokenizer() = default;
  absl::Status LoadMerges(const std::string& path);
  // Appends the ids of one word (UTF-8).
  void AppendWord(std::string_view word, std::vector<int64_t>& ids) const;
  // Appends the ids of text without special tokens.
  void AppendText(std::string_view text, std::vector<int64_t>& ids) const;

  std::unordered_map<std::string, int64_t> vocab_;
  std::unordered_map<std::pair<int64_t, int64_t>, Merge, PairHash> merges_;
  std::map<std::string, int64_t> special_tokens_;
  int64_t max_length_ = 77;
  int64_t bos_id_ = 0, eos_id_ = 0, pad_id_ = 0, unknown_id_ = 0;
};

}  // namespace loupe::worker
