#include "worker/pretrain/corpus.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string_view>

#include "absl/strings/str_split.h"
#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace loupe::worker::pretrain {
namespace {

constexpr std::string_view kPhoto = "a photo of ";

// `count` different keywords, in a drawn order.
std::string SomeKeywords(const data::EmojiItem& item, int64_t count, std::mt19937_64& random) {
  std::vector<std::string> left = item.keywords;
  std::string text;
  for (int64_t i = 0; i < count && !left.empty(); ++i) {
    const auto at = left.begin() + DrawBelow(static_cast<int64_t>(left.size()), random);
    text += (text.empty() ? "" : " ") + *at;
    left.erase(at);
  }
  return text;
}

std::set<std::string> WordsOf(const data::EmojiItem& item) {
  std::set<std::string> words(item.keywords.begin(), item.keywords.end());
  words.insert("#" + item.subgroup);  // no keyword begins so
  if (!item.style.empty()) words.insert("#" + item.style + " style");
  size_t begin = 0;
  while (begin <= item.name.size()) {
    const size_t end = std::min(item.name.find(' ', begin), item.name.size());
    if (end > begin) words.insert(item.name.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

absl::StatusOr<data::EmojiItem> ParsePicture(const std::string& line) {
  data::EmojiItem item;
  try {
    const auto json = nlohmann::json::parse(line);
    item.name = json.at("name").get<std::string>();
    item.keywords = json.at("keywords").get<std::vector<std::string>>();
    item.subgroup = json.at("group").get<std::string>();
    item.style = json.at("style").get<std::string>();
    item.held_out = json.at("hold").get<std::string>();
    item.setting = json.value("setting", "");
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(
        fmt::format("{}; expected a line as render-emoji --styled and render-photographs write it", error.what()));
  }
  return item;
}

std::vector<std::string> StyledCaptions(const data::EmojiItem& item, int64_t mixed, std::mt19937_64& random) {
  std::vector<std::string> captions;
  if (item.style == kPhotoStyle) {
    const std::string plain = std::string(kPhoto) + item.name;
    const std::string placed = item.setting.empty() ? plain : plain + " " + item.setting;
    for (int64_t i = 0; i < mixed + 3; ++i) captions.push_back(i % 2 == 0 ? plain : placed);
    return captions;
  }
  captions = {data::StyledName(item.name, item.style), fmt::format("{} emoji of {}", item.style, item.name), item.name};
  for (int64_t i = 0; i < mixed; ++i) {
    const std::string keywords = SomeKeywords(item, 1 + DrawBelow(3, random), random);
    captions.push_back(data::StyledName(keywords.empty() ? item.name : item.name + " " + keywords, item.style));
  }
  return captions;
}

}  // namespace

absl::StatusOr<Corpus> Corpus::ReadFolders(const std::vector<std::string>& folders) {
  Corpus corpus;
  for (const std::string& folder : folders) {
    const std::string path = folder + "/metadata.jsonl";
    LOUPE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
    int64_t number = 0;
    for (const absl::string_view line : absl::StrSplit(text, '\n')) {
      ++number;
      if (line.empty()) continue;
      auto item = ParsePicture(std::string(line));
      if (!item.ok()) return Annotate(item.status(), fmt::format("{}: line {}", path, number));
      item->index = corpus.size();
      corpus.files.push_back(folder + "/" + nlohmann::json::parse(line).value("file_name", ""));
      (item->held_out.empty() ? corpus.training : corpus.held_out).push_back(*std::move(item));
    }
  }
  if (corpus.training.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: nothing to train on: every picture is held out or none is listed",
                    folders.empty() ? "pictures" : folders.front()));
  }
  return corpus;
}

absl::StatusOr<Corpus> Corpus::Read(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(const std::vector<data::EmojiItem> items, data::ReadEmojiItems(path));
  Corpus corpus;
  for (const data::EmojiItem& item : items) (item.held_out.empty() ? corpus.training : corpus.held_out).push_back(item);
  if (corpus.training.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: nothing to train on: every emoji is held out or none is listed", path));
  }
  return corpus;
}

std::string DrawCaption(const data::EmojiItem& item, bool keywords_alone, std::mt19937_64& random) {
  if (!item.style.empty()) {
    const auto captions = StyledCaptions(item, 4, random);
    return captions[static_cast<size_t>(DrawBelow(static_cast<int64_t>(captions.size()), random))];
  }
  const int64_t kind = DrawBelow(100, random);
  const int64_t count = 1 + DrawBelow(3, random);
  if (kind < 40 || item.keywords.empty()) return item.name;
  if (kind < 60) return std::string(kPhoto) + item.name;
  const std::string keywords = SomeKeywords(item, count, random);
  return keywords_alone && kind >= 85 ? keywords : item.name + " " + keywords;
}

std::vector<std::string> FixedCaptions(const data::EmojiItem& item, int64_t mixed, std::mt19937_64& random) {
  if (!item.style.empty()) return StyledCaptions(item, mixed, random);
  std::vector<std::string> captions = {item.name, std::string(kPhoto) + item.name};
  for (int64_t i = 0; i < mixed; ++i) {
    const std::string keywords = SomeKeywords(item, 1 + DrawBelow(3, random), random);
    captions.push_back(keywords.empty() ? item.name : item.name + " " + keywords);
  }
  return captions;
}

std::string MainCaption(const data::EmojiItem& item) {
  if (item.style.empty()) return item.name;
  if (item.style != kPhotoStyle) return data::StyledName(item.name, item.style);
  return std::string(kPhoto) + item.name + (item.setting.empty() ? "" : " " + item.setting);
}

std::vector<float> WordLikeness(const std::vector<data::EmojiItem>& items) {
  std::vector<std::set<std::string>> bags;
  std::map<std::string, int64_t> uses;
  for (const data::EmojiItem& item : items) {
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

}  // namespace loupe::worker::pretrain
