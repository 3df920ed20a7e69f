#include "analysis/stats/csv_table.h"

#include <algorithm>
#include <cctype>
#include <functional>
#include <limits>
#include <set>
#include <unordered_map>

#include "analysis/stats/csv_encoding.h"
#include "analysis/stats/csv_reader.h"
#include "analysis/stats/decimal_column.h"
#include "analysis/stats/level_names.h"
#include "analysis/stats/name_suggestion.h"
#include "analysis/stats/quoted_name.h"
#include "analysis/stats/trim.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

constexpr size_t kNoColumn = static_cast<size_t>(-1);

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
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
      return absl::InvalidArgumentError(
          fmt::format("no column '{}' for {}{}{}", name, role, SuggestName(name, names_), QuotingHint(name)));
    }
    return found;
  }

  size_t CountOf(const std::vector<std::string>& wanted) const {
    return static_cast<size_t>(std::count_if(wanted.begin(), wanted.end(), [&](const std::string& name) {
      return std::find(names_.begin(), names_.end(), name) != names_.end();
    }));
  }

  // A header that is written as a comment ("#lr,act,y").
  void DropHash() { names_.front() = std::string(Trim(std::string_view(names_.front()).substr(1))); }

  const std::vector<std::string>& names() const { return names_; }

 private:
  // "; a name with a comma is written in back-quotes: `a,b`" where `name` is a piece of one that is there.
  std::string QuotingHint(std::string_view name) const {
    for (const std::string& known : names_) {
      if (known.find(',') != std::string::npos && known.find(name) != std::string::npos) {
        return fmt::format("; a name with a comma goes in back-quotes: {}", QuoteName(known));
      }
    }
    return "";
  }

  std::vector<std::string> names_;
};

struct HeadedTable {
  Header header;
  CsvReader rows;  // behind the header
};

// Reads on to the header with one separator. Lines that begin with '#' before it are comments, unless all wanted
// columns stand there.
absl::StatusOr<HeadedTable> ReadHeader(std::string_view text, char separator, const std::vector<std::string>& wanted) {
  CsvReader reader(text, separator);
  std::vector<std::string_view> fields;
  while (true) {
    LOUPE_ASSIGN_OR_RETURN(const bool more, reader.Next(fields));
    if (!more) return absl::InvalidArgumentError("the file is empty; expected a header line with column names");
    if (fields.size() == 1 && Trim(fields[0]).empty()) continue;
    Header header(fields);
    if (!reader.record().starts_with('#') || header.CountOf(wanted) == wanted.size())
      return HeadedTable{std::move(header), std::move(reader)};
    header.DropHash();
    if (header.CountOf(wanted) == wanted.size()) return HeadedTable{std::move(header), std::move(reader)};
  }
}

// The separator with which the header names most wanted columns, and among those the one with most fields.
absl::StatusOr<HeadedTable> FindHeader(std::string_view text, const std::vector<std::string>& wanted) {
  absl::StatusOr<HeadedTable> best = ReadHeader(text, '\0', wanted);
  for (const char separator : CsvReader::kSeparators) {
    absl::StatusOr<HeadedTable> other = ReadHeader(text, separator, wanted);
    if (other.ok() && (!best.ok() || other->header.CountOf(wanted) > best->header.CountOf(wanted)))
      best = std::move(other);
  }
  return best;
}

// One categorical column while it is read: every distinct text is a level of its own until TidyLevels.
class FactorReader {
 public:
  size_t column = 0;
  Factor factor;

  void Append(std::string_view text) { factor.codes.push_back(CodeOf(text)); }

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

// Lines among the data that look like comments.
class SkippedComments {
 public:
  void Add(int64_t line) {
    if (count_++ == 0) first_ = line;
  }

  void Warn(std::vector<std::string>& warnings) const {
    if (count_ == 0) return;
    warnings.push_back(fmt::format(
        "{} line{} that begin{} with '#' and {} a single field (the first is line {}) {} left out as comment{}.",
        count_, count_ == 1 ? "" : "s", count_ == 1 ? "s" : "", count_ == 1 ? "has" : "have", first_,
        count_ == 1 ? "was" : "were", count_ == 1 ? "" : "s"));
  }

 private:
  int64_t count_ = 0;
  int64_t first_ = 0;
};

// The refusal of a response's field, with the spellings that are met most.
absl::Status NotANumber(std::string_view text, int64_t line, std::string_view column) {
  std::string why = "expected a decimal such as 0.8731, or an empty field for a missing value";
  std::string with_point(text);
  std::replace(with_point.begin(), with_point.end(), ',', '.');
  if (with_point != text && !CanonicalDecimal(with_point).empty())
    why = fmt::format("write a decimal point: {}", with_point);
  return absl::InvalidArgumentError(
      fmt::format("line {}, column '{}': '{}' is not a finite number; {}", line, column, text, why));
}

}  // namespace

absl::StatusOr<DataTable> ReadCsvTable(std::string_view bytes, const CsvOptions& options) {
  std::string storage;
  LOUPE_ASSIGN_OR_RETURN(const std::string_view text, DecodeCsv(bytes, options.encoding, storage));
  std::vector<std::string> factor_names = options.factors;
  if (!options.block.empty()) factor_names.push_back(options.block);
  std::vector<std::string> wanted = factor_names;
  wanted.push_back(options.response);
  if (!options.status_column.empty()) wanted.push_back(options.status_column);
  LOUPE_ASSIGN_OR_RETURN(HeadedTable headed, FindHeader(text, wanted));
  const Header& header = headed.header;
  CsvReader& reader = headed.rows;

  LOUPE_ASSIGN_OR_RETURN(const size_t response_column, header.Find(options.response, "the response"));
  std::vector<FactorReader> factors;
  std::set<std::string> taken{options.response};
  for (const std::string& name : factor_names) {
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
  SkippedComments comments;
  std::vector<std::string_view> fields;
  while (true) {
    LOUPE_ASSIGN_OR_RETURN(const bool more, reader.Next(fields));
    if (!more) break;
    if (fields.size() != header.names().size()) {
      if (fields.size() == 1 && Trim(fields[0]).empty()) continue;
      if (fields.size() == 1 && reader.record().starts_with('#')) {
        comments.Add(reader.line());
        continue;
      }
      return absl::InvalidArgumentError(
          fmt::format("line {}: {} fields where the header has {}; check quotes and separators", reader.line(),
                      fields.size(), header.names().size()));
    }
    const std::string_view value = Trim(fields[response_column]);
    if (!response.Append(value)) {
      if (!IsMissingMarker(value, true)) return NotANumber(value, reader.line(), options.response);
      response.AppendMissing();
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
    TidyLevels(factor.factor, table.warnings);
    table.factors.push_back(std::move(factor.factor));
  }
  comments.Warn(table.warnings);
  repeated.Warn(table.warnings);
  return table;
}

}  // namespace loupe::analysis::stats
