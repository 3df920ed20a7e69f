#include "worker/io/prompt_length.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "fmt/format.h"
#include "worker/io/json_config.h"

namespace loupe::worker::io {
namespace {

// CLIP's, where the file does not say (transformers' default).
constexpr int64_t kClipPositions = 77;
constexpr size_t kMostShown = 120;

}  // namespace

absl::StatusOr<int64_t> PromptLength(const std::string& folder, const ClipTokenizer& tokenizer) {
  LOUPE_ASSIGN_OR_RETURN(JsonConfig config, JsonConfig::Read(folder + "/text_encoder/config.json"));
  const int64_t positions = config.Int("max_position_embeddings", kClipPositions);
  LOUPE_RETURN_IF_ERROR(config.status());
  return std::min(tokenizer.max_length(), positions);
}

std::string_view CutOff(const ClipTokenizer& tokenizer, std::string_view text, int64_t length) {
  const auto fits = [&](size_t size) {
    return static_cast<int64_t>(tokenizer.Tokenise(text.substr(0, size)).size()) <= length - 2;
  };
  if (fits(text.size())) return {};
  const auto is_space = [](char c) { return absl::ascii_isspace(static_cast<unsigned char>(c)); };
  // No token reaches over white space, so whole words of the text have the tokens that they have in it.
  std::vector<size_t> ends = {0};
  for (size_t i = 1; i < text.size(); ++i) {
    if (is_space(text[i]) && !is_space(text[i - 1])) ends.push_back(i);
  }
  const auto first_too_long = std::partition_point(ends.begin(), ends.end(), fits);
  std::string_view rest = text.substr(first_too_long == ends.begin() ? 0 : *(first_too_long - 1));
  while (!rest.empty() && is_space(rest.front())) rest.remove_prefix(1);
  return rest;
}

std::string DescribeCutOff(const ClipTokenizer& tokenizer, std::string_view text, int64_t length) {
  const std::string_view rest = CutOff(tokenizer, text, length);
  if (rest.empty()) return "";
  return fmt::format("'{}' has {} tokens, and the text tower takes {}: '{}' is cut off and changes nothing",
                     Shortened(Printable(text), kMostShown), tokenizer.Tokenise(text).size(), length - 2,
                     Shortened(Printable(rest), kMostShown));
}

}  // namespace loupe::worker::io
