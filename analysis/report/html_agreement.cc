// Agreement with another sweep's ranking, and contrasts with the cell that the reader named.
#include <algorithm>
#include <cmath>

#include "analysis/report/fold_cells.h"
#include "analysis/report/html_sections.h"
#include "analysis/report/number_format.h"
#include "analysis/report/ranking_agreement.h"
#include "analysis/report/svg_figure.h"
#include "fmt/format.h"

namespace loupe::analysis::report {
namespace {

constexpr size_t kContrastsShown = 20;
constexpr size_t kContrastsKept = 400;  // in the part that folds out
constexpr double kPlotSide = 300;

std::string RankPlot(const RankingAgreement& agreement) {
  const double left = 58, top = 34, bottom = top + kPlotSide, last = static_cast<double>(agreement.cells.size());
  const LinearScale x{0.5, last + 0.5, left, left + kPlotSide}, y{0.5, last + 0.5, top, bottom};
  SvgFigure figure(left + kPlotSide + 20, bottom + 44, "Rank of each cell in both sweeps", "agreement");
  figure.Text(left, 16, "h", "Rank of each cell: here and there");
  const Ticks ticks = RoundTicks(1, last, 5);
  for (const double value : ticks.values) {
    figure.Line(left, y.At(value), left + kPlotSide, y.At(value), "grid");
    figure.Text(left - 6, y.At(value) + 4, "e q", ticks.Label(value));
    figure.Line(x.At(value), bottom, x.At(value), bottom + 4, "axis");
    figure.Text(x.At(value), bottom + 17, "m q", ticks.Label(value));
  }
  figure.Line(x.At(1), y.At(1), x.At(last), y.At(last), "ref");
  for (const CellAgreement& cell : agreement.cells) {
    figure.Dot(x.At(cell.rank), y.At(cell.other_rank), "dot",
               fmt::format("{}: {:g} here, {:g} there", CellName(cell.levels), cell.rank, cell.other_rank));
  }
  figure.Text(left + kPlotSide / 2, bottom + 35, "m q", "rank here (1 is best)");
  figure.RotatedText(14, top + kPlotSide / 2, -90, "m q", "rank there");
  return figure.Html();
}

std::string ContrastRow(const stats::Comparison& contrast, bool dunnett) {
  std::string row = fmt::format("<tr><th scope=\"row\">{}</th>", EscapeHtml(contrast.first));
  for (const std::string& text : {FormatNumber(contrast.difference, 3), FormatInterval(contrast.low, contrast.high, 3),
                                  FormatP(dunnett ? contrast.p_dunnett : contrast.p_holm)}) {
    row += fmt::format("<td>{}</td>", EscapeHtml(text));
  }
  return row + "</tr>\n";
}

}  // namespace

HtmlSection AgreementSection(const HtmlContext& context) {
  HtmlSection section{"agreement", "Agreement with another sweep", ""};
  if (!context.sweep.agreement) return section;
  const RankingAgreement& agreement = *context.sweep.agreement;
  section.body = Paragraph(AgreementSentence(agreement));
  if (agreement.cells.size() < 3) return section;
  section.body += fmt::format(
      "<figure>{}<figcaption>Cells on the dashed line have the same rank in both sweeps. Upper left: good in "
      "both.</figcaption></figure>\n",
      RankPlot(agreement));
  return section;
}

HtmlSection BaselineSection(const HtmlContext& context) {
  HtmlSection section{"baseline", "Against the baseline cell", ""};
  if (context.analysis().details == nullptr) return section;
  const ModelDetails& details = *context.analysis().details;
  if (!details.baseline_reason.empty()) section.body = Paragraph(details.baseline_reason, "soft");
  if (!details.has_baseline || details.baseline.contrasts.empty()) return section;
  const BaselineContrasts& baseline = details.baseline;
  const bool dunnett = !std::isnan(baseline.contrasts.front().p_dunnett);
  section.body += Paragraph(fmt::format(
      "Each cell less {} (mean {}), {}; {:g} % intervals and p values hold for all of them together ({}).",
      CellName(baseline.levels), FormatNumber(baseline.mean),
      baseline.from_replicates ? "with the error among replicates of a cell" : "as the fitted model predicts them",
      100 * context.analysis().confidence, dunnett ? "Dunnett" : "Bonferroni intervals, Holm's p"));
  const std::string head = fmt::format(
      "<thead><tr><th scope=\"col\">cell</th><th scope=\"col\">difference</th><th scope=\"col\">interval</th>"
      "<th scope=\"col\">p ({})</th></tr></thead>\n<tbody>\n",
      dunnett ? "Dunnett" : "Holm");
  section.body += "<div class=\"wide\"><table id=\"baseline-contrasts\">" + head;
  const size_t shown = std::min(kContrastsShown, baseline.contrasts.size());
  const size_t kept = std::min(kContrastsKept, baseline.contrasts.size());
  for (size_t i = 0; i < shown; ++i) section.body += ContrastRow(baseline.contrasts[i], dunnett);
  section.body += "</tbody></table></div>\n";
  if (kept == shown) return section;
  section.body +=
      fmt::format("<details><summary>The other {} cells</summary>\n<div class=\"wide\"><table>{}", kept - shown, head);
  for (size_t i = shown; i < kept; ++i) section.body += ContrastRow(baseline.contrasts[i], dunnett);
  section.body += "</tbody></table></div></details>\n";
  return section;
}

}  // namespace loupe::analysis::report
