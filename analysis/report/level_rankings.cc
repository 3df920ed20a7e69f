#include "analysis/report/level_rankings.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>

#include "analysis/stats/cell_table.h"
#include "analysis/stats/factor_question.h"
#include "analysis/stats/nan.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::report {
namespace {

using Codes = std::vector<int32_t>;  // of some factors' levels

// Which of the table's factors are what.
struct Roles {
  size_t between = 0;
  std::vector<size_t> within;  // without the replicate
  std::vector<size_t> blocks;  // within, then the replicate
  std::vector<size_t> cells;
};

absl::StatusOr<Roles> RolesIn(const stats::DataTable& data, const stats::FactorQuestion& asked,
                              const std::string& question, const std::string& block) {
  const auto refuse = [&question](std::string_view why) {
    return absl::InvalidArgumentError(fmt::format("rankings between '{}': {}", question, why));
  };
  if (asked.factors.size() != 1) return refuse("name one factor before '|': the one whose levels are compared");
  Roles roles;
  LOUPE_ASSIGN_OR_RETURN(roles.between, data.FactorIndex(asked.factors.front()));
  for (const std::string& name : asked.within) {
    LOUPE_ASSIGN_OR_RETURN(const size_t factor, data.FactorIndex(name));
    roles.within.push_back(factor);
  }
  std::vector<size_t> named = roles.within;
  named.push_back(roles.between);
  for (const size_t factor : named) {
    const stats::Factor& one = data.factors[factor];
    if (one.name == block) return refuse(fmt::format("'{}' is averaged over in any case", one.name));
    if (!one.nested_in.empty()) {
      return refuse(fmt::format("'{}' exists where {} is {} alone", one.name, one.nested_in, one.nested_level));
    }
  }
  roles.blocks = roles.within;
  for (size_t factor = 0; factor < data.factors.size(); ++factor) {
    if (data.factors[factor].name == block) {
      roles.blocks.push_back(factor);
    } else if (std::find(named.begin(), named.end(), factor) == named.end()) {
      roles.cells.push_back(factor);
    }
  }
  if (roles.cells.empty()) return refuse("no factor is left whose levels could be ranked");
  return roles;
}

Codes CodesOf(const stats::DataTable& data, const std::vector<size_t>& factors, size_t row) {
  Codes codes;
  for (const size_t factor : factors) codes.push_back(data.factors[factor].codes[row]);
  return codes;
}

// A place of the design may have several rows, of a table that holds repetitions.
struct Sum {
  double sum = 0;
  int64_t count = 0;
  double Mean() const { return sum / static_cast<double>(count); }
};
// By level, cell and block. Of what one level has of a block, all or nothing is used.
using Scores = std::map<std::tuple<int32_t, Codes, Codes>, Sum>;

Scores ScoresOf(const stats::DataTable& data, const Roles& roles, bool include_stopped_early) {
  Scores scores;
  std::vector<size_t> all = {roles.between};
  all.insert(all.end(), roles.cells.begin(), roles.cells.end());
  all.insert(all.end(), roles.blocks.begin(), roles.blocks.end());
  stats::SampleAccount account;
  for (size_t row = 0; row < data.rows(); ++row) {
    if (!stats::RowIsUsed(data, row, all, include_stopped_early, account)) continue;
    const int32_t level = data.factors[roles.between].codes[row];
    Sum& of = scores[{level, CodesOf(data, roles.cells, row), CodesOf(data, roles.blocks, row)}];
    of.sum += data.Response(row);
    ++of.count;
  }
  return scores;
}

std::vector<double> CellMeansOf(const Scores& scores, int32_t level, const std::vector<Codes>& cells,
                                const std::vector<Codes>& blocks) {
  std::vector<double> means;
  for (const Codes& cell : cells) {
    double sum = 0;
    for (const Codes& block : blocks) sum += scores.at({level, cell, block}).Mean();
    means.push_back(sum / static_cast<double>(blocks.size()));
  }
  return means;
}

// NaN where one of them is the same for all cells, or there is one cell.
stats::RankAgreement AgreementOf(const std::vector<double>& a, const std::vector<double>& b) {
  return stats::SpearmanAgreement(a, b).value_or(
      stats::RankAgreement{.rho = stats::kNaN, .p = stats::kNaN, .n = a.size()});
}

// The blocks with the same codes from `begin` to `end`, by these codes.
std::map<Codes, std::vector<Codes>> Grouped(const std::vector<Codes>& blocks, std::ptrdiff_t begin,
                                            std::ptrdiff_t end) {
  std::map<Codes, std::vector<Codes>> groups;
  for (const Codes& block : blocks) groups[Codes(block.begin() + begin, block.begin() + end)].push_back(block);
  return groups;
}

std::vector<std::string> NamesOf(const stats::DataTable& data, const std::vector<size_t>& factors, const Codes& codes) {
  std::vector<std::string> names;
  for (size_t i = 0; i < codes.size(); ++i) {
    const std::vector<std::string>& levels = data.factors[factors[i]].levels;
    names.push_back(codes[i] == stats::kMissingLevel ? "" : levels[static_cast<size_t>(codes[i])]);
  }
  return names;
}

double MeanAgreement(const Scores& scores, int32_t level, const std::vector<Codes>& cells,
                     const std::map<Codes, std::vector<Codes>>& replicates) {
  std::vector<std::vector<double>> means;
  means.reserve(replicates.size());
  for (const auto& [replicate, blocks] : replicates) means.push_back(CellMeansOf(scores, level, cells, blocks));
  double sum = 0;
  int64_t pairs = 0;
  for (size_t a = 0; a < means.size(); ++a) {
    for (size_t b = a + 1; b < means.size(); ++b, ++pairs) sum += AgreementOf(means[a], means[b]).rho;
  }
  return sum / static_cast<double>(pairs);
}

// What can be compared: every level has each of these cells in each of these blocks.
struct Complete {
  std::vector<int32_t> levels;
  std::vector<Codes> cells, blocks;
  int64_t blocks_in_all = 0;
};

Complete CompleteOf(const Scores& scores) {
  std::set<int32_t> levels;
  std::set<Codes> all_cells, all_blocks;
  std::set<std::pair<int32_t, Codes>> has;
  for (const auto& [place, score] : scores) {
    const auto& [level, cell, block] = place;
    levels.insert(level);
    all_cells.insert(cell);
    all_blocks.insert(block);
    has.emplace(level, cell);
  }
  Complete found{.levels = {levels.begin(), levels.end()}, .blocks_in_all = static_cast<int64_t>(all_blocks.size())};
  const auto on_all_levels = [&levels](const auto& holds) { return std::all_of(levels.begin(), levels.end(), holds); };
  std::copy_if(all_cells.begin(), all_cells.end(), std::back_inserter(found.cells), [&](const Codes& cell) {
    return on_all_levels([&](int32_t level) { return has.contains({level, cell}); });
  });
  std::copy_if(all_blocks.begin(), all_blocks.end(), std::back_inserter(found.blocks), [&](const Codes& block) {
    return on_all_levels([&](int32_t level) {
      return std::all_of(found.cells.begin(), found.cells.end(), [&](const Codes& cell) {
        return scores.contains({level, cell, block});
      });
    });
  });
  return found;
}

// Empty where there is something to compare. The rest of `result` is known.
std::string WhyNotCompared(const LevelRankings& result, const Complete& found) {
  if (found.levels.size() < 2) {
    return fmt::format("The levels of {} cannot be compared: {} with results.", result.factor,
                       found.levels.empty() ? "there is none" : "there is one");
  }
  if (found.cells.size() < 2) {
    return fmt::format("The levels of {} cannot be compared: fewer than two cells have results on all of them.",
                       result.factor);
  }
  if (found.blocks.empty()) {
    return fmt::format("The levels of {} cannot be compared yet: no block of {} has all {} cells on each of them.",
                       result.factor, fmt::join(result.averaged_over, " × "), found.cells.size());
  }
  return "";
}

// Cell means, one vector to a level.
using MeansOfLevels = std::vector<std::vector<double>>;

// Best first, by the mean over the levels.
std::vector<size_t> OrderOf(const MeansOfLevels& means, bool smaller_is_better) {
  std::vector<double> over_levels(means.front().size(), 0);  // turned so that less is better
  for (const std::vector<double>& of_level : means) {
    for (size_t i = 0; i < of_level.size(); ++i) over_levels[i] += smaller_is_better ? of_level[i] : -of_level[i];
  }
  std::vector<size_t> order(over_levels.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return over_levels[a] < over_levels[b]; });
  return order;
}

}  // namespace

