// Fields of tables and numbers without the blanks around them.
#pragma once

#include <string_view>

namespace loupe::analysis::stats {

// `text` without what looks like nothing at its ends: spaces, tabs, no-break spaces (U+00A0, which spreadsheets and
// pages leave) and zero-width ones (U+200B, U+FEFF).
constexpr std::string_view Trim(std::string_view text) {
  constexpr std::string_view kWide[] = {"\xC2\xA0", "\xE2\x80\x8B", "\xEF\xBB\xBF"};
  while (!text.empty()) {
    size_t front = text.front() == ' ' || text.front() == '\t' ? 1 : 0,
           back = text.back() == ' ' || text.back() == '\t' ? 1 : 0;
    if (static_cast<signed char>(text.front()) < 0 || static_cast<signed char>(text.back()) < 0) {
      for (const std::string_view blank : kWide) {
        if (text.starts_with(blank)) front = blank.size();
        if (text.ends_with(blank)) back = blank.size();
      }
    }
    if (front == 0 && back == 0) break;
    text.remove_prefix(front);
    text.remove_suffix(back < text.size() ? back : text.size());
  }
  return text;
}

}  // namespace loupe::analysis::stats
