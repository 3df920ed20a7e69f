#include "worker/io/clip_tokenizer.h"

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <array>
#include <utility>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/word_pattern.h"

namespace loupe::worker::io {
namespace {

constexpr std::string_view kWordEnd = "</w>";

// Byte-level BPE writes every byte as a visible character: printable Latin-1 bytes as themselves, the other 68 as
// U+0100 and up, in order (GPT-2's table; Radford et al. 2019).
std::array<std::string, 256> MakeByteCharacters() {
  std::array<std::string, 256> table;
  UChar32 next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool visible = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    icu::UnicodeString(visible ? static_cast<UChar32>(byte) : next++).toUTF8String(table[static_cast<size_t>(byte)]);
  }
  return table;
}

const std::array<std::string, 256>& ByteCharacters() {
  static const auto& table = *new std::array<std::string, 256>(MakeByteCharacters());
  return table;
}

// NFC, white space runs to one space, lower case (each character by itself: no final sigma).
icu::UnicodeString Normalise(std::string_view text) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::UnicodeString raw =
      icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
  const icu::UnicodeString composed = icu::Normalizer2::getNFCInstance(error)->normalize(raw, error);
  icu::UnicodeString out;
  bool in_space = false;
  for (int32_t i = 0; i < composed.length(); i = composed.moveIndex32(i, 1)) {
    const UChar32 c = composed.char32At(i);
    const bool space = u_isUWhiteSpace(c) != 0;
    if (space) {
      if (!in_space) out.append(UChar32{' '});
    } else if (c == 0x130) {
      // The one character whose lower case is two (SpecialCasing.txt): i and a combining dot.
      out.append(UChar32{'i'}).append(UChar32{0x307});
    } else {
      out.append(u_tolower(c));
    }
    in_space = space;
  }
  return out;
}

std::string Utf8Of(const icu::UnicodeString& text) {
  std::string bytes;
  text.toUTF8String(bytes);
  return bytes;
}

}  // namespace

absl::StatusOr<ClipTokenizer> ClipTokenizer::Load(const std::string& folder) {
  LOUPE_ASSIGN_OR_RETURN(const ClipTokenizerFiles files, ClipTokenizerFiles::Read(folder));
  ClipTokenizer tokenizer;
  tokenizer.vocab_ = files.vocabulary;
  LOUPE_RETURN_IF_ERROR(tokenizer.TakeMerges(files));
  tokenizer.bos_id_ = files.bos_id;
  tokenizer.eos_id_ = files.eos_id;
  tokenizer.pad_id_ = files.pad_id;
  tokenizer.unknown_id_ = files.unknown_id;
  tokenizer.max_length_ = files.max_length;
  for (const auto& [token, id] : tokenizer.vocab_) tokenizer.vocab_size_ = std::max(tokenizer.vocab_size_, id + 1);
  for (const auto& [token, id] : files.added) {
    tokenizer.vocab_size_ = std::max(tokenizer.vocab_size_, id + 1);
    if (token.normalized) {
      tokenizer.normalized_tokens_.Add(Utf8Of(Normalise(token.content)), token, id);
    } else {
      tokenizer.written_tokens_.Add(token.content, token, id);
    }
  }
  return tokenizer;
}

absl::Status ClipTokenizer::TakeMerges(const ClipTokenizerFiles& files) {
  for (size_t i = 0; i < files.merges.size(); ++i) {
    const auto& [left, right] = files.merges[i];
    const auto left_id = vocab_.find(left), right_id = vocab_.find(right), merged_id = vocab_.find(left + right);
    if (left_id == vocab_.end() || right_id == vocab_.end() || merged_id == vocab_.end()) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: {} {}: expected two tokens of the vocabulary whose join is there too, not '{} {}'", files.merges_path,
          files.merges_path.ends_with(".json") ? "merge" : "line", files.merge_lines[i], left, right));
    }
    merges_[{left_id->second, right_id->second}] = {static_cast<int64_t>(i), merged_id->second};
  }
  return absl::OkStatus();
}

