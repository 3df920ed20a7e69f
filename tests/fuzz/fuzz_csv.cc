// CSV tables: an error in a sentence, or a table whose law holds; the records survive being written with every field
// quoted.
#include <cmath>
#include <set>

#include "absl/status/status.h"
#include "analysis/stats/csv_reader.h"
#include "analysis/stats/csv_table.h"
#include "analysis/stats/decimal_column.h"
#include "analysis/stats/level_names.h"
#include "analysis/stats/trim.h"
#include "common/text.h"
#include "tests/fuzz/fuzz_target.h"

namespace loupe::fuzz {
namespace {

using Records = std::vector<std::vector<std::string>>;

absl::StatusOr<Records> ReadRecords(std::string_view text) {
  analysis::stats::CsvReader reader(text);
  Records records;
  std::vector<std::string_view> fields;
  while (true) {
    const absl::StatusOr<bool> more = reader.Next(fields);
    if (!more.ok()) return more.status();
    if (!*more) return records;
    Require(!fields.empty() && reader.line() >= 1, "a record has fields and a line");
    Require(reader.record().data() >= text.data() &&
                reader.record().data() + reader.record().size() <= text.data() + text.size(),
            "a record lies in the text");
    records.emplace_back(fields.begin(), fields.end());
  }
}

std::string WriteQuoted(const Records& records) {
  std::string text = "sep=,\n";
  for (const std::vector<std::string>& record : records) {
    for (size_t i = 0; i < record.size(); ++i) {
      text += i == 0 ? "\"" : ",\"";
      for (const char c : record[i]) text += c == '"' ? "\"\"" : std::string(1, c);
      text += '"';
    }
    text += '\n';
  }
  return text;
}

void CheckTable(const analysis::stats::DataTable& table) {
  for (size_t row = 0; row < table.rows(); ++row)
    Require(!std::isinf(table.Response(row)), "a response is finite or missing");
  Require(table.status.empty() || table.status.size() == table.rows(), "a status per row");
  for (const analysis::stats::Factor& factor : table.factors) {
    Require(factor.codes.size() == table.rows(), "a level per row");
    for (const int32_t code : factor.codes) {
      Require(code == analysis::stats::kMissingLevel || (code >= 0 && static_cast<size_t>(code) < factor.levels.size()),
              "a code is a level's");
    }
    std::set<std::string> numbers;
    for (size_t i = 0; i < factor.levels.size(); ++i) {
      const std::string number = analysis::stats::CanonicalDecimal(factor.levels[i]);
      Require(number.empty() || numbers.insert(number).second, "no number is two levels");
      Require(!factor.levels[i].empty() && FindNotUtf8(factor.levels[i]) == std::string::npos, "a level is UTF-8");
      Require(analysis::stats::FindLevel(factor.levels, factor.levels[i]) == i, "a level is found by its name");
    }
  }
}

}  // namespace

std::vector<std::string> Seeds() {
  return {"input,output,scale,y\nSA_in,SA_in,1,0.8731\nSA_in,CA_in,2.5,-1e-3\nCA_in,CA_in,1,NA\n",
          "\xEF\xBB\xBF# made by hand\r\na;y\r\n\"x; \"\"1\"\"\";1.5\r\n\"two\nlines\";2\r\n\r\n",
          "a\tb\ty\n4\tsilu\t1000000000000.4\n0.5\trelu\t1000000000000.3\n",
          "a,status,y\nx,complete,1\nz,failed,\nx,stopped early,3\n",
          "a,y\nx,123456789012345678901234567890.5\nz,1e-300\nz,1e300\n",
          "\"a\",\"y\"\nx,1\nx,1\n",
          "#a|y\r#ff0000|1\r.|2\r# note\r1e-4|3\r0.0001|4\r",
          "sep=;\na,b;y\n1;2,5\n",
          std::string("\xFF\xFE"
                      "a\0,\0y\0\n\0x\0,\0"
                      "1\0",
                      16),
          "a,y\ncaf\xe9,1\n"};
}

std::vector<std::string> Dictionary() {
  return {"\"",
          "\"\"",
          ",",
          ";",
          "\t",
          "\n",
          "\r\n",
          "#",
          "\xEF\xBB\xBF",
          "status",
          "complete",
          "cancelled",
          "pruned",
          "NA",
          "nan",
          "inf",
          "1e308",
          "1e309",
          "-1e-400",
          "1e99999999999",
          "e",
          ".",
          "+",
          "-0",
          "123456789012345678",
          "1234567890123456789",
          "\"\n",
          "|",
          "\r",
          "sep=",
          "\xFF\xFE",
          "\xFE\xFF",
          "\xe9",
          "é",
          "\xc2\xa0",
          "<NA>",
          "1e-4",
          "0.0001",
          "None"};
}

int DefaultRuns() { return 20000; }

}  // namespace loupe::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace loupe;        // NOLINT: one function
  using namespace loupe::fuzz;  // NOLINT
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<Records> records = ReadRecords(text);
  if (!records.ok()) {
    Require(absl::IsInvalidArgument(records.status()), "bad quotes are INVALID_ARGUMENT");
  } else {
    const absl::StatusOr<Records> again = ReadRecords(WriteQuoted(*records));
    Require(again.ok() && *again == *records, "records survive being written");
  }
  // The last column is the response, one called "status" the status, the others are factors.
  analysis::stats::CsvOptions options;
  if (records.ok() && !records->empty()) {
    for (const std::string& name : records->front()) {
      const std::string trimmed(analysis::stats::Trim(name));
      if (!options.response.empty()) options.factors.push_back(options.response);
      if (trimmed == "status") {
        options.status_column = trimmed;
        options.response.clear();
      } else {
        options.response = trimmed;
      }
    }
  }
  const auto table = analysis::stats::ReadCsvTable(text, options);
  if (table.ok()) {
    CheckTable(*table);
  } else {
    Require(absl::IsInvalidArgument(table.status()) && !table.status().message().empty(), "a refusal is a sentence");
  }
  return 0;
}
