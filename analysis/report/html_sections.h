// The parts of the HTML report, top to bottom. Each gives a whole <section>, or nothing when it has nothing to show.
#pragma once

#include <string>
#include <vector>

#include "analysis/report/report.h"
#include "analysis/report/sweep_analysis.h"
#include "analysis/report/sweep_results.h"

namespace loupe::analysis::report {

struct HtmlContext {
  const SweepResults& results;
  const ReportOptions& options;
  const SweepAnalysis& sweep;

  const FactorialAnalysis& analysis() const { return sweep.analysis; }
  std::string Title() const { return ScoreTitle(sweep.response); }
};

struct HtmlSection {
  std::string id;       // anchor
  std::string heading;  // in the page's list of contents
  std::string body;     // empty: leave the section out
};

std::string SummaryTiles(const HtmlContext& context);             // html_tables.cc
HtmlSection FTableSection(const HtmlContext& context);            // html_tables.cc
std::string BestCellsTable(const HtmlContext& context);           // html_tables.cc
HtmlSection CellsSection(const HtmlContext& context);             // html_details.cc
HtmlSection AgreementSection(const HtmlContext& context);         // html_agreement.cc
HtmlSection LevelRankingsSection(const HtmlContext& context);     // html_level_rankings.cc
HtmlSection BaselineSection(const HtmlContext& context);          // html_agreement.cc
HtmlSection ComparisonsSection(const HtmlContext& context);       // html_details.cc
HtmlSection DiagnosticsSection(const HtmlContext& context);       // html_details.cc
HtmlSection MissingSection(const HtmlContext& context);           // html_tables.cc
HtmlSection MethodComparisonSection(const HtmlContext& context);  // html_method_comparison.cc
HtmlSection HeatMapSection(const HtmlContext& context);           // html_heat_map.cc
HtmlSection MainEffectsSection(const HtmlContext& context);       // html_effects.cc
HtmlSection InteractionsSection(const HtmlContext& context);      // html_effects.cc
HtmlSection SamplesSection(const HtmlContext& context);           // html_samples.cc
HtmlSection CurvesSection(const HtmlContext& context);            // html_curves.cc
std::string MethodCurvesFigure(const HtmlContext& context);       // html_method_curves.cc
HtmlSection MethodsSection(const HtmlContext& context);           // html_methods.cc
HtmlSection ProvenanceSection(const HtmlContext& context);        // html_methods.cc

// What the sweep planned for a pair of levels: nothing (an illegal or left-out combination), or how many trials.
int64_t PlannedTrials(const SweepResults& results, const std::string& row_factor, const std::string& row_level,
                      const std::string& column_factor, const std::string& column_level);

// The head of a table up to "<tbody>", and a row of it; the texts are escaped.
std::string TableHead(const std::vector<std::string>& titles);
std::string TableRow(const std::string& name, const std::vector<std::string>& cells);

// "<p>…</p>" with the text escaped.
std::string Paragraph(std::string_view text, std::string_view cls = "");

}  // namespace loupe::analysis::report
