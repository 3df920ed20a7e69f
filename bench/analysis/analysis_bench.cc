// Times what stands behind `loupe anova`, GetAnova and a report on made-up designs whose cost lies in different places.
//
//   analysis_bench            all designs
//   analysis_bench NAME       one of them: replicates, blocks, levels, rows, two-way
//
// One line per design: rows, cells of the fit, seconds of the F table, of the whole analysis, of its text.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "analysis/report/anova_format.h"
#include "analysis/report/factorial_analysis.h"
#include "analysis/stats/anova.h"
#include "analysis/stats/random_stream.h"
#include "fmt/format.h"

namespace {

using loupe::analysis::stats::DataTable;

double SecondsOf(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

DataTable Table(const std::vector<int32_t>& levels, const std::vector<std::string>& names) {
  DataTable data;
  data.response_name = "y";
  for (size_t f = 0; f < levels.size(); ++f) {
    auto& factor = data.factors.emplace_back();
    factor.name = names[f];
    for (int32_t level = 0; level < levels[f]; ++level) factor.levels.push_back(fmt::format("l{}", level));
  }
  return data;
}

void AddRow(DataTable& data, const std::vector<int32_t>& codes, std::vector<double>& values,
            loupe::analysis::stats::RandomStream& random) {
  double y = 0.8;
  for (size_t f = 0; f < codes.size(); ++f) {
    data.factors[f].codes.push_back(codes[f]);
    y += 0.002 * static_cast<double>(f + 1) * codes[f];
  }
  values.push_back(y + 0.05 * random.Normal());
}

// a × b cells, each run in every replicate but for some that failed: the design of a sweep.
DataTable Sweep(int32_t a, int32_t b, int32_t replicates) {
  DataTable data = Table({a, b, replicates}, {"a", "b", "replicate"});
  loupe::analysis::stats::RandomStream random(1);
  std::vector<double> values;
  for (int32_t r = 0; r < replicates; ++r) {
    for (int32_t i = 0; i < a; ++i) {
      for (int32_t j = 0; j < b; ++j) {
        if (random.Below(100) > 0) AddRow(data, {i, j, r}, values, random);
      }
    }
  }
  SetResponse(data, values);
  return data;
}

// `even`: every level is as likely; else low ones come more often.
DataTable AtRandom(int64_t rows, const std::vector<int32_t>& levels, bool even) {
  DataTable data = Table(levels, {"a", "b", "c", "d", "e"});
  loupe::analysis::stats::RandomStream random(2);
  std::vector<double> values;
  std::vector<int32_t> codes(levels.size());
  for (int64_t row = 0; row < rows; ++row) {
    for (size_t f = 0; f < levels.size(); ++f) {
      const auto bound = static_cast<uint64_t>(levels[f]);
      codes[f] = static_cast<int32_t>(even ? random.Below(bound) : std::min(random.Below(bound), random.Below(bound)));
    }
    AddRow(data, codes, values, random);
  }
  SetResponse(data, values);
  return data;
}

void Run(const std::string& name, DataTable data, const std::string& formula, const std::string& block) {
  loupe::analysis::report::AnalysisOptions options;
  options.anova.formula = formula;
  options.anova.block = block;
  const size_t rows = data.rows();
  loupe::analysis::stats::AnovaTable table;
  const double fit = SecondsOf([&] { table = *FitAnova(data, options.anova); });
  loupe::analysis::report::FactorialAnalysis analysis;
  const double whole = SecondsOf([&] { analysis = *AnalyseFactorial(std::move(data), options); });
  std::string text;
  const double format = SecondsOf([&] { text = FormatAnovaText(analysis); });
  fmt::print("{:<12} {:>8} rows, {:>7} cells: F table {:.2f} s, whole analysis {:.2f} s, text {:.2f} s\n", name, rows,
             table.cells_observed, fit, whole, format);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string only = argc > 1 ? argv[1] : "";
  const auto wanted = [&](const char* name) { return only.empty() || only == name; };
  if (wanted("replicates")) Run("replicates", Sweep(10, 10, 1010), "", "replicate");
  if (wanted("blocks")) Run("blocks", Sweep(4, 8, 600), "a*b", "replicate");
  if (wanted("levels")) Run("levels", AtRandom(200000, {30, 30, 30, 30}, true), "a*b + c + d", "");
  if (wanted("rows")) Run("rows", AtRandom(1000000, {4, 4, 4, 4, 4}, false), "", "");
  if (wanted("two-way")) Run("two-way", AtRandom(1000000, {8, 8, 8, 8, 8}, false), "(a+b+c+d+e)^2", "");
}
