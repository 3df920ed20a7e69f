// CLIP's byte-level BPE tokenizer, from a folder's files (clip_tokenizer_files.h).
//
// Text becomes ids as in transformers' CLIPTokenizer: special and added tokens written out in the text are taken first
// (added_tokens.h); the rest is brought to NFC, white space runs become one space, letters lower case; it is cut into
// words by CLIP's pattern (contractions, letter runs, single digits, runs of anything else); each word's UTF-8 bytes,
// the last one marked </w>, are merged pair by pair in the order of the merges (Sennrich et al. 2016, arXiv
// 1508.07909). Unicode 15 (ICU 72).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/io/added_tokens.h"
#include "worker/io/clip_tokenizer_files.h"

namespace loupe::worker::io {

// Immutable after Load; thread-safe.
class ClipTokenizer {
 public:
  // Errors as ClipTokenizerFiles::Read; also INVALID_ARGUMENT for a merge of tokens that are not in the vocabulary.
  static absl::StatusOr<ClipTokenizer> Load(const std::string& folder);

  // The same with one word more, which becomes `count` ids of its own: first_id, first_id + 1, … (≥ vocab_size()).
  // It is found as transformers finds a token that was added (add_tokens): wherever its letters stand in the
  // normalised text. INVALID_ARGUMENT when it is empty, or the tokenizer has the word as an added token already.
  absl::StatusOr<ClipTokenizer> WithWord(std::string_view word, int64_t first_id, int64_t count) const;

  // [bos, tokens…, eos], cut to `length` ids with eos kept, then filled up with pad. `length` ≥ 2.
  std::vector<int64_t> Encode(std::string_view text, int64_t length) const;
  std::vector<int64_t> Encode(std::string_view text) const { return Encode(text, max_length_); }

  // The tokens alone, without bos, eos, limit or padding. Bytes that are not UTF-8 count as U+FFFD.
  std::vector<int64_t> Tokenise(std::string_view text) const;

  // A whole word that is one token, of the letters a to z.
  struct Word {
    std::string text;
    int64_t id = 0;
    // How early its last merge was learned, from 0 (the most frequent words) to 1; a single letter has 0.
    double rarity = 0;
  };
  // Sorted by text.
  std::vector<Word> Words() const;

  int64_t vocab_size() const { return vocab_size_; }  // the greatest id and 1, added tokens among them
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
  absl::Status TakeMerges(const ClipTokenizerFiles& files);
  void AppendToken(int64_t id, std::vector<int64_t>& ids) const;
  // Appends the ids of one word (UTF-8).
  void AppendWord(std::string_view word, std::vector<int64_t>& ids) const;

  std::unordered_map<std::string, int64_t> vocab_;
  std::unordered_map<std::pair<int64_t, int64_t>, Merge, PairHash> merges_;
  TokenSplitter written_tokens_, normalized_tokens_;
  std::unordered_map<int64_t, int64_t> ids_of_words_;  // of WithWord: first id -> how many
  int64_t vocab_size_ = 0;
  int64_t max_length_ = 77;
  int64_t bos_id_ = 0, eos_id_ = 0, pad_id_ = 0, unknown_id_ = 0;
};

}  // namespace loupe::worker::io
