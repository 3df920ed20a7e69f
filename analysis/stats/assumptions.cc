#include "analysis/stats/assumptions.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "analysis/stats/linear_model.h"
#include "analysis/stats/nan.h"
#include "analysis/stats/residuals.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::stats {
namespace {

constexpr double kAlpha = 0.05;
constexpr size_t kShapiroWilkLimit = 5000;
constexpr size_t kBoxCoxLimit = 100000;  // the model is fitted some sixty times

std::string PText(double p) { return p < 0.0001 ? std::string("p < 0.0001") : fmt::format("p = {:.4f}", p); }

void CheckNormality(const std::vector<ResidualRow>& rows, AssumptionReport& report) {
  std::vector<double> residuals;
  for (const ResidualRow& row : rows) {
    if (!std::isnan(row.studentized)) residuals.push_back(row.studentized);
  }
  const bool small = residuals.size() <= kShapiroWilkLimit;
  report.normality_name = small ? "Shapiro–Wilk" : "Anderson–Darling";
  report.normality = small ? ShapiroWilk(residuals) : AndersonDarling(residuals);
  if (std::isnan(report.normality.p)) {
    report.sentences.push_back("Normality of the residuals could not be tested: too few of them are free to vary.");
  } else if (report.normality.p < kAlpha) {
    report.sentences.push_back(fmt::format(
        "The residuals do not look normal ({}, {}): with many replicates F is little moved by this; with few, look at the "
        "quantile plot, the permutation F or Kruskal–Wallis.",
        report.normality_name, PText(report.normality.p)));
  } else {
    report.sentences.push_back(fmt::format("The residuals are compatible with a normal distribution ({}, {}).",
                                           report.normality_name, PText(report.normality.p)));
  }
}

// Groups of residuals by the finest combination of factors that is replicated: cells without the block, else the factor
// with the most levels.
void CheckSpread(const LinearModel& model, const std::vector<ResidualRow>& rows, AssumptionReport& report) {
  const CellTable& cells = model.cells();
  const size_t block = model.has_block() ? model.matrix().terms().front()[0] : model.data().factors.size();
  std::vector<size_t> positions;
  for (size_t i = 0; i < cells.factors.size(); ++i) {
    if (cells.factors[i] != block) positions.push_back(i);
  }
  while (!positions.empty()) {
    std::map<std::vector<int32_t>, size_t> number;
    std::vector<size_t> group_of_cell(cells.cells());
    for (size_t cell = 0; cell < cells.cells(); ++cell) {
      std::vector<int32_t> key;
      for (const size_t position : positions) key.push_back(cells.codes[position][cell]);
      group_of_cell[cell] = number.try_emplace(std::move(key), number.size()).first->second;
    }
    Groups groups(number.size());
    for (const ResidualRow& row : rows) {
      groups[group_of_cell[static_cast<size_t>(model.cell_of_row()[row.row])]].push_back(row.residual);
    }
    Groups replicated;
    for (std::vector<double>& values : groups) {
      if (values.size() >= 3) replicated.push_back(std::move(values));  // |y − median| of two values is the same twice
    }
    if (replicated.size() >= 2 && replicated.size() * 2 >= groups.size()) {
      const auto test = BrownForsythe(replicated);
      if (test.ok() && !std::isnan(test->p)) {
        std::vector<std::string> names;
        for (const size_t position : positions) names.push_back(model.data().factors[cells.factors[position]].name);
        report.equal_spread = *test;
        report.equal_spread_by = fmt::format("{}", fmt::join(names, " × "));
        break;
      }
    }
    positions.pop_back();
  }
  if (!report.equal_spread) {
    report.sentences.push_back("Equal spread could not be tested: cells have fewer than three replicates.");
  } else if (report.equal_spread->p < kAlpha) {
    report.sentences.push_back(fmt::format(
        "The spread differs between levels of {} (Brown–Forsythe, {}): prefer Welch's test for single factors, or transform "
        "the response.",
        report.equal_spread_by, PText(report.equal_spread->p)));
  } else {
    report.sentences.push_back(fmt::format("The spread is compatible with being equal over {} (Brown–Forsythe, {}).",
                                           report.equal_spread_by, PText(report.equal_spread->p)));
  }
}

void CheckInfluence(const LinearModel& model, const std::vector<ResidualRow>& rows, AssumptionReport& report) {
  report.cooks_threshold = 4.0 / static_cast<double>(rows.size());
  std::map<int32_t, InfluentialCell> found;
  for (const ResidualRow& row : rows) {
    if (!(row.cooks_distance > report.cooks_threshold)) continue;
    const int32_t cell = model.cell_of_row()[row.row];
    InfluentialCell& entry = found[cell];
    entry.largest_cooks_distance = std::max(entry.largest_cooks_distance, row.cooks_distance);
    ++entry.rows_above;
  }
  const CellTable& cells = model.cells();
  for (auto& [cell, entry] : found) {
    for (size_t i = 0; i < cells.factors.size(); ++i) {
      const auto code = static_cast<size_t>(cells.codes[i][static_cast<size_t>(cell)]);
      entry.levels.push_back(
          model.data().factors[cells.factors[i]].levels[static_cast<size_t>(cells.used_levels[i][code])]);
    }
    report.influential.push_back(std::move(entry));
  }
  std::stable_sort(report.influential.begin(), report.influential.end(),
                   [](const auto& a, const auto& b) { return a.largest_cooks_distance > b.largest_cooks_distance; });
  if (report.influential.empty()) {
    report.sentences.push_back("No single trial moves the fit much (Cook's distance below 4/n everywhere).");
    return;
  }
  const InfluentialCell& top = report.influential.front();
  report.sentences.push_back(fmt::format(
      "{} cell{} trials with a Cook's distance above 4/n = {:.3f}; the largest, {:.3f}, is in {}: look at its samples before "
      "trusting a result that rests on it.",
      report.influential.size(), report.influential.size() == 1 ? " has" : "s have", report.cooks_threshold,
      top.largest_cooks_distance, fmt::join(top.levels, " / ")));
}

}  // namespace

absl::StatusOr<AssumptionReport> CheckAssumptions(const DataTable& data, const AnovaOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(const auto model, LinearModel::Fit(data, options));
  const std::vector<ResidualRow> rows = ComputeResiduals(*model);
  AssumptionReport report;
  if (model->reproduces_response()) {
    report.normality_name = "Shapiro–Wilk";
    report.normality = {kNaN, kNaN};
    report.cooks_threshold = 4.0 / static_cast<double>(rows.size());
    report.sentences.push_back(
        "The model reproduces every response exactly: there are no errors whose normality, spread or "
        "influence could be looked at.");
    return report;
  }
  CheckNormality(rows, report);
  CheckSpread(*model, rows, report);
  CheckInfluence(*model, rows, report);
  if (rows.size() > kBoxCoxLimit) {
    report.sentences.push_back(
        "No power transformation was looked for: with this many rows it takes long; try a sample.");
    return report;
  }
  const auto box_cox = BoxCox(data, options);
  if (box_cox.ok()) {
    report.box_cox = *box_cox;
    report.sentences.push_back(box_cox->hint);
  } else {
    const auto why = box_cox.status().message();
    report.sentences.push_back(
        fmt::format("No power transformation was looked for: {}.", std::string_view(why.data(), why.size())));
  }
  return report;
}

}  // namespace loupe::analysis::stats
