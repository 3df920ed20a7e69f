#include "analysis/stats/csv_reader.h"

#include <algorithm>
#include <array>

#include "fmt/format.h"
#include "common/status_macros.h"

namespace loupe::analysis {
namespace {

constexpr std::string_view kSeparators = ",;\t";

// Of the record at the front of `text`: what stands in quotes does not count.
char MostFrequentSeparator(std::string_view text) {
  std::array<int64_t, kSeparators.size()> counts{};
  bool begins_field = true, is_quoted = false;
  for (size_t i = 0; i < text.size() && (is_quoted || text[i] != '\n'); ++i) {
    if (is_quoted) {
      if (text[i] != '"') continue;
      if (i + 1 < text.size() && text[i + 1] == '"') {
        ++i;
      } else {
        is_quoted = false;
      }
      continue;
    }
    is_quoted = begins_field && text[i] == '"';
    const size_t which = kSeparators.find(text[i]);
    begins_field = which != std::string_view::npos;
    if (begins_field) ++counts[which];
  }
  return kSeparators[static_cast<size_t>(std::max_element(counts.begin(), counts.end()) - counts.begin())];
}

}  // namespace

CsvReader::CsvReader(std::string_view text) : text_(text) {
  if (text_.starts_with("\xEF\xBB\xBF")) text_.remove_prefix(3);
  size_t begin = 0;
  while (begin < text_.size()) {
    const std::string_view line = text_.substr(begin, text_.find('\n', begin) - begin);
    if (!line.empty() && line != "\r" && line.front() != '#') {
      separator_ = MostFrequentSeparator(text_.substr(begin));
      break;
    }
    begin += line.size() + 1;
  }
}

absl::StatusOr<bool> CsvReader::Next(std::vector<std::string_view>& fields) {
  fields.clear();
  unquoted_.clear();
  while (at_ < text_.size()) {
    const size_t end = std::min(text_.find('\n', at_), text_.size());
    std::string_view line = text_.substr(at_, end - at_);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty() && line.front() != '#') {
      record_line_ = line_;
      record_text_ = line;
      if (line.find('"') != std::string_view::npos) {
        LOUPE_RETURN_IF_ERROR(ReadQuoted(fields));
        return true;
      }
      size_t begin = 0;
      while (true) {
        const size_t stop = line.find(separator_, begin);
        fields.push_back(line.substr(begin, stop - begin));
        if (stop == std::string_view::npos) break;
        begin = stop + 1;
      }
      at_ = end + 1;
      ++line_;
      return true;
    }
    at_ = end + 1;
    ++line_;
  }
  return false;
}

absl::Status CsvReader::ReadQuoted(std::vector<std::string_view>& fields) {
  const size_t record_begin = at_;
  while (true) {
    if (at_ < text_.size() && text_[at_] == '"') {
      std::string& field = unquoted_.emplace_back();
      ++at_;
      while (true) {
        if (at_ >= text_.size()) {
          return absl::InvalidArgumentError(
              fmt::format("line {}: a quoted field is never closed; add the missing '\"'", record_line_));
        }
        if (text_[at_] == '"') {
          ++at_;
          if (at_ >= text_.size() || text_[at_] != '"') break;
        }
        if (text_[at_] == '\n') ++line_;
        field.push_back(text_[at_++]);
      }
      fields.push_back(field);
      if (at_ < text_.size() && text_[at_] == '\r') ++at_;
      if (at_ < text_.size() && text_[at_] != separator_ && text_[at_] != '\n') {
        return absl::InvalidArgumentError(fmt::format(
            "line {}: text after a closing quote; write quotes inside a field twice (\"\")", record_line_));
      }
    } else {
      const size_t begin = at_;
      while (at_ < text_.size() && text_[at_] != separator_ && text_[at_] != '\n') ++at_;
      std::string_view field = text_.substr(begin, at_ - begin);
      if (field.ends_with('\r')) field.remove_suffix(1);
      fields.push_back(field);
    }
    if (at_ >= text_.size() || text_[at_] == '\n') {
      record_text_ = text_.substr(record_begin, at_ - record_begin);
      if (record_text_.ends_with('\r')) record_text_.remove_suffix(1);
      ++at_;
      ++line_;
      return absl::OkStatus();
    }
    ++at_;  // the separator
  }
}

}  // namespace loupe::analysis
