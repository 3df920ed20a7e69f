// Tokens that are taken out of a text before it is cut into words: special tokens, and tokens that were added to a
// vocabulary (textual inversion's <cat-toy>). As the tokenizers library's AddedVocabulary has them (0.23).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace loupe::worker::io {

struct AddedToken {
  std::string content;
  bool single_word = false;  // not where a word's character stands before or behind it
  bool lstrip = false;       // takes the white space before it with it
  bool rstrip = false;       // and behind it
  bool normalized =
      false;  // searched in the normalised text, as a normalised token; otherwise in the text as it was written
};

// A text's part: a token, or text between tokens.
struct TokenOrText {
  std::optional<int64_t> id;
  std::string_view text;  // empty for a token
};

// The tokens of one kind (all normalized, or none). Immutable once filled; thread-safe then.
class TokenSplitter {
 public:
  // `pattern`: what is searched, not empty. Of two tokens with one pattern the first one added counts.
  void Add(std::string pattern, const AddedToken& token, int64_t id);

  // The leftmost token, the longest one there, then the next behind it, with the texts between them (never empty).
  // `text` is UTF-8 and must outlive the result.
  std::vector<TokenOrText> Split(std::string_view text) const;

 private:
  struct Entry {
    std::string pattern;
    AddedToken token;
    int64_t id;
  };
  std::vector<Entry> entries_;
};

}  // namespace loupe::worker::io
