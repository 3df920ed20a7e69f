#include <algorithm>
#include <map>
#include <optional>

#include "analysis/report/html_sections.h"
#include "analysis/report/number_format.h"
#include "analysis/report/picture_source.h"
#include "analysis/report/svg_figure.h"
#include "fmt/format.h"

namespace loupe::analysis::report {
namespace {

size_t FactorIndexOf(const SweepResults& results, const std::string& name) {
  return static_cast<size_t>(std::find_if(results.factors.begin(), results.factors.end(),
                                          [&](const SweepFactor& factor) { return factor.name == name; }) -
                             results.factors.begin());
}

std::optional<double> ScoreOf(const TrialRecord& trial, const std::string& score) {
  const auto found = trial.scores.find(score);
  if (trial.state != TrialState::kSucceeded || found == trial.scores.end()) return std::nullopt;
  return found->second;
}

// The trials of one grid: by (row level, column level), the one to show.
struct SampleGrid {
  std::string heading;
  std::map<std::pair<std::string, std::string>, const TrialRecord*> shown;
};

class GridWriter {
 public:
  GridWriter(const HtmlContext& context, PictureSource& pictures) : context_(context), pictures_(pictures) {
    const stats::TwoWayMeans& map = context.analysis().heat_map;
    row_ = FactorIndexOf(context.results, map.row_factor);
    column_ = FactorIndexOf(context.results, map.column_factor);
  }

  const std::string& LevelOf(const TrialRecord& trial, size_t factor) const {
    return LevelName(context_.results, trial, factor);
  }
  std::pair<std::string, std::string> PairOf(const TrialRecord& trial) const {
    return {LevelOf(trial, row_), LevelOf(trial, column_)};
  }
  // The levels besides the pair's: "relu · 2".
  std::string OtherLevels(const TrialRecord& trial) const {
    std::string out;
    for (size_t f = 0; f < context_.results.factors.size(); ++f) {
      if (f == row_ || f == column_ || trial.levels[f] == kNoSuchFactor) continue;
      out += fmt::format("{}{} {}", out.empty() ? "" : ", ", context_.results.factors[f].name, LevelOf(trial, f));
    }
    return out;
  }

  std::string Html(const SampleGrid& grid, bool name_other_levels) {
    const stats::TwoWayMeans& map = context_.analysis().heat_map;
    std::string out =
        fmt::format("<div class=\"wide\"><table class=\"sheets\">\n<thead><tr><th scope=\"col\">{} ↓ {} →</th>",
                    EscapeHtml(map.row_factor), EscapeHtml(map.column_factor));
    for (const std::string& level : map.column_levels)
      out += fmt::format("<th scope=\"col\">{}</th>", EscapeHtml(level));
    out += "</tr></thead>\n<tbody>\n";
    for (const std::string& row : map.row_levels) {
      out += fmt::format("<tr><th scope=\"row\">{}</th>", EscapeHtml(row));
      for (const std::string& column : map.column_levels) out += Cell(grid, row, column, name_other_levels);
      out += "</tr>\n";
    }
    return out + "</tbody></table></div>\n";
  }

 private:
  std::string Cell(const SampleGrid& grid, const std::string& row, const std::string& column, bool name_other_levels) {
    const stats::TwoWayMeans& map = context_.analysis().heat_map;
    const auto found = grid.shown.find({row, column});
    if (found == grid.shown.end()) {
      const bool planned = PlannedTrials(context_.results, map.row_factor, row, map.column_factor, column) > 0;
      return planned ? "<td class=\"soft\">no result</td>" : "<td class=\"illegal\"></td>";
    }
    const TrialRecord& trial = *found->second;
    std::string caption =
        fmt::format("{} {}", context_.Title(), FormatNumber(*ScoreOf(trial, context_.sweep.response)));
    if (name_other_levels) {
      const std::string others = OtherLevels(trial);
      if (!others.empty()) caption += "\n" + others;
    }
    caption += fmt::format("\ntrial {}", trial.index);
    std::string text = EscapeHtml(caption);
    for (size_t at = text.find('\n'); at != std::string::npos; at = text.find('\n', at)) text.replace(at, 1, "<br>");
    return fmt::format(
        "<td>{}{}</td>",
        pictures_.ImageTag(trial.index, fmt::format("samples of trial {}: {} to {}", trial.index, row, column)), text);
  }

  const HtmlContext& context_;
  PictureSource& pictures_;
  size_t row_ = 0, column_ = 0;
};

// One grid per combination of the other factors that has trials, in level order; each pair's first replicate.
std::vector<SampleGrid> GridsPerCombination(const HtmlContext& context, const GridWriter& writer) {
  std::map<std::vector<int32_t>, SampleGrid> grids;
  const stats::TwoWayMeans& map = context.analysis().heat_map;
  const size_t row = FactorIndexOf(context.results, map.row_factor),
               column = FactorIndexOf(context.results, map.column_factor);
  for (const TrialRecord& trial : context.results.trials) {
    if (!ScoreOf(trial, context.sweep.response)) continue;
    std::vector<int32_t> others;
    for (size_t f = 0; f < trial.levels.size(); ++f) {
      if (f != row && f != column) others.push_back(trial.levels[f]);
    }
    SampleGrid& grid = grids[others];
    grid.heading = writer.OtherLevels(trial);
    const TrialRecord*& shown = grid.shown[writer.PairOf(trial)];
    if (shown == nullptr || trial.replicate < shown->replicate) shown = &trial;
  }
  std::vector<SampleGrid> out;
  for (auto& [levels, grid] : grids) out.push_back(std::move(grid));
  return out;
}

}  // namespace

HtmlSection SamplesSection(const HtmlContext& context) {
  const FactorialAnalysis& analysis = context.analysis();
  HtmlSection section{"samples", "Sample sheets", ""};
  if (!context.results.load_sample_picture || !analysis.has_heat_map) return section;
  PictureSource pictures(context.results.load_sample_picture, context.options.max_picture_bytes);
  GridWriter writer(context, pictures);

  SampleGrid best;
  for (const TrialRecord& trial : context.results.trials) {
    const auto score = ScoreOf(trial, context.sweep.response);
    if (!score) continue;
    const TrialRecord*& shown = best.shown[writer.PairOf(trial)];
    const auto shown_score = shown == nullptr ? score : ScoreOf(*shown, context.sweep.response);
    if (shown == nullptr || (analysis.smaller_is_better ? *score < *shown_score : *score > *shown_score))
      shown = &trial;
  }
  if (best.shown.empty()) return section;
  section.body = fmt::format("<p>The trial with the best {} of each pair; hatched pairs are not in the design.</p>\n",
                             EscapeHtml(context.Title()));
  section.body += writer.Html(best, /*name_other_levels=*/true);
  const std::vector<SampleGrid> grids = GridsPerCombination(context, writer);
  if (grids.size() > 1) {
    section.body += "<h3>Every cell, its first replicate</h3>\n";
    for (const SampleGrid& grid : grids) {
      section.body += fmt::format("<details><summary>{}</summary>\n{}</details>\n", EscapeHtml(grid.heading),
                                  writer.Html(grid, /*name_other_levels=*/false));
    }
  }
  if (pictures.left_out() > 0) {
    section.body += Paragraph(fmt::format("{} pictures were left out to keep this page under {} MB of pictures.",
                                          pictures.left_out(), context.options.max_picture_bytes >> 20),
                              "soft");
  }
  return section;
}

}  // namespace loupe::analysis::report
