#include "analysis/stats/level_names.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <map>

#include "analysis/stats/decimal_column.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::stats {
namespace {

constexpr size_t kMostNamesQuoted = 6;  // names in one sentence

constexpr std::array<std::string_view, 38> kMissingMarkers = {
    "",     "na",     "n/a",      "n.a.",      "n.a",     "#n/a",    "#na",     "#n/a n/a", "<na>",   "nan",
    "-nan", "+nan",   "nan(ind)", "-nan(ind)", "1.#ind",  "-1.#ind", "1.#qnan", "-1.#qnan", "1.#nan", "nat",
    "null", "<null>", "(null)",   "#null!",    "#div/0!", "#value!", "#ref!",   "#name?",   "#num!",  "#nan",
    "\\n",  ".",      "?",        "<nan>",     "<n/a>",   "(na)",    "[na]",    "(n/a)"};

constexpr std::array<std::string_view, 6> kDashes = {"-", "--", "---", "–", "—", "−"};

std::string LowerAscii(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

bool IsDash(std::string_view text) { return std::find(kDashes.begin(), kDashes.end(), text) != kDashes.end(); }

bool IsMarker(std::string_view text) {
  if (text.size() > 9) return false;
  return std::find(kMissingMarkers.begin(), kMissingMarkers.end(), LowerAscii(text)) != kMissingMarkers.end();
}

// Markers that nobody takes for a level's name: no sentence about them.
bool IsPlainMarker(std::string_view text) {
  const std::string lower = LowerAscii(text);
  return lower.empty() || lower == "na" || lower == "nan" || lower == "n/a" || lower == "null";
}

std::string Quoted(const std::vector<std::string>& names) {
  std::vector<std::string> shown;
  for (const std::string& name : names) {
    if (shown.size() == kMostNamesQuoted) {
      shown.push_back("…");
      break;
    }
    shown.push_back("'" + name + "'");
  }
  return fmt::format("{}", fmt::join(shown, ", "));
}

// Equal for levels that a reader would call the same.
std::string Skeleton(std::string_view level) {
  std::string out;
  for (const char c : LowerAscii(level)) {
    if (c != ' ' && c != '\t') out += c;
  }
  return out;
}

void WarnOfLookAlikes(const Factor& factor, std::vector<std::string>& warnings) {
  std::map<std::string, std::vector<std::string>> alike;
  std::vector<std::pair<double, std::string>> values;
  for (const std::string& level : factor.levels) {
    const std::optional<double> value = DecimalValue(level);
    if (value) {
      values.emplace_back(*value, level);
    } else {
      alike[Skeleton(level)].push_back(level);
    }
  }
  for (const auto& [skeleton, levels] : alike) {
    if (levels.size() < 2) continue;
    warnings.push_back(fmt::format(
        "Factor '{}': the levels {} differ only in case or blanks and are taken as different; if they are one, "
        "spell them the same.",
        factor.name, Quoted(levels)));
  }
  std::sort(values.begin(), values.end());
  for (size_t i = 1; i < values.size(); ++i) {
    const double scale = std::max(std::abs(values[i].first), std::abs(values[i - 1].first));
    if (values[i].first - values[i - 1].first > 1e-12 * scale) continue;
    warnings.push_back(fmt::format(
        "Factor '{}': the levels '{}' and '{}' differ by no more than a rounding error and are taken as different; "
        "if they are one, round them.",
        factor.name, values[i - 1].second, values[i].second));
  }
}

}  // namespace

bool IsMissingMarker(std::string_view text, bool of_numbers) {
  return IsMarker(text) || (of_numbers && (IsDash(text) || LowerAscii(text) == "none"));
}

void TidyLevels(Factor& factor, std::vector<std::string>& warnings) {
  const bool has_plus = std::find(factor.levels.begin(), factor.levels.end(), "+") != factor.levels.end();
  std::vector<std::string> levels, missing, none;
  std::vector<int32_t> new_code;
  std::map<std::string, std::vector<std::string>> spellings;  // of each number, by its canonical text
  std::map<std::string, int32_t> code_of_number;
  for (const std::string& level : factor.levels) {
    if (IsMarker(level) || (IsDash(level) && !has_plus)) {
      if (!IsPlainMarker(level)) missing.push_back(level);
      new_code.push_back(kMissingLevel);
      continue;
    }
    if (level == "None") none.push_back(level);
    auto code = static_cast<int32_t>(levels.size());
    if (const std::string number = CanonicalDecimal(level); !number.empty()) {
      spellings[number].push_back(level);
      code = code_of_number.try_emplace(number, code).first->second;
    }
    new_code.push_back(code);
    if (static_cast<size_t>(code) == levels.size()) levels.push_back(level);
  }
  factor.levels = std::move(levels);
  for (int32_t& code : factor.codes) {
    if (code != kMissingLevel) code = new_code[static_cast<size_t>(code)];
  }
  if (!missing.empty()) {
    warnings.push_back(fmt::format("Factor '{}': {} {} read as a missing value.", factor.name, Quoted(missing),
                                   missing.size() == 1 ? "was" : "were"));
  }
  if (!none.empty()) {
    warnings.push_back(fmt::format(
        "Factor '{}': 'None' is read as a level; where it means that there is no value, leave the field empty.",
        factor.name));
  }
  for (const auto& [number, written] : spellings) {
    if (written.size() < 2) continue;
    warnings.push_back(fmt::format(
        "Factor '{}': {} are one number and were read as the one level '{}'; where they are names (versions such as "
        "1.1 and 1.10), give them a letter.",
        factor.name, Quoted(written), written.front()));
  }
  WarnOfLookAlikes(factor, warnings);
  SortNumericLevels(factor);
}

std::optional<size_t> FindLevel(const std::vector<std::string>& levels, std::string_view text) {
  if (const auto found = std::find(levels.begin(), levels.end(), text); found != levels.end()) {
    return static_cast<size_t>(found - levels.begin());
  }
  const std::string number = CanonicalDecimal(text);
  if (number.empty()) return std::nullopt;
  const auto same = std::find_if(levels.begin(), levels.end(),
                                 [&](const std::string& level) { return CanonicalDecimal(level) == number; });
  if (same == levels.end()) return std::nullopt;
  return static_cast<size_t>(same - levels.begin());
}

}  // namespace loupe::analysis::stats
