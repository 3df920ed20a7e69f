#include <algorithm>
#include <cmath>

#include "analysis/report/anova_format.h"
#include "analysis/report/number_format.h"
#include "analysis/report/text_table.h"
#include "fmt/format.h"

namespace loupe::analysis {
namespace {

constexpr size_t kCellsShown = 10;

std::string FTable(const FactorialAnalysis& analysis) {
  TextTable table({"term", "df", "sum sq", "mean sq", "F", "p", "", "part. η²"});
  for (const AnovaTerm& term : analysis.anova.terms) {
    table.Add({term.is_block ? term.term + " (block)" : term.term, FormatCount(term.df), FormatNumber(term.sum_sq),
               FormatNumber(term.mean_sq), FormatNumber(term.f), FormatP(term.p),
               std::string(SignificanceStars(term.p)), FormatNumber(term.effect.partial_eta_sq, 3)});
  }
  const AnovaResidual& residual = analysis.anova.residual;
  table.Add({"residual", FormatCount(residual.df), FormatNumber(residual.sum_sq), FormatNumber(residual.mean_sq), "",
             "", "", ""});
  return table.Text();
}

std::string OneWayTable(const FactorialAnalysis& analysis) {
  TextTable table({"factor", "df", "between", "within df", "within", "F", "p", ""});
  for (const OneWayResult& row : analysis.one_way) {
    table.Add({row.factor, FormatCount(row.between_df), FormatNumber(row.between_mean_sq), FormatCount(row.within_df),
               FormatNumber(row.within_mean_sq), FormatNumber(row.f), FormatP(row.p),
               std::string(SignificanceStars(row.p))});
  }
  return table.Text();
}

std::string MeansTable(const FactorialAnalysis& analysis) {
  TextTable table({"factor", "level", "n", "mean", "sd", fmt::format("{:g} % interval", 100 * analysis.confidence)},
                  /*left_columns=*/2);
  for (const FactorMeans& factor : analysis.means) {
    bool first = true;
    for (const LevelMean& level : factor.levels) {
      table.Add({first ? factor.factor : "", level.level, fmt::format("{}", level.n), FormatNumber(level.mean),
                 FormatNumber(level.sd, 3), FormatInterval(level.low, level.high)});
      first = false;
    }
  }
  return table.Text();
}

std::string CellsTable(const FactorialAnalysis& analysis) {
  std::vector<std::string> header = {"#"};
  header.insert(header.end(), analysis.cell_factors.begin(), analysis.cell_factors.end());
  header.insert(header.end(), {"n", "mean", "sd"});
  TextTable table(header, 1 + analysis.cell_factors.size());
  for (size_t i = 0; i < std::min(kCellsShown, analysis.cells.size()); ++i) {
    std::vector<std::string> row = {fmt::format("{}", i + 1)};
    row.insert(row.end(), analysis.cells[i].levels.begin(), analysis.cells[i].levels.end());
    const LevelMean& mean = analysis.cells[i].mean;
    row.insert(row.end(), {fmt::format("{}", mean.n), FormatNumber(mean.mean), FormatNumber(mean.sd, 3)});
    table.Add(row);
  }
  return table.Text();
}

}  // namespace

std::string FormatAnovaText(const FactorialAnalysis& analysis) {
  std::string text;
  if (analysis.problem.empty()) {
    text += fmt::format("Analysis of variance of {}, Type {} sums of squares: {}\n", analysis.response,
                        SumOfSquaresName(analysis.anova.ss_type), analysis.anova.formula);
    text += analysis.anova.sample.Sentence() + "\n\n" + FTable(analysis);
    text += "*** p < 0.001   ** p < 0.01   * p < 0.05\n";
  } else {
    text += fmt::format("No F table yet: {}\n", analysis.problem);
  }
  if (!analysis.one_way.empty()) {
    text += "\nEach factor by itself (one-way F = between / within mean square)\n\n" + OneWayTable(analysis);
  }
  if (!analysis.means.empty())
    text += fmt::format("\nMeans of {} per level\n\n", analysis.response) + MeansTable(analysis);
  if (!analysis.cells.empty()) {
    text += fmt::format("\nBest cells ({} is better), {} of {}\n\n", analysis.smaller_is_better ? "less" : "more",
                        std::min(kCellsShown, analysis.cells.size()), analysis.cells.size()) +
            CellsTable(analysis);
  }
  if (analysis.details != nullptr) {
    const CellRanking& ranking = analysis.details->ranking;
    if (ranking.reason.empty()) {
      text += WrapText(
          fmt::format("{} of {} cells cannot be told from the best at {:g} % confidence (Hsu's comparisons with "
                      "the best, {}).",
                      ranking.may_be_best, ranking.cells.size(), 100 * analysis.confidence,
                      ranking.from_replicates ? "error from replicates" : "predictions of the model"),
          98, "", "");
    }
    if (!analysis.details->assumptions.sentences.empty()) {
      text += "\nAssumptions\n";
      for (const std::string& sentence : analysis.details->assumptions.sentences)
        text += WrapText(sentence, 98, "- ", "  ");
    }
  }
  if (!analysis.notes.empty()) {
    text += "\nNotes\n";
    for (const std::string& note : analysis.notes) text += WrapText(note, 98, "- ", "  ");
  }
  return text;
}

}  // namespace loupe::analysis
