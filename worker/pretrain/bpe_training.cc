#include "worker/pretrain/bpe_training.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace loupe::worker::pretrain {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kWordEnd = "</w>";
constexpr std::string_view kStart = "<|startoftext|>";
constexpr std::string_view kEnd = "<|endoftext|>";

std::string Utf8(uint32_t code) {
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};  // none is above U+07FF
}

bool IsPrintableByte(uint32_t byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

// GPT-2's table: a byte that prints stands for itself, the others for U+0100 and on. `in_order`: the vocabulary's
// order, printing bytes first.
struct ByteSymbols {
  std::vector<std::string> of_byte = std::vector<std::string>(256);
  std::vector<std::string> in_order;

  ByteSymbols() {
    for (uint32_t b = 0; b < 256; ++b) {
      if (!IsPrintableByte(b)) continue;
      of_byte[b] = Utf8(b);
      in_order.push_back(of_byte[b]);
    }
    uint32_t next = 0x100;
    for (uint32_t b = 0; b < 256; ++b) {
      if (IsPrintableByte(b)) continue;
      of_byte[b] = Utf8(next++);
      in_order.push_back(of_byte[b]);
    }
  }
};

const ByteSymbols& Symbols() {
  static const ByteSymbols symbols;
  return symbols;
}

// Letters together, digits one by one, other signs together. What is beyond ASCII counts as a letter: merges are
// learned from this cut, but the tokenizer's own cut decides where they apply.
std::vector<std::string> Words(std::string_view text) {
  enum class Kind { kSpace, kLetter, kDigit, kSign };
  const auto kind_of = [](unsigned char c) {
    if (std::isspace(c)) return Kind::kSpace;
    if (c >= 0x80 || std::isalpha(c)) return Kind::kLetter;
    return std::isdigit(c) ? Kind::kDigit : Kind::kSign;
  };
  std::vector<std::string> words;
  Kind before = Kind::kSpace;
  for (const char c : text) {
    const Kind kind = kind_of(static_cast<unsigned char>(c));
    if (kind != Kind::kSpace) {
      if (kind != before || kind == Kind::kDigit) words.emplace_back();
      words.back() += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
    before = kind;
  }
  return words;
}

std::vector<std::string> SymbolsOf(const std::string& word) {
  std::vector<std::string> symbols;
  for (const char c : word) symbols.push_back(Symbols().of_byte[static_cast<unsigned char>(c)]);
  symbols.back() += kWordEnd;
  return symbols;
}

using Pair = std::pair<std::string, std::string>;

void Apply(const Pair& merge, std::vector<std::string>& symbols) {
  size_t out = 0;
  for (size_t i = 0; i < symbols.size(); ++i, ++out) {
    const bool merges = i + 1 < symbols.size() && symbols[i] == merge.first && symbols[i + 1] == merge.second;
    symbols[out] = merges ? symbols[i] + symbols[i + 1] : symbols[i];
    if (merges) ++i;
  }
  symbols.resize(out);
}

Json SpecialToken(int64_t id, std::string_view content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

Json Vocab(const BpeVocabulary& vocabulary) {
  std::vector<std::pair<int64_t, std::string>> by_id;
  for (const auto& [symbol, id] : vocabulary.ids) by_id.emplace_back(id, symbol);
  std::sort(by_id.begin(), by_id.end());
  Json vocab = Json::object();
  for (const auto& [id, symbol] : by_id) vocab[symbol] = id;
  return vocab;
}

// The `tokenizers` library's description of the whole path: clean, cut, encode, frame.
Json FastTokenizer(const BpeVocabulary& vocabulary) {
  const int64_t start = vocabulary.start_id(), end = vocabulary.end_id();
  Json merges = Json::array();
  for (const auto& [left, right] : vocabulary.merges) merges.push_back({left, right});
  const char* cut = R"(<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+)";
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  Json model = {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", kEnd},
                {"continuing_subword_prefix", ""},
                {"end_of_word_suffix", kWordEnd},
                {"fuse_unk", false},
                {"byte_fallback", false},
                {"ignore_merges", false},
                {"vocab", Vocab(vocabulary)},
                {"merges", merges}};
  const Json normalizers = Json::array({Json{{"type", "NFC"}},
                                        Json{{"type", "Replace"}, {"pattern", {{"Regex", R"(\s+)"}}}, {"content", " "}},
                                        Json{{"type", "Lowercase"}}});
  const Json pretokenizers = Json::array(
      {Json{{"type", "Split"}, {"pattern", {{"Regex", cut}}}, {"behavior", "Removed"}, {"invert", true}}, byte_level});
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", Json::array({SpecialToken(start, kStart), SpecialToken(end, kEnd)})},
          {"normalizer", {{"type", "Sequence"}, {"normalizers", normalizers}}},
          {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", pretokenizers}}},
          {"post_processor",
           {{"type", "RobertaProcessing"},
            {"sep", Json::array({kEnd, end})},
            {"cls", Json::array({kStart, start})},
            {"trim_offsets", false},
            {"add_prefix_space", false}}},
          {"decoder", {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
          {"model", model}};
}

}  // namespace

BpeVocabulary TrainBpe(const std::vector<std::string>& texts, const BpeOptions& options) {
  std::map<std::string, int64_t> counts;
  for (const std::string& text : texts) {
    for (const std::string& word : Words(text)) ++counts[word];
  }
  std::vector<std::pair<std::vector<std::string>, int64_t>> words;
  for (const auto& [word, count] : counts) words.emplace_back(SymbolsOf(word), count);

  BpeVocabulary vocabulary;
  const auto merge = [&](const Pair& pair) {
    vocabulary.merges.push_back(pair);
    for (auto& [symbols, count] : words) Apply(pair, symbols);
  };
  while (static_cast<int64_t>(vocabulary.merges.size()) < options.merges) {
    std::map<Pair, int64_t> pairs;  // ordered: the first of equals is the alphabetically first
    for (const auto& [symbols, count] : words) {
      for (size_t i = 0; i + 1 < symbols.size(); ++i) pairs[{symbols[i], symbols[i + 1]}] += count;
    }
    const auto best =
        std::max_element(pairs.begin(), pairs.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    if (best == pairs.end() || best->second < 2) break;
    merge(Pair(best->first));
  }
  for (const std::string& word : options.reserved) {
    std::vector<std::string> symbols = SymbolsOf(word);
    for (const Pair& pair : vocabulary.merges) Apply(pair, symbols);
    while (symbols.size() > 1) {
      const Pair pair(symbols[0], symbols[1]);
      merge(pair);
      Apply(pair, symbols);
    }
  }

  int64_t id = 0;
  for (const std::string& symbol : Symbols().in_order) vocabulary.ids[symbol] = id++;
  for (const std::string& symbol : Symbols().in_order) vocabulary.ids[symbol + std::string(kWordEnd)] = id++;
  // Two merges can give the same symbol ("a"+"bc", "ab"+"c"); it keeps its first number.
  for (const auto& [left, right] : vocabulary.merges) {
    if (vocabulary.ids.emplace(left + right, id).second) ++id;
  }
  vocabulary.ids.emplace(kStart, id++);
  vocabulary.ids.emplace(kEnd, id++);
  return vocabulary;
}

absl::Status WriteTokenizer(const std::string& folder, const BpeVocabulary& vocabulary, int64_t max_length) {
  std::string merges = "#version: 0.2\n";
  for (const auto& [left, right] : vocabulary.merges) merges += fmt::format("{} {}\n", left, right);
  const Json special = {{"bos_token", kStart}, {"eos_token", kEnd}, {"unk_token", kEnd}, {"pad_token", kEnd}};
  Json config = {{"tokenizer_class", "CLIPTokenizer"}, {"model_max_length", max_length}};
  config.update(special);
  config.update(Json{{"do_lower_case", true}, {"add_prefix_space", false}, {"errors", "replace"}});
  LOUPE_RETURN_IF_ERROR(WriteFileAtomically(folder + "/vocab.json", Vocab(vocabulary).dump()));
  LOUPE_RETURN_IF_ERROR(WriteFileAtomically(folder + "/merges.txt", merges));
  LOUPE_RETURN_IF_ERROR(WriteFileAtomically(folder + "/tokenizer.json", FastTokenizer(vocabulary).dump(1)));
  LOUPE_RETURN_IF_ERROR(WriteFileAtomically(folder + "/tokenizer_config.json", config.dump(1)));
  return WriteFileAtomically(folder + "/special_tokens_map.json", special.dump());
}

}  // namespace loupe::worker::pretrain