absl::StatusOr<LevelRankings> RankingsBetweenLevels(const stats::DataTable& data, const std::string& question,
                                                    const std::string& block, bool smaller_is_better, double confidence,
                                                    bool include_stopped_early) {
  LOUPE_ASSIGN_OR_RETURN(const stats::FactorQuestion asked, stats::ParseFactorQuestion("rankings between", question));
  LOUPE_ASSIGN_OR_RETURN(const Roles roles, RolesIn(data, asked, question, block));
  LevelRankings result{.factor = data.factors[roles.between].name};
  for (const size_t factor : roles.blocks) result.averaged_over.push_back(data.factors[factor].name);
  for (const size_t factor : roles.cells) result.cell_factors.push_back(data.factors[factor].name);

  const Scores scores = ScoresOf(data, roles, include_stopped_early);
  const Complete found = CompleteOf(scores);
  for (const int32_t level : found.levels)
    result.levels.push_back(data.factors[roles.between].levels[static_cast<size_t>(level)]);
  result.reason = WhyNotCompared(result, found);
  if (found.levels.size() >= 2) result.blocks_in_all = found.blocks_in_all;
  if (!result.reason.empty()) return result;
  result.blocks = static_cast<int64_t>(found.blocks.size());

  MeansOfLevels means;
  for (const int32_t level : found.levels) means.push_back(CellMeansOf(scores, level, found.cells, found.blocks));
  for (const size_t i : OrderOf(means, smaller_is_better)) {
    CellOnLevels cell{.levels = NamesOf(data, roles.cells, found.cells[i])};
    for (const std::vector<double>& of_level : means) cell.means.push_back(of_level[i]);
    result.cells.push_back(std::move(cell));
  }

  const auto held = static_cast<std::ptrdiff_t>(roles.within.size());
  const auto within = Grouped(found.blocks, 0, held);
  if (held > 0) {
    for (const auto& [codes, of] : within)
      result.within_levels.push_back(fmt::format("{}", fmt::join(NamesOf(data, roles.within, codes), ", ")));
  }
  for (size_t first = 0; first < means.size(); ++first) {
    for (size_t second = first + 1; second < means.size(); ++second) {
      LevelPairRanking pair{.first = result.levels[first],
                            .second = result.levels[second],
                            .spearman = AgreementOf(means[first], means[second])};
      pair.interval = stats::SpearmanInterval(pair.spearman, confidence);
      for (const auto& [codes, of] : within) {
        if (held == 0) break;
        pair.rho_within.push_back(AgreementOf(CellMeansOf(scores, found.levels[first], found.cells, of),
                                              CellMeansOf(scores, found.levels[second], found.cells, of))
                                      .rho);
      }
      result.pairs.push_back(std::move(pair));
    }
  }
  // The replicate is the last of a block's factors. What is not in all replicates would set them apart by itself.
  const auto replicate_of = static_cast<std::ptrdiff_t>(roles.blocks.size());
  const size_t replicates = Grouped(found.blocks, held, replicate_of).size();
  std::vector<Codes> in_all;
  for (const auto& [codes, of] : within) {
    if (of.size() == replicates) in_all.insert(in_all.end(), of.begin(), of.end());
  }
  if (replicates > 1 && !in_all.empty()) {
    const auto apart = Grouped(in_all, held, replicate_of);
    for (const int32_t level : found.levels)
      result.with_itself.push_back(MeanAgreement(scores, level, found.cells, apart));
  }
  return result;
}

std::string LevelRankingsSentence(const LevelRankings& rankings) {
  if (!rankings.reason.empty()) return rankings.reason;
  std::string means;
  if (!rankings.averaged_over.empty()) {
    means = fmt::format("; means over {} of {} blocks of {}, those in which every level has every cell",
                        rankings.blocks, rankings.blocks_in_all, fmt::join(rankings.averaged_over, " × "));
  }
  return fmt::format("Spearman's ρ between the orders in which the levels of {} put {} cells of {}{}.", rankings.factor,
                     rankings.cells.size(), fmt::join(rankings.cell_factors, " × "), means);
}

}  // namespace loupe::analysis::report