absl::StatusOr<ClipTokenizer> ClipTokenizer::WithWord(std::string_view word, int64_t first_id, int64_t count) const {
  const std::string pattern = Utf8Of(Normalise(word));
  if (pattern.find_first_not_of(' ') == std::string::npos) return absl::InvalidArgumentError("expected a word");
  ClipTokenizer changed = *this;
  const AddedToken token{.content = std::string(word), .normalized = true};
  changed.normalized_tokens_.Add(pattern, token, first_id);
  changed.ids_of_words_[first_id] = count;
  changed.vocab_size_ = std::max(vocab_size_, first_id + count);
  const std::vector<int64_t> ids = changed.Tokenise(word);
  if (static_cast<int64_t>(ids.size()) == count && ids.front() == first_id) return changed;
  return absl::InvalidArgumentError(fmt::format(
      "'{}' cannot be added to the tokenizer, which has that word, or a part of it, as a token of its own", word));
}

std::vector<ClipTokenizer::Word> ClipTokenizer::Words() const {
  std::unordered_map<int64_t, int64_t> rank_of;
  for (const auto& [pair, merge] : merges_) {
    const auto [found, is_new] = rank_of.emplace(merge.merged_id, merge.rank);
    if (!is_new) found->second = std::min(found->second, merge.rank);
  }
  const auto last = static_cast<double>(std::max<size_t>(merges_.size(), 2) - 1);
  std::vector<Word> words;
  for (const auto& [token, id] : vocab_) {
    if (!token.ends_with(kWordEnd)) continue;
    const std::string text = token.substr(0, token.size() - kWordEnd.size());
    const bool letters = std::all_of(text.begin(), text.end(), [](char c) { return c >= 'a' && c <= 'z'; });
    if (text.empty() || !letters || Tokenise(text) != std::vector<int64_t>{id}) continue;
    const auto rank = rank_of.find(id);
    words.push_back({text, id, rank == rank_of.end() ? 0 : static_cast<double>(rank->second) / last});
  }
  std::sort(words.begin(), words.end(), [](const Word& a, const Word& b) { return a.text < b.text; });
  return words;
}

void ClipTokenizer::AppendToken(int64_t id, std::vector<int64_t>& ids) const {
  const auto word = ids_of_words_.find(id);
  const int64_t count = word == ids_of_words_.end() ? 1 : word->second;
  for (int64_t i = 0; i < count; ++i) ids.push_back(id + i);
}

void ClipTokenizer::AppendWord(std::string_view word, std::vector<int64_t>& ids) const {
  std::vector<int64_t> symbols;
  for (size_t i = 0; i < word.size(); ++i) {
    std::string symbol = ByteCharacters()[static_cast<unsigned char>(word[i])];
    if (i + 1 == word.size()) symbol += kWordEnd;
    const auto found = vocab_.find(symbol);
    symbols.push_back(found == vocab_.end() ? unknown_id_ : found->second);
  }
  // The pair with the lowest rank first, the leftmost among equals, until none is left.
  while (symbols.size() > 1) {
    size_t best_at = 0;
    const Merge* best = nullptr;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = merges_.find({symbols[i], symbols[i + 1]});
      if (found != merges_.end() && (best == nullptr || found->second.rank < best->rank)) {
        best = &found->second;
        best_at = i;
      }
    }
    if (best == nullptr) break;
    symbols[best_at] = best->merged_id;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best_at) + 1);
  }
  ids.insert(ids.end(), symbols.begin(), symbols.end());
}

std::vector<int64_t> ClipTokenizer::Tokenise(std::string_view text) const {
  const std::string valid =
      Utf8Of(icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size()))));
  std::vector<int64_t> ids;
  for (const TokenOrText& written : written_tokens_.Split(valid)) {
    if (written.id) {
      AppendToken(*written.id, ids);
      continue;
    }
    const std::string normal = Utf8Of(Normalise(written.text));
    for (const TokenOrText& part : normalized_tokens_.Split(normal)) {
      if (part.id) {
        AppendToken(*part.id, ids);
        continue;
      }
      const auto size = static_cast<int32_t>(part.text.size());
      for (const std::string& word :
           ClipWords(icu::UnicodeString::fromUTF8(icu::StringPiece(part.text.data(), size)))) {
        AppendWord(word, ids);
      }
    }
  }
  return ids;
}

std::vector<int64_t> ClipTokenizer::Encode(std::string_view text, int64_t length) const {
  const std::vector<int64_t> tokens = Tokenise(text);
  const size_t size = static_cast<size_t>(std::max<int64_t>(length, 2));
  const size_t kept = std::min(tokens.size(), size - 2);
  std::vector<int64_t> ids{bos_id_};
  ids.insert(ids.end(), tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(kept));
  ids.push_back(eos_id_);
  ids.resize(size, pad_id_);
  return ids;
}

}  // namespace loupe::worker::io
