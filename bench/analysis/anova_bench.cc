// Times FitAnova on made-up observations of five factors with all two-way interactions, and the reading of the same as
// CSV.
//
//   anova_bench [ROWS] [LEVELS] [CSV-FILE]      defaults: 1000000 rows, 4 levels, no file
//
// Prints one JSON object; CSV-FILE also gets the data, for bench/analysis/beside_statsmodels.py.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include "analysis/stats/anova.h"
#include "analysis/stats/csv_table.h"
#include "analysis/stats/random_stream.h"
#include "fmt/format.h"

namespace {

using loupe::analysis::stats::AnovaTable;
using loupe::analysis::stats::DataTable;

constexpr int kFactors = 5;

double SecondsOf(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Unbalanced: low levels come up more often than high ones.
DataTable MakeData(int64_t rows, int levels, std::vector<double>& values) {
  DataTable data;
  data.response_name = "y";
  for (int f = 0; f < kFactors; ++f) {
    auto& factor = data.factors.emplace_back();
    factor.name = std::string(1, static_cast<char>('a' + f));
    for (int level = 0; level < levels; ++level) factor.levels.push_back(fmt::format("l{}", level));
    factor.codes.reserve(static_cast<size_t>(rows));
  }
  loupe::analysis::stats::RandomStream random(20230331);
  for (int64_t row = 0; row < rows; ++row) {
    double y = 0.8;
    int32_t before = 0;
    for (int f = 0; f < kFactors; ++f) {
      const auto bound = static_cast<uint64_t>(levels);
      const auto level = static_cast<int32_t>(std::min(random.Below(bound), random.Below(bound)));
      data.factors[static_cast<size_t>(f)].codes.push_back(level);
      y += 0.002 * f * level + 0.001 * level * before;
      before = level;
    }
    values.push_back(std::round((y + 0.05 * random.Normal()) * 1e6) / 1e6);
  }
  loupe::analysis::stats::SetResponse(data, values);
  return data;
}

std::string AsCsv(const DataTable& data, const std::vector<double>& values) {
  std::string csv = "a,b,c,d,e,y\n";
  for (size_t row = 0; row < values.size(); ++row) {
    for (const auto& factor : data.factors) csv += factor.levels[static_cast<size_t>(factor.codes[row])] + ",";
    fmt::format_to(std::back_inserter(csv), "{:.6f}\n", values[row]);
  }
  return csv;
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t rows = argc > 1 ? std::stoll(argv[1]) : 1000000;
  const int levels = argc > 2 ? std::stoi(argv[2]) : 4;
  std::vector<double> values;
  const DataTable data = MakeData(rows, levels, values);
  const loupe::analysis::stats::AnovaOptions options{.formula = "(a+b+c+d+e)^2"};

  AnovaTable table;
  double best = 1e9;
  for (int repeat = 0; repeat < 3; ++repeat) {
    best = std::min(best, SecondsOf([&] {
                      auto fitted = FitAnova(data, options);
                      if (!fitted.ok()) {
                        fmt::print(stderr, "{}\n", std::string(fitted.status().message()));
                        std::exit(1);
                      }
                      table = *std::move(fitted);
                    }));
  }
  const std::string csv = AsCsv(data, values);
  if (argc > 3) std::ofstream(argv[3]) << csv;
  double read_seconds = SecondsOf([&] {
    auto read = loupe::analysis::stats::ReadCsvTable(
        csv, {.response = "y", .factors = {"a", "b", "c", "d", "e"}, .block = "", .status_column = ""});
    if (!read.ok() || read->rows() != values.size()) std::exit(1);
  });

  fmt::print(
      "{{\"rows\": {}, \"levels\": {}, \"cells\": {}, \"fit_seconds\": {:.4f}, \"csv_seconds\": {:.4f}, \"csv_mb\": {:.1f}, "
      "\"residual_df\": {:.0f}, \"terms\": [",
      rows, levels, table.cells_observed, best, read_seconds, static_cast<double>(csv.size()) / 1e6, table.residual.df);
  for (size_t t = 0; t < table.terms.size(); ++t) {
    fmt::print("{}{{\"term\": \"{}\", \"df\": {:.0f}, \"sum_sq\": {:.17g}, \"f\": {:.17g}}}", t == 0 ? "" : ", ",
               table.terms[t].term, table.terms[t].df, static_cast<double>(table.terms[t].sum_sq), table.terms[t].f);
  }
  fmt::print("]}}\n");
}
