// Fields of tables and numbers without the blanks around them.
#pragma once

#include <string_view>

namespace loupe::analysis {

// `text` without the spaces and tabs at its ends.
constexpr std::string_view Trim(std::string_view text) {
  constexpr std::string_view kBlanks = " \t";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

}  // namespace loupe::analysis
