#include "analysis/stats/csv_table.h"

#include <algorithm>
#include <cctype>
#include <functional>
#include <limits>
#include <set>
#include <unordered_map>

#include "analysis/stats/csv_reader.h"
#include "analysis/stats/decimal_column.h"
#include "analysis/stats/name_suggestion.h"
#include "analysis/stats/trim.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis {
namespace {

constexpr size_t kNoColumn = static_cast<size_t>(-1);

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

bool IsMissing(std::string_view text) {
  if (text.empty()) return true;
  if (text.size() > 4) return false;
  const std::string lower = Lower(text);
  return lower == "na" || lower == "nan" || lower == "null" || lower == "n/a";
}

absl::StatusOr<RowStatus> ParseStatus(std::string_view text, int64_t line, std::string_view column) {
  const std::string lower = Lower(text);
  for (const char* word : {"complete", "completed", "succeeded", "ok", "done"}) {
    if (lower == word) return RowStatus::kComplete;
  }
  if (lower == "failed") return RowStatus::kFailed;
  if (lower == "cancelled" || lower == "canceled") return RowStatus::kCancelled;
  if (lower == "stopped_early" || lower == "stopped early" || lower == "pruned") return RowStatus::kStoppedEarly;
  return absl::InvalidArgumentError(
      fmt::format("line {}, column '{}': unknown status '{}'; expected complete, failed, cancelled or stopped_early",
                  line, column, text));
}

// Where each wanted column is in the header.
class Header {
 public:
  explicit Header(const std::vector<std::string_view>& fields) {
    for (const std::string_view field : fields) names_.emplace_back(Trim(field));
  }

  absl::StatusOr<size_t> Find(std::string_view name, std::string_view role) const {
    size_t found = kNoColumn;
    for (size_t i = 0; i < names_.size(); ++i) {
      if (names_[i] != name) continue;
      if (found != kNoColumn) {
        return absl::InvalidArgumentError(
            fmt::format("the header names column '{}' twice (columns {} and {}); rename one", name, found + 1, i + 1));
      }
      found = i;
    }
    if (found == kNoColumn) {
      return absl::InvalidArgumentError(fmt::format("no column '{}' for {}{}", name, role, SuggestName(name, names_)));
    }
    return found;
  }

  const std::vector<std::string>& names() const { return names_; }

 private:
  std::vector<std::string> names_;
};

// One categorical column while it is read.
class FactorReader {
 public:
  size_t column = 0;
  Factor factor;

  void Append(std::string_view text) {
    if (IsMissing(text)) {
      factor.codes.push_back(kMissingLevel);
      return;
    }
    factor.codes.push_back(CodeOf(text));
  }

 private:
  int32_t CodeOf(std::string_view text) {
    constexpr size_t kFew = 12;  // comparing a few short names beats hashing
    if (factor.levels.size() <= kFew) {
      for (size_t i = 0; i < factor.levels.size(); ++i) {
        if (factor.levels[i] == text) return static_cast<int32_t>(i);
      }
    }
    const auto [entry, is_new] = code_of_.try_emplace(std::string(text), static_cast<int32_t>(factor.levels.size()));
    if (is_new) factor.levels.emplace_back(text);
    return entry->second;
  }

  std::unordered_map<std::string, int32_t> code_of_;
};

// Finds records that repeat an earlier one word for word: hashes are collected and sorted once, which for a million
// lines is several times faster than a hash map.
class RepeatedLines {
 public:
  void Add(std::string_view record, int64_t line) {
    hashes_.emplace_back(std::hash<std::string_view>()(record), records_.size());
    records_.emplace_back(record, line);
  }

