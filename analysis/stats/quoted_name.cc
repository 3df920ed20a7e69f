#include "analysis/stats/quoted_name.h"

#include <algorithm>
#include <cctype>

#include "analysis/stats/trim.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {

bool IsPlainNameCharacter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' ||
         static_cast<unsigned char>(c) >= 0x80;
}

std::string QuoteName(std::string_view name) {
  if (!name.empty() && std::all_of(name.begin(), name.end(), IsPlainNameCharacter)) return std::string(name);
  std::string quoted = "`";
  for (const char c : name) quoted.append(c == '`' ? 2 : 1, c);
  return quoted + '`';
}

absl::StatusOr<std::string> ReadQuotedName(std::string_view text, size_t& at) {
  std::string name;
  for (size_t i = at + 1; i < text.size(); ++i) {
    if (text[i] == '`') {
      if (i + 1 == text.size() || text[i + 1] != '`') {
        at = i + 1;
        return name;
      }
      ++i;
    }
    name += text[i];
  }
  return absl::InvalidArgumentError("a '`' is never closed");
}

absl::StatusOr<std::string> UnquoteName(std::string_view text) {
  text = Trim(text);
  if (!text.starts_with('`')) return std::string(text);
  size_t at = 0;
  LOUPE_ASSIGN_OR_RETURN(std::string name, ReadQuotedName(text, at));
  if (at < text.size()) return absl::InvalidArgumentError(fmt::format("{}: text after the closing '`'", text));
  return name;
}

std::vector<std::string_view> SplitOutsideQuotes(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  bool quoted = false;
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '`') quoted = !quoted;  // a doubled one ends and begins again
    if (text[i] != separator || quoted) continue;
    parts.push_back(text.substr(begin, i - begin));
    begin = i + 1;
  }
  parts.push_back(text.substr(begin));
  return parts;
}

}  // namespace loupe::analysis::stats
