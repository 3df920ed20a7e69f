#include "analysis/stats/csv_reader.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>

#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

// Of the record at the front of `text`: what stands in quotes does not count.
char MostFrequentSeparator(std::string_view text) {
  std::array<int64_t, CsvReader::kSeparators.size()> counts{};
  bool begins_field = true, is_quoted = false;
  for (size_t i = 0; i < text.size() && (is_quoted || (text[i] != '\n' && text[i] != '\r')); ++i) {
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
    const size_t which = CsvReader::kSeparators.find(text[i]);
    begins_field = which != std::string_view::npos;
    if (begins_field) ++counts[which];
  }
  return CsvReader::kSeparators[static_cast<size_t>(std::max_element(counts.begin(), counts.end()) - counts.begin())];
}

// The separator that a line "sep=;" names ("sep=" and a tab, "\"sep=;\""); 0 if the line is another.
char NamedSeparator(std::string_view line) {
  if (line.size() == 7 && line.front() == '"' && line.back() == '"') line = line.substr(1, 5);
  if (line.size() != 5 || (line.substr(0, 4) != "sep=" && line.substr(0, 4) != "SEP=")) return '\0';
  return line[4] == '"' || std::isalnum(static_cast<unsigned char>(line[4])) != 0 ? '\0' : line[4];
}

}  // namespace

CsvReader::CsvReader(std::string_view text, char separator) : text_(text), separator_(separator) {
  if (const char named = NamedSeparator(text_.substr(0, LineEnd())); named != '\0') {
    separator_ = named;
    at_ = LineEnd();
    SkipLineBreak();
  }
  if (separator_ == '\0')
    separator_ = MostFrequentSeparator(text_.substr(std::min(text_.find_first_not_of("\r\n", at_), text_.size())));
}

size_t CsvReader::LineEnd() {
  if (next_line_feed_ < at_ || (next_line_feed_ < text_.size() && text_[next_line_feed_] != '\n')) {
    next_line_feed_ = std::min(text_.find('\n', at_), text_.size());
  }
  const void* carriage = next_line_feed_ > at_ ? std::memchr(text_.data() + at_, '\r', next_line_feed_ - at_) : nullptr;
  return carriage == nullptr ? next_line_feed_ : static_cast<size_t>(static_cast<const char*>(carriage) - text_.data());
}

void CsvReader::SkipLineBreak() {
  if (at_ < text_.size()) at_ += text_.substr(at_, 2) == "\r\n" ? 2 : 1;
  ++line_;
}

absl::StatusOr<bool> CsvReader::Next(std::vector<std::string_view>& fields) {
  fields.clear();
  unquoted_.clear();
  while (at_ < text_.size()) {
    const size_t end = LineEnd();
    const std::string_view line = text_.substr(at_, end - at_);
    if (line.empty()) {
      SkipLineBreak();
      continue;
    }
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
    at_ = end;
    SkipLineBreak();
    return true;
  }
  return false;
}

absl::Status CsvReader::ReadQuoted(std::vector<std::string_view>& fields) {
  const size_t record_begin = at_;
  const auto ends_line = [&] { return at_ >= text_.size() || text_[at_] == '\n' || text_[at_] == '\r'; };
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
        } else if (text_[at_] == '\n' || (text_[at_] == '\r' && text_.substr(at_ + 1, 1) != "\n")) {
          ++line_;
        }
        field.push_back(text_[at_++]);
      }
      fields.push_back(field);
      if (!ends_line() && text_[at_] != separator_) {
        return absl::InvalidArgumentError(
            fmt::format("line {}: text after a closing quote; write quotes inside a field twice (\"\")", record_line_));
      }
    } else {
      const size_t begin = at_;
      while (!ends_line() && text_[at_] != separator_) ++at_;
      fields.push_back(text_.substr(begin, at_ - begin));
    }
    if (ends_line()) {
      record_text_ = text_.substr(record_begin, at_ - record_begin);
      SkipLineBreak();
      return absl::OkStatus();
    }
    ++at_;  // the separator
  }
}

}  // namespace loupe::analysis::stats
