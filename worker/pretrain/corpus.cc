#include "worker/pretrain/corpus.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string_view>

#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::worker {
namespace {

constexpr std::string_view kPhoto = "a photo of ";

// `count` different keywords, in a drawn order.
std::string SomeKeywords(const EmojiItem& item, int64_t count, std::mt19937_64& random) {
  std::vector<std::string> left = item.keywords;
  std::string text;
  for (int64_t i = 0; i < count && !left.empty(); ++i) {
    const auto at = left.begin() + DrawBelow(static_cast<int64_t>(left.size()), random);
    text += (text.empty() ? "" : " ") + *at;
    left.erase(at);
  }
  return text;
}

std::set<std::string> WordsOf(const EmojiItem& item) {
  std::set<std::string> words(item.keywords.begin(), item.keywords.end());
  words.insert("#" + item.subgroup);  // no keyword begins so
  size_t begin = 0;
  while (begin <= item.name.size()) {
    const size_t end = std::min(item.name.find(' ', begin), item.name.size());
    if (end > begin) words.insert(item.name.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

}  // namespace

absl::StatusOr<Corpus> Corpus::Read(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const std::vector<EmojiItem> items, ReadEmojiItems(path));
  Corpus corpus;
  for (const EmojiItem& item : items) (item.held_out.empty() ? corpus.training : corpus.held_out).push_back(item);
  if (corpus.training.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: nothing to train on: every emoji is held out or none is listed", path));
  }
  return corpus;
}

std::string DrawCaption(const EmojiItem& item, bool keywords_alone, std::mt19937_64& random) {
  const int64_t kind = DrawBelow(100, random);
  const int64_t count = 1 + DrawBelow(3, random);
  if (kind < 40 || item.keywords.empty()) return item.name;
  if (kind < 60) return std::string(kPhoto) + item.name;
  const std::string keywords = SomeKeywords(item, count, random);
  return keywords_alone && kind >= 85 ? keywords : item.name + " " + keywords;
}

std::vector<std::string> FixedCaptions(const EmojiItem& item, int64_t mixed, std::mt19937_64& random) {
  std::vector<std::string> captions = {item.name, std::string(kPhoto) + item.name};
  for (int64_t i = 0; i < mixed; ++i) {
    const std::string keywords = SomeKeywords(item, 1 + DrawBelow(3, random), random);
    captions.push_back(keywords.empty() ? item.name : item.name + " " + keywords);
  }
  return captions;
}

std::vector<float> WordLikeness(const std::vector<EmojiItem>& items) {
  std::vector<std::set<std::string>> bags;
  std::map<std::string, int64_t> uses;
  for (const EmojiItem& item : items) {
    bags.push_back(WordsOf(item));
    for (const std::string& word : bags.back()) ++uses[word];
  }
  const size_t n = items.size();
  const auto weight = [&](const std::string& word) {
    const double idf = std::log(static_cast<double>(n) / static_cast<double>(uses.at(word)));
    return idf * idf;
  };
  std::vector<double> squares(n, 0.0);
  for (size_t i = 0; i < n; ++i) {
    for (const std::string& word : bags[i]) squares[i] += weight(word);
  }
  // By word, since most pairs share none.
  std::map<std::string, std::vector<size_t>> users;
  for (size_t i = 0; i < n; ++i) {
    for (const std::string& word : bags[i]) users[word].push_back(i);
  }
  std::vector<double> shared(n * n, 0.0);
  for (const auto& [word, who] : users) {
    const double w = weight(word);
    for (const size_t i : who) {
      for (const size_t j : who) shared[i * n + j] += w;
    }
  }
  std::vector<float> likeness(n * n, 0.0F);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      const double scale = std::sqrt(squares[i] * squares[j]);
      likeness[i * n + j] = i == j ? 1.0F : scale > 0 ? static_cast<float>(shared[i * n + j] / scale) : 0.0F;
    }
  }
  return likeness;
}

}  // namespace loupe::worker
