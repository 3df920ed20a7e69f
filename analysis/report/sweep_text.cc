// The report of a sweep for a terminal, as JSON and as CSV.
#include <algorithm>
#include <cmath>

#include "analysis/report/anova_format.h"
#include "analysis/report/fold_cells.h"
#include "analysis/report/methods_text.h"
#include "analysis/report/number_format.h"
#include "analysis/report/report.h"
#include "analysis/report/sweep_analysis.h"
#include "analysis/report/text_table.h"
#include "analysis/report/untuned_base.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "nlohmann/json.hpp"

namespace loupe::analysis::report {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kDisagreementsShown = 5;

Json NumberOrNull(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

Json AgreementJson(const RankingAgreement& agreement) {
  Json cells = Json::array();
  for (const CellAgreement& cell : agreement.cells) {
    Json levels = Json::object();
    for (size_t f = 0; f < agreement.factors.size(); ++f) levels[agreement.factors[f]] = cell.levels[f];
    cells.push_back({{"levels", std::move(levels)},
                     {"mean", NumberOrNull(cell.mean)},
                     {"other_mean", NumberOrNull(cell.other_mean)},
                     {"rank", cell.rank},
                     {"other_rank", cell.other_rank}});
  }
  const bool known = agreement.reason.empty();
  return {{"reason", known ? Json(nullptr) : Json(agreement.reason)},
          {"sweep", agreement.other_sweep},
          {"response", agreement.other_response},
          {"spearman", known ? NumberOrNull(agreement.spearman.rho) : Json(nullptr)},
          {"p", known ? NumberOrNull(agreement.spearman.p) : Json(nullptr)},
          {"cells", std::move(cells)}};
}

std::string AgreementText(const RankingAgreement& agreement) {
  std::string text =
      fmt::format("\nAgreement with another sweep\n\n{}", WrapText(AgreementSentence(agreement), 98, "", ""));
  if (agreement.cells.empty()) return text;
  std::vector<CellAgreement> apart = agreement.cells;
  std::stable_sort(apart.begin(), apart.end(), [](const CellAgreement& a, const CellAgreement& b) {
    return std::abs(a.rank - a.other_rank) > std::abs(b.rank - b.other_rank);
  });
  TextTable table({"furthest apart", "rank here", "rank there", "mean here", "mean there"});
  for (size_t i = 0; i < std::min(kDisagreementsShown, apart.size()); ++i) {
    if (apart[i].rank == apart[i].other_rank) break;
    table.Add({CellName(apart[i].levels), fmt::format("{:g}", apart[i].rank), fmt::format("{:g}", apart[i].other_rank),
               FormatNumber(apart[i].mean), FormatNumber(apart[i].other_mean)});
  }
  return fmt::format("{}\n{}", text, table.Text());
}

Json LevelRankingsJson(const LevelRankings& rankings) {
  Json cells = Json::array();
  for (const CellOnLevels& cell : rankings.cells) {
    Json levels = Json::object(), means = Json::object();
    for (size_t i = 0; i < cell.levels.size(); ++i) levels[rankings.cell_factors[i]] = cell.levels[i];
    for (size_t i = 0; i < cell.means.size(); ++i) means[rankings.levels[i]] = NumberOrNull(cell.means[i]);
    cells.push_back({{"levels", std::move(levels)}, {"means", std::move(means)}});
  }
  Json pairs = Json::array();
  for (const LevelPairRanking& pair : rankings.pairs) {
    Json within = Json::object();
    for (size_t i = 0; i < pair.rho_within.size(); ++i)
      within[rankings.within_levels[i]] = NumberOrNull(pair.rho_within[i]);
    pairs.push_back({{"first", pair.first},
                     {"second", pair.second},
                     {"spearman", NumberOrNull(pair.spearman.rho)},
                     {"p", NumberOrNull(pair.spearman.p)},
                     {"low", NumberOrNull(pair.interval.low)},
                     {"high", NumberOrNull(pair.interval.high)},
                     {"within", std::move(within)}});
  }
  Json with_itself = Json::object();
  for (size_t i = 0; i < rankings.with_itself.size(); ++i)
    with_itself[rankings.levels[i]] = NumberOrNull(rankings.with_itself[i]);
  return {{"reason", rankings.reason.empty() ? Json(nullptr) : Json(rankings.reason)},
          {"factor", rankings.factor},
          {"averaged_over", rankings.averaged_over},
          {"blocks", rankings.blocks},
          {"blocks_in_all", rankings.blocks_in_all},
          {"cells", std::move(cells)},
          {"pairs", std::move(pairs)},
          {"with_itself", std::move(with_itself)}};
}

std::string LevelRankingsText(const LevelRankings& rankings, double confidence) {
  std::string text = fmt::format("\nRankings between the levels of {}\n\n{}", rankings.factor,
                                 WrapText(LevelRankingsSentence(rankings), 98, "", ""));
  if (!rankings.reason.empty()) return text;
  std::vector<std::string> head = {fmt::format("{}", fmt::join(rankings.cell_factors, ", "))};
  head.insert(head.end(), rankings.levels.begin(), rankings.levels.end());
  TextTable means(head);
  for (const CellOnLevels& cell : rankings.cells) {
    std::vector<std::string> row = {CellName(cell.levels)};
    for (const double mean : cell.means) row.push_back(FormatNumber(mean));
    means.Add(std::move(row));
  }
  head = {"levels", "ρ", fmt::format("{:g} %", 100 * confidence), "p"};
  head.insert(head.end(), rankings.within_levels.begin(), rankings.within_levels.end());
  TextTable pairs(head);
  for (const LevelPairRanking& pair : rankings.pairs) {
    std::vector<std::string> row = {fmt::format("{} – {}", pair.first, pair.second), FormatNumber(pair.spearman.rho, 3),
                                    FormatInterval(pair.interval.low, pair.interval.high, 3), FormatP(pair.spearman.p)};
    for (const double rho : pair.rho_within) row.push_back(FormatNumber(rho, 3));
    pairs.Add(std::move(row));
  }
  text += fmt::format("\n{}\n{}", means.Text(), pairs.Text());
  if (rankings.with_itself.empty()) return text;
  TextTable itself({"one replicate with another", "ρ"});
  for (size_t i = 0; i < rankings.with_itself.size(); ++i)
    itself.Add({rankings.levels[i], FormatNumber(rankings.with_itself[i], 3)});
  return fmt::format("{}\n{}", text, itself.Text());
}

}  // namespace

absl::StatusOr<std::string> RenderText(const SweepResults& results, const ReportOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(const SweepAnalysis sweep, AnalyseSweep(results, options));
  std::string text = fmt::format("{}{}\n", results.sweep_id,
                                 results.display_name.empty() ? "" : fmt::format(" – {}", results.display_name));
  text += WrapText(fmt::format("{}; {}", results.state, sweep.count.Sentence()), 98, "", "");
  if (const auto untuned = FindUntunedBase(results, sweep.response)) {
    text += WrapText(fmt::format("The untuned base has {} = {}.", sweep.response, untuned->Text()), 98, "", "");
  }
  text += fmt::format("\n{}", FormatAnovaText(sweep.analysis));
  if (sweep.level_rankings) text += LevelRankingsText(*sweep.level_rankings, options.confidence);
  if (sweep.agreement) text += AgreementText(*sweep.agreement);
  const std::vector<FailureGroup> failures = FailureGroups(results);
  if (!failures.empty()) {
    text += "\nFailed trials\n";
    for (const auto& [message, trials] : failures) {
      text += WrapText(fmt::format("{}× (first: trial {}) {}", trials.size(), trials.front(), message), 98, "- ", "  ");
    }
  }
  text += fmt::format("\nData and analysis: sha256 {}\n", sweep.hash);
  return text;
}

absl::StatusOr<std::string> RenderJson(const SweepResults& results, const ReportOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(const SweepAnalysis sweep, AnalyseSweep(results, options));
  Json json;
  json["sweep"] = results.sweep_id;
  json["display_name"] = results.display_name;
  json["state"] = results.state;
  json["hash"] = sweep.hash;
  const TrialCount& count = sweep.count;
  json["trials"] = {{"total", count.total},
                    {"succeeded", count.succeeded},
                    {"failed", count.failed},
                    {"quarantined", count.quarantined},
                    {"cancelled", count.cancelled},
                    {"running", count.running},
                    {"queued", count.queued},
                    {"stopped_early", count.stopped_early},
                    {"without_response", count.without_response}};
  json["replicates"] = results.replicates;
  json["baseline"] = Json::object();
  for (const auto& [name, value] : results.baseline_scores) json["baseline"][name] = value;
  json["baseline_text"] = nullptr;
  if (const auto untuned = FindUntunedBase(results, sweep.response)) json["baseline_text"] = untuned->Text();
  json.update(AnovaJson(sweep.analysis));
  json["methods"] = MethodsText(results, sweep);
  json["level_rankings"] = sweep.level_rankings ? LevelRankingsJson(*sweep.level_rankings) : Json(nullptr);
  json["agreement"] = sweep.agreement ? AgreementJson(*sweep.agreement) : Json(nullptr);
  json["failures"] = Json::array();
  for (const auto& [message, trials] : FailureGroups(results)) {
    json["failures"].push_back({{"message", message}, {"trials", trials}});
  }
  json["provenance"] = {{"seed", results.provenance.seed},
                        {"versions", results.provenance.versions},
                        {"settings", AllSettings(results)},
                        {"spec", results.provenance.spec_text}};
  return PrintableJson(json.dump(2, ' ', false, Json::error_handler_t::replace)).append("\n");
}

absl::StatusOr<std::string> RenderCsv(const SweepResults& results, const ReportOptions& options) {
  if (!options.csv_table.empty() && options.csv_table != kTrialsTable) {
    const std::vector<std::string> names = CsvTableNames();
    if (std::find(names.begin(), names.end(), options.csv_table) == names.end()) {
      return absl::InvalidArgumentError(fmt::format("there is no table '{}'; expected one of {}, {}",
                                                    Printable(options.csv_table), kTrialsTable,
                                                    fmt::join(names, ", ")));
    }
    LOUPE_ASSIGN_OR_RETURN(const SweepAnalysis sweep, AnalyseSweep(results, options));
    return FormatCsvTable(sweep.analysis, options.csv_table);
  }
  LOUPE_RETURN_IF_ERROR(ObservationTable(results, options).status());  // the same errors as the other formats
  const std::vector<std::string> scores = ScoreNames(results);
  std::string text = "trial,cell,replicate,state,stopped_early";
  for (const SweepFactor& factor : results.factors) text += fmt::format(",{}", CsvField(factor.name));
  for (const std::string& score : scores) text += fmt::format(",{}", CsvField(score));
  const bool any_stopped = std::any_of(results.trials.begin(), results.trials.end(),
                                       [](const TrialRecord& trial) { return trial.stopped_early; });
  text += any_stopped ? ",stopped_at_step\n" : "\n";
  for (const TrialRecord& trial : results.trials) {
    text += fmt::format("{},{},{},{},{}", trial.index, trial.cell_index, trial.replicate, TrialStateName(trial.state),
                        trial.stopped_early ? "true" : "false");
    for (size_t f = 0; f < results.factors.size(); ++f) {
      text += fmt::format(",{}", CsvField(LevelName(results, trial, f)));
    }
    for (const std::string& score : scores) {
      const auto found = trial.scores.find(score);
      text += fmt::format(",{}", (found == trial.scores.end() ? std::string() : CsvNumber(found->second)));
    }
    if (any_stopped) text += trial.stopped_early ? fmt::format(",{}", trial.stopped_at_step) : ",";
    text += "\n";
  }
  return text;
}

}  // namespace loupe::analysis::report
