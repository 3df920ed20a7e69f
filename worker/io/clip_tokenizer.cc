#include "worker/io/clip_tokenizer.h"

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/json_config.h"
#include "worker/io/word_pattern.h"

namespace loupe::worker {
namespace {

using nlohmann::json;

constexpr std::string_view kWordEnd = "</w>";

// Byte-level BPE writes every byte as a visible character: printable Latin-1 bytes as themselves, the other 68 as U+0100
// and up, in order (GPT-2's table; Radford et al. 2019).
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

// A special token is a string or an object with "content".
absl::StatusOr<std::string> SpecialToken(const std::string& path, const json& config, const std::string& key,
                                         const std::string& or_else) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return or_else;
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") && (*found)["content"].is_string()) {
    return (*found)["content"].get<std::string>();
  }
  return absl::InvalidArgumentError(
      fmt::format("{}: key '{}' is {}, expected a token or an object with its content", path, key, found->dump()));
}

}  // namespace

absl::StatusOr<ClipTokenizer> ClipTokenizer::Load(const std::string& folder) {
  ClipTokenizer tokenizer;
  const std::string vocab_path = folder + "/vocab.json", config_path = folder + "/tokenizer_config.json";
  LOUPE_ASSIGN_OR_RETURN(const JsonConfig vocab, JsonConfig::Read(vocab_path));
  for (const auto& [token, id] : vocab.object().items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > std::numeric_limits<int32_t>::max()) {
      return absl::InvalidArgumentError(
          fmt::format("{}: token '{}' has id {}, expected a whole number ≥ 0", vocab_path, token, id.dump()));
    }
    tokenizer.vocab_[token] = id.get<int64_t>();
  }
  LOUPE_RETURN_IF_ERROR(tokenizer.LoadMerges(folder + "/merges.txt"));

  LOUPE_ASSIGN_OR_RETURN(JsonConfig config, JsonConfig::Read(config_path));
  const std::pair<const char*, int64_t*> specials[] = {{"bos_token", &tokenizer.bos_id_},
                                                       {"eos_token", &tokenizer.eos_id_},
                                                       {"pad_token", &tokenizer.pad_id_},
                                                       {"unk_token", &tokenizer.unknown_id_}};
  for (const auto& [key, id] : specials) {
    const char* or_else = std::string_view(key) == "bos_token" ? "<|startoftext|>" : "<|endoftext|>";
    LOUPE_ASSIGN_OR_RETURN(const std::string token, SpecialToken(config_path, config.object(), key, or_else));
    const auto found = tokenizer.vocab_.find(token);
    if (token.empty()) return absl::InvalidArgumentError(fmt::format("{}: {} is empty, expected a token", config_path, key));
    if (found == tokenizer.vocab_.end()) {
      return absl::InvalidArgumentError(fmt::format("{}: {} '{}' is not in vocab.json", config_path, key, token));
    }
    *id = found->second;
    tokenizer.special_tokens_[token] = found->second;
  }
  // transformers writes 1e30 for "no limit".
  const double max_length = config.Number("model_max_length", 77.0);
  LOUPE_RETURN_IF_ERROR(config.status());
  if (max_length >= 2 && max_length < 1e6) tokenizer.max_length_ = static_cast<int64_t>(max_length);
  return tokenizer;
}

absl::Status ClipTokenizer::LoadMerges(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  int64_t rank = 0, line_number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++line_number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version")) continue;
    const size_t space = line.find(' ');
    const std::string left(line.substr(0, space));
    const std::string right(space == std::string_view::npos ? "" : line.substr(space + 1));
    const auto left_id = vocab_.find(left), right_id = vocab_.find(right), merged_id = vocab_.find(left + right);
    if (left_id == vocab_.end() || right_id == vocab_.end() || merged_id == vocab_.end()) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: line {}: expected two tokens of vocab.json whose join is there too, not '{}'", path, line_number, line));
    }
    merges_[{left_id->second, right_id->second}] = {rank++, merged_id->second};
  }
  return absl::OkStatus();
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

void ClipTokenizer::AppendText(std::string_view text, std::vector<int64_t>& ids) const {
  for (const std::string& word : ClipWords(Normalise(text))) AppendWord(word, ids);
}

std::vector<int64_t> ClipTokenizer::Tokenise(std::string_view text) const {
  std::vector<int64_t> ids;
  while (!text.empty()) {
    size_t at = std::string_view::npos;
    const std::pair<const std::string, int64_t>* next = nullptr;
    for (const auto& special : special_tokens_) {
      const size_t found = text.find(special.first);
      if (found < at) {
        at = found;
        next = &special;
      }
    }
    AppendText(text.substr(0, at), ids);
    if (next == nullptr) break;
    ids.push_back(next->second);
    text.remove_prefix(at + next->first.size());
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

}  // namespace loupe::worker
