#include "analysis/report/html_sections.h"
#include "analysis/report/html_style.h"
#include "analysis/report/report.h"
#include "analysis/report/svg_figure.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::report {

absl::StatusOr<std::string> RenderHtml(const SweepResults& results, const ReportOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(const SweepAnalysis sweep, AnalyseSweep(results, options));
  const HtmlContext context{results, options, sweep};
  const std::string name = results.display_name.empty() ? results.sweep_id : results.display_name;
  const std::vector<HtmlSection> sections = {
      FTableSection(context),      MethodComparisonSection(context), HeatMapSection(context),
      MainEffectsSection(context), InteractionsSection(context),     ComparisonsSection(context),
      CellsSection(context),       BaselineSection(context),         LevelRankingsSection(context),
      AgreementSection(context),   SamplesSection(context),          CurvesSection(context),
      DiagnosticsSection(context), MissingSection(context),          MethodsSection(context),
      ProvenanceSection(context)};

  std::string page = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{} · "
      "Loupe</title>\n<style>{}</style>\n"
      "</head>\n<body>\n<main>\n<h1>{}</h1>\n<p class=\"lead\">{} · {} · response: {}</p>\n",
      EscapeHtml(name), kReportStyle, EscapeHtml(name), EscapeHtml(results.sweep_id), EscapeHtml(results.state),
      EscapeHtml(context.Title()));
  page += SummaryTiles(context);
  page += "<nav>\n";
  for (const HtmlSection& section : sections) {
    if (!section.body.empty()) page += fmt::format("<a href=\"#{}\">{}</a>\n", section.id, EscapeHtml(section.heading));
  }
  page += "</nav>\n";
  for (const HtmlSection& section : sections) {
    if (section.body.empty()) continue;
    page += fmt::format("<section id=\"{}\">\n<h2>{}</h2>\n{}</section>\n", section.id, EscapeHtml(section.heading),
                        section.body);
  }
  page += fmt::format(
      "<footer>Made by Loupe from a snapshot of the results; data and analysis: sha256 <code>{}</code></footer>\n",
      sweep.hash);
  return page + "</main>\n</body>\n</html>\n";
}

}  // namespace loupe::analysis::report
