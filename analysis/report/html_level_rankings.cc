// Whether the levels of a factor put the cells in the same order: the cells' means side by side, and ρ of each pair.
#include <algorithm>

#include "analysis/report/fold_cells.h"
#include "analysis/report/html_sections.h"
#include "analysis/report/level_rankings.h"
#include "analysis/report/number_format.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::report {
namespace {

constexpr size_t kRankedShown = 60;

std::string Table(const std::string& id, const std::string& head, const std::string& rows) {
  return fmt::format("<div class=\"wide\"><table id=\"{}\">{}{}</tbody></table></div>\n", id, head, rows);
}

std::vector<std::string> Joined(std::vector<std::string> first, const std::vector<std::string>& more) {
  first.insert(first.end(), more.begin(), more.end());
  return first;
}

std::string PairsTable(const LevelRankings& rankings, double confidence) {
  std::string rows;
  for (const LevelPairRanking& pair : rankings.pairs) {
    std::vector<std::string> values = {FormatNumber(pair.spearman.rho, 3),
                                       FormatInterval(pair.interval.low, pair.interval.high, 3),
                                       FormatP(pair.spearman.p)};
    for (const double rho : pair.rho_within) values.push_back(FormatNumber(rho, 3));
    rows += TableRow(fmt::format("{} – {}", pair.first, pair.second), values);
  }
  return Table(
      "level-rankings",
      TableHead(Joined({"levels", "ρ", fmt::format("{:g} % interval", 100 * confidence), "p"}, rankings.within_levels)),
      rows);
}

std::string MeansTable(const LevelRankings& rankings) {
  std::string rows;
  for (size_t i = 0; i < std::min(kRankedShown, rankings.cells.size()); ++i) {
    std::vector<std::string> values;
    for (const double mean : rankings.cells[i].means) values.push_back(FormatNumber(mean));
    rows += TableRow(CellName(rankings.cells[i].levels), values);
  }
  return Table("level-means",
               TableHead(Joined({fmt::format("{}", fmt::join(rankings.cell_factors, ", "))}, rankings.levels)), rows);
}

}  // namespace

HtmlSection LevelRankingsSection(const HtmlContext& context) {
  HtmlSection section{"rankings", "Rankings between levels", ""};
  if (!context.sweep.level_rankings) return section;
  const LevelRankings& rankings = *context.sweep.level_rankings;
  section.body = Paragraph(LevelRankingsSentence(rankings));
  if (!rankings.reason.empty()) return section;
  section.body += PairsTable(rankings, context.options.confidence);
  if (!rankings.with_itself.empty()) {
    std::vector<std::string> each;
    for (size_t i = 0; i < rankings.with_itself.size(); ++i)
      each.push_back(fmt::format("{} {}", rankings.levels[i], FormatNumber(rankings.with_itself[i], 3)));
    section.body += Paragraph(
        fmt::format("Each with itself, one replicate with another (no two can be expected to agree much more): {}.",
                    fmt::join(each, ", ")),
        "soft");
  }
  section.body += MeansTable(rankings);
  if (rankings.cells.size() > kRankedShown) {
    section.body += Paragraph(
        fmt::format("The first {} of {} cells; the JSON form has all.", kRankedShown, rankings.cells.size()), "soft");
  }
  return section;
}

}  // namespace loupe::analysis::report
