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

namespace loupe::analysis {
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
  json["agreement"] = sweep.agreement ? AgreementJson(*sweep.agreement) : Json(nullptr);
  json["failures"] = Json::array();
  for (const auto& [message, trials] : FailureGroups(results)) {
    json["failures"].push_back({{"message", message}, {"trials", trials}});
  }
  json["provenance"] = {{"seed", results.provenance.seed},
                        {"versions", results.provenance.versions},
                        {"settings", results.provenance.settings},
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

}  // namespace loupe::analysis
