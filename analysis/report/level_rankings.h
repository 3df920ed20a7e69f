// Whether the levels of one factor (bases, subjects, tasks) put the cells of all other factors in the same order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/data_table.h"
#include "analysis/stats/rank.h"

namespace loupe::analysis::report {

// Two levels' orders of the cells.
struct LevelPairRanking {
  std::string first, second;
  stats::RankAgreement spearman;  // ρ and p are NaN where one of them ranks nothing
  stats::RankInterval interval;
  std::vector<double> rho_within;  // one per entry of LevelRankings::within_levels
};

struct CellOnLevels {
  std::vector<std::string> levels;  // one per entry of LevelRankings::cell_factors
  std::vector<double> means;        // one per level
};

// A block is a combination of levels of the factors that are averaged over: those named after '|', and the replicate.
// Only blocks in which every level has every cell count, so that all means are of the same blocks; a cell that a level
// never has (an illegal pair, another method's) is no cell here.
struct LevelRankings {
  std::string reason;  // why there are none; empty when there are
  std::string factor;
  std::vector<std::string> levels;
  std::vector<std::string> averaged_over;  // the factors after '|', then the replicate where there are several
  std::vector<std::string> within_levels;  // their combinations in the blocks that count: "cats", "dog"
  std::vector<std::string> cell_factors;
  std::vector<CellOnLevels> cells;  // best first, by the mean over the levels
  int64_t blocks = 0, blocks_in_all = 0;
  std::vector<LevelPairRanking> pairs;
  // Per level: ρ between the cells' means of one replicate and of another, averaged over the pairs of replicates: two
  // levels can hardly agree more than each with itself. Empty where fewer than two replicates count.
  std::vector<double> with_itself;
};

// `question`: "base | subject", or "base" alone. Rows without a response, and stopped ones unless asked for, are left
// out. INVALID_ARGUMENT: the question cannot be read, names a factor that is not in the table or one that exists within
// a method only, more than one before '|', or `block` (the replicate's name, empty where there is none).
absl::StatusOr<LevelRankings> RankingsBetweenLevels(const stats::DataTable& data, const std::string& question,
                                                    const std::string& block, bool smaller_is_better, double confidence,
                                                    bool include_stopped_early);

// What the numbers are, in one sentence; or the reason why there are none.
std::string LevelRankingsSentence(const LevelRankings& rankings);

}  // namespace loupe::analysis::report
