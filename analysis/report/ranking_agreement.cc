#include "analysis/report/ranking_agreement.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "analysis/report/number_format.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::report {
namespace {

bool IsIn(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Mean of every combination of `factors` that has a result.
std::map<std::vector<std::string>, double> MeansOf(const FactorialAnalysis& analysis,
                                                   const std::vector<std::string>& factors) {
  std::map<std::vector<std::string>, double> means;
  const auto cells = stats::CellMeans(analysis.data, factors, analysis.confidence);
  if (!cells.ok()) return means;
  for (const stats::CellMean& cell : *cells) {
    if (std::isfinite(cell.mean.mean)) means.emplace(cell.levels, cell.mean.mean);
  }
  return means;
}

}  // namespace

RankingAgreement CompareRankings(const FactorialAnalysis& analysis, const FactorialAnalysis& other,
                                 const std::string& other_sweep) {
  RankingAgreement result;
  result.other_sweep = other_sweep;
  result.other_response = other.response;
  for (const std::string& factor : analysis.cell_factors) {
    if (IsIn(other.cell_factors, factor)) result.factors.push_back(factor);
  }
  if (result.factors.empty()) {
    result.reason = fmt::format("{} varies none of the factors of this sweep, so no cell is in both.", other_sweep);
    return result;
  }
  const auto own = MeansOf(analysis, result.factors), others = MeansOf(other, result.factors);
  std::vector<double> a, b;  // turned so that less is better
  for (const auto& [levels, mean] : own) {
    const auto found = others.find(levels);
    if (found == others.end()) continue;
    result.cells.push_back({levels, mean, found->second, 0, 0});
    a.push_back(analysis.smaller_is_better ? mean : -mean);
    b.push_back(other.smaller_is_better ? found->second : -found->second);
  }
  const auto spearman = stats::SpearmanAgreement(a, b);
  if (!spearman.ok()) {
    result.reason = fmt::format("The rankings cannot be compared ({} cells have a result in both): {}.", a.size(),
                                std::string(spearman.status().message()));
    result.cells.clear();
    return result;
  }
  result.spearman = *spearman;
  const std::vector<double> rank = stats::Rank(a).rank, other_rank = stats::Rank(b).rank;
  for (size_t i = 0; i < result.cells.size(); ++i) {
    result.cells[i].rank = rank[i];
    result.cells[i].other_rank = other_rank[i];
  }
  std::stable_sort(result.cells.begin(), result.cells.end(),
                   [](const CellAgreement& x, const CellAgreement& y) { return x.rank < y.rank; });
  return result;
}

std::string AgreementSentence(const RankingAgreement& agreement) {
  if (!agreement.reason.empty()) return agreement.reason;
  const std::string p = FormatP(agreement.spearman.p);
  return fmt::format("Spearman's ρ between the cell rankings here and in {} ({}): {} over {} cells of {} (p {}{}).",
                     agreement.other_sweep, agreement.other_response, FormatNumber(agreement.spearman.rho, 3),
                     agreement.spearman.n, fmt::join(agreement.factors, " × "), p.starts_with('<') ? "" : "= ", p);
}

}  // namespace loupe::analysis::report
