// The tokenizer: its six files, and the text.
//
// An input without NUL is a text for the built-in base's tokenizer. With three or more, it is a text and six files, in
// the order of `kFiles` below; one that is empty or not there is left out.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/status/status.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/testing/temp_folder.h"
#include "worker/io/clip_tokenizer.h"

namespace loupe::fuzz {
namespace {

using worker::io::ClipTokenizer;

constexpr char kFolder[] = "configs/bases/emoji-sd/tokenizer";
constexpr const char* kFiles[] = {
    "vocab.json",       "merges.txt", "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json",
    "added_tokens.json"};

const ClipTokenizer& BuiltIn() {
  static const auto tokenizer = ClipTokenizer::Load(kFolder);
  Require(tokenizer.ok(), "the built-in base's tokenizer loads");
  return *tokenizer;
}

std::vector<std::string> SplitAtNul(const std::string& text) {
  std::vector<std::string> parts = {""};
  for (const char c : text) {
    if (c == '\0' && parts.size() < 1 + std::size(kFiles)) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

void CheckEncoding(const ClipTokenizer& tokenizer, const std::string& text) {
  const std::vector<int64_t> tokens = tokenizer.Tokenise(text);
  Require(std::all_of(tokens.begin(), tokens.end(), [](int64_t id) { return id >= 0; }), "ids are at least 0");
  const std::vector<int64_t> ids = tokenizer.Encode(text, 8);
  Require(ids.size() == 8 && ids.front() == tokenizer.bos_id(), "an encoding has its length and begins with bos");
  const size_t kept = std::min<size_t>(tokens.size(), 6);
  Require(std::equal(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(kept), ids.begin() + 1) &&
              ids[kept + 1] == tokenizer.eos_id() &&
              std::all_of(ids.begin() + static_cast<std::ptrdiff_t>(kept) + 2, ids.end(),
                          [&](int64_t id) { return id == tokenizer.pad_id(); }),
          "it holds the tokens, eos and padding");
}

std::string FileAt(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

std::vector<std::string> Seeds() {
  const std::string nul(1, '\0');
  const std::string vocab =
      R"({"a": 0, "b": 1, "b</w>": 2, "ab</w>": 3, "<|startoftext|>": 4, "<|endoftext|>": 5, "!": 6})";
  return {
      "a photo of sks dog, it's 2 o'clock\t\nNOW!!",
      "<|startoftext|>ab<|endoftext|> \u00c5\u0301\u0130 \U0001f600\U0001f44d\U0001f3fd \u4f60\u597d \u0663",
      "a\xff\xe2\x82 b\xf0\x9f",
      "I'LL I'Ve I'M i'd i're 's't",
      "ab AB z" + nul + vocab + nul + "#version: 0.2\na b</w>\n" + nul +
          R"({"model_max_length": 5, "pad_token": {"content": "!"}})",
      "aab</w>b" + nul + vocab + nul + nul + R"({"bos_token": "a", "eos_token": "ab</w>", "unk_token": "b"})",
      nul + vocab + nul + "a b</w>\r\n\r\n" + nul + "{}" + nul,
      "ab <X>ab  <x> !" + nul + vocab + nul + "a b</w>" + nul + R"({"additional_special_tokens": ["<x>"]})" + nul +
          nul + R"({"pad_token": {"content": "!", "lstrip": true, "normalized": true}})" + nul +
          R"({"<x>": 7, "b": 1})",
      "ab <y>" + nul + nul + nul +
          R"({"added_tokens_decoder": {"6": {"content": "<y>", "single_word": true, "rstrip": true}}})" + nul +
          R"({"model": {"end_of_word_suffix": "</w>", "merges": ["a b</w>"], "vocab": {"a": 0, "b": 1, "b</w>": 2, "ab</w>": 3,
                 "<|startoftext|>": 4, "<|endoftext|>": 5}}, "normalizer": {"normalizers": [{"type": "NFC"}, {"type": "Replace"},
                 {"type": "Lowercase"}]}, "pre_tokenizer": {"pretokenizers": [{"type": "Split"}, {"type": "ByteLevel"}]}})",
      "x" + nul + nul + nul + FileAt(std::string(kFolder) + "/tokenizer_config.json")};
}

std::vector<std::string> Dictionary() {
  return {"<|startoftext|>",
          "<|endoftext|>",
          "</w>",
          "'s",
          "'re",
          "'ll",
          "\"bos_token\":",
          "\"eos_token\":",
          "\"pad_token\":",
          "\"unk_token\":",
          "\"content\":",
          "\"added_tokens_decoder\":",
          "\"lstrip\": true",
          "\"rstrip\": true",
          "\"single_word\": true",
          "\"normalized\": true",
          "\"special\": true",
          "\"added_tokens\":",
          "\"model\":",
          "\"vocab\":",
          "\"merges\":",
          "\"post_processor\":",
          "\"model_max_length\":",
          "{",
          "}",
          "\"\"",
          ": 0",
          "2147483648",
          "1e30",
          "#version",
          "\n",
          " ",
          std::string(1, '\0'),
          "\u0130",
          "\u00df",
          "\u0301",
          "\u3000",
          "\U0001f600",
          "\u00b2",
          "\u2167",
          "\xff",
          "\xed\xa0\x80"};
}

int DefaultRuns() { return 4000; }

}  // namespace loupe::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loupe;        // NOLINT: one function
  using namespace loupe::fuzz;  // NOLINT
  const std::vector<std::string> parts = SplitAtNul({reinterpret_cast<const char*>(data), size});
  if (parts.size() < 4) {
    CheckEncoding(BuiltIn(), parts[0]);
    const std::vector<int64_t> tokens = BuiltIn().Tokenise(parts[0]);
    Require(BuiltIn().Tokenise(" \t" + parts[0] + "\n ") == tokens, "blanks around a text say nothing");
    Require(std::all_of(tokens.begin(), tokens.end(), [](int64_t id) { return id < BuiltIn().vocab_size(); }),
            "ids are in the vocabulary");
    return 0;
  }
  static const testing::TempFolder folder;
  for (size_t i = 0; i < std::size(kFiles); ++i) {
    const std::string path = folder / kFiles[i];
    std::filesystem::remove(path);
    if (i + 1 < parts.size() && !parts[i + 1].empty()) std::ofstream(path, std::ios::binary) << parts[i + 1];
  }
  const auto tokenizer = ClipTokenizer::Load(folder.path());
  if (!tokenizer.ok()) {
    Require((absl::IsInvalidArgument(tokenizer.status()) || absl::IsNotFound(tokenizer.status())) &&
                tokenizer.status().message().find(folder.path().c_str()) != absl::string_view::npos,
            "a refusal names the file");
    return 0;
  }
  CheckEncoding(*tokenizer, parts[0]);
  return 0;
}