  void Warn(std::vector<std::string>& warnings) {
    std::sort(hashes_.begin(), hashes_.end());
    int64_t count = 0;
    std::pair<int64_t, int64_t> example{std::numeric_limits<int64_t>::max(),
                                        0};  // the repeating line, the repeated one
    for (size_t i = 1; i < hashes_.size(); ++i) {
      if (hashes_[i].first != hashes_[i - 1].first) continue;
      const auto& [earlier, earlier_line] = records_[hashes_[i - 1].second];
      const auto& [later, later_line] = records_[hashes_[i].second];
      if (earlier != later) continue;  // two texts with one hash
      ++count;
      example = std::min(example, {later_line, earlier_line});
    }
    if (count == 0) return;
    warnings.push_back(
        fmt::format("{} line{} an earlier line word for word (line {} repeats line {}): replicates may agree by "
                    "chance, but if rows were "
                    "pasted twice, remove them, since they make every test look more certain than it is.",
                    count, count == 1 ? " repeats" : "s repeat", example.first, example.second));
  }

 private:
  std::vector<std::pair<size_t, size_t>> hashes_;  // of a record, and its index
  std::vector<std::pair<std::string_view, int64_t>> records_;
};

}  // namespace

absl::StatusOr<DataTable> ReadCsvTable(std::string_view text, const CsvOptions& options) {
  CsvReader reader(text);
  std::vector<std::string_view> fields;
  LOUPE_ASSIGN_OR_RETURN(const bool has_header, reader.Next(fields));
  if (!has_header) return absl::InvalidArgumentError("the file is empty; expected a header line with column names");
  const Header header(fields);

  LOUPE_ASSIGN_OR_RETURN(const size_t response_column, header.Find(options.response, "the response"));
  std::vector<FactorReader> factors;
  std::set<std::string> taken{options.response};
  std::vector<std::string> wanted = options.factors;
  if (!options.block.empty()) wanted.push_back(options.block);
  for (const std::string& name : wanted) {
    if (name == options.response) {
      return absl::InvalidArgumentError(
          fmt::format("column '{}' is both the response and a factor; name another", name));
    }
    if (!taken.insert(name).second) {
      return absl::InvalidArgumentError(
          fmt::format("column '{}' is given twice among factors and block; name it once", name));
    }
    FactorReader& factor = factors.emplace_back();
    LOUPE_ASSIGN_OR_RETURN(factor.column, header.Find(name, "a factor"));
    factor.factor.name = name;
  }
  size_t status_column = kNoColumn;
  if (!options.status_column.empty()) {
    LOUPE_ASSIGN_OR_RETURN(status_column, header.Find(options.status_column, "the status"));
  }

  DataTable table;
  table.response_name = options.response;
  DecimalColumn response;
  RepeatedLines repeated;
  while (true) {
    LOUPE_ASSIGN_OR_RETURN(const bool more, reader.Next(fields));
    if (!more) break;
    if (fields.size() != header.names().size()) {
      return absl::InvalidArgumentError(
          fmt::format("line {}: {} fields where the header has {}; check quotes and separators", reader.line(),
                      fields.size(), header.names().size()));
    }
    const std::string_view value = Trim(fields[response_column]);
    if (IsMissing(value)) {
      response.AppendMissing();
    } else if (!response.Append(value)) {
      return absl::InvalidArgumentError(
          fmt::format("line {}, column '{}': '{}' is not a finite number; expected a decimal such as 0.8731, or an "
                      "empty field for a "
                      "missing value",
                      reader.line(), options.response, value));
    }
    for (FactorReader& factor : factors) factor.Append(Trim(fields[factor.column]));
    if (status_column != kNoColumn) {
      LOUPE_ASSIGN_OR_RETURN(const RowStatus status,
                             ParseStatus(Trim(fields[status_column]), reader.line(), options.status_column));
      table.status.push_back(status);
    }
    repeated.Add(reader.record(), reader.line());
  }
  if (response.size() == 0) return absl::InvalidArgumentError("the file has a header line but no data rows");
  response.FillResponse(table);
  for (FactorReader& factor : factors) {
    SortNumericLevels(factor.factor);
    table.factors.push_back(std::move(factor.factor));
  }
  repeated.Warn(table.warnings);
  return table;
}

}  // namespace loupe::analysis
