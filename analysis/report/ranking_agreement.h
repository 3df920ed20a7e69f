// Whether two sweeps (two tasks, two data sets, a fraction and the whole) put the same cells first.
#pragma once

#include <string>
#include <vector>

#include "analysis/report/factorial_analysis.h"
#include "analysis/stats/rank.h"

namespace loupe::analysis::report {

// One cell in both sweeps. Ranks count from 1, best first in each sweep's own direction; ties share their mean rank.
struct CellAgreement {
  std::vector<std::string> levels;  // in the order of RankingAgreement::factors
  double mean = 0, other_mean = 0;
  double rank = 0, other_rank = 0;
};

struct RankingAgreement {
  std::string reason;  // why there is none; empty when there is
  std::string other_sweep, other_response;
  std::vector<std::string> factors;  // those that both sweeps vary; over the others the means are taken
  stats::RankAgreement spearman;     // of the ranks; ρ = 1: the same order
  std::vector<CellAgreement> cells;  // by the first sweep's rank
};

RankingAgreement CompareRankings(const FactorialAnalysis& analysis, const FactorialAnalysis& other,
                                 const std::string& other_sweep);

// "Spearman's ρ with sweeps/dogs (clip_i) over 320 cells: 0.83 (p < 0.0001)."
std::string AgreementSentence(const RankingAgreement& agreement);

}  // namespace loupe::analysis::report
