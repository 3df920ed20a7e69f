#include "analysis/stats/fraction.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <set>

#include "Eigen/Cholesky"
#include "analysis/stats/orthogonal_array.h"
#include "analysis/stats/random_stream.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

// Fedorov's exchange on the candidate rows, with (XᵀX)⁻¹ kept by rank-one updates and refreshed between passes.
class ExchangeSearch {
 public:
  ExchangeSearch(const MatrixXd& rows, const std::vector<size_t>& fixed) : rows_(rows), fixed_(fixed) {
    available_.assign(static_cast<size_t>(rows.rows()), true);
    for (const size_t index : fixed) available_[index] = false;
  }

  // Returns the selection; log |XᵀX| in `log_det`.
  std::vector<size_t> Run(size_t count, RandomStream& random, double& log_det) {
    chosen_.clear();
    free_ = available_;
    Start(count, random);
    for (int pass = 0; pass < 50; ++pass) {
      Refresh();
      if (!ImprovePass()) break;
    }
    log_det = Refresh();
    return chosen_;
  }

 private:
  // A tenth at random, so that starts differ, the rest where the prediction is most uncertain.
  void Start(size_t count, RandomStream& random) {
    std::vector<size_t> pool;
    for (size_t i = 0; i < free_.size(); ++i) {
      if (free_[i]) pool.push_back(i);
    }
    random.Shuffle(pool);
    const size_t at_random = std::max<size_t>(1, count / 10);
    for (size_t i = 0; i < at_random; ++i) Choose(pool[i]);
    inverse_ = InverseInformation(1e-4);
    variance_ = (rows_ * inverse_).cwiseProduct(rows_).rowwise().sum();
    while (chosen_.size() < count) {
      size_t best = 0;
      double largest = -1;
      for (const size_t i : pool) {
        if (free_[i] && variance_(static_cast<Index>(i)) > largest * (1 + 1e-12)) {
          largest = variance_(static_cast<Index>(i));
          best = i;
        }
      }
      Choose(best);
      Update(best, 1);
    }
  }

  // Takes a row in (sign 1) or out (−1): Sherman–Morrison for the inverse and each candidate's prediction variance.
  void Update(size_t index, double sign) {
    const VectorXd x = rows_.row(static_cast<Index>(index)).transpose();
    const VectorXd v = inverse_ * x;
    const double scale = sign / (1 + sign * x.dot(v));
    inverse_ -= scale * v * v.transpose();
    variance_ -= scale * (rows_ * v).cwiseAbs2();
  }

  void Choose(size_t index) {
    chosen_.push_back(index);
    free_[index] = false;
  }

  MatrixXd InverseInformation(double ridge) {
    MatrixXd information = MatrixXd::Identity(rows_.cols(), rows_.cols()) * ridge;
    for (const std::vector<size_t>* list : std::initializer_list<const std::vector<size_t>*>{&fixed_, &chosen_}) {
      for (const size_t i : *list) {
        const VectorXd x = rows_.row(static_cast<Index>(i)).transpose();
        information.selfadjointView<Eigen::Lower>().rankUpdate(x);
      }
    }
    const Eigen::LLT<MatrixXd> cholesky(information.selfadjointView<Eigen::Lower>());
    log_det_ = 2 * cholesky.matrixLLT().diagonal().array().log().sum();
    return cholesky.solve(MatrixXd::Identity(rows_.cols(), rows_.cols()));
  }

  // The tiny ridge keeps a selection that cannot estimate the model comparable with others: it ranks last.
  double Refresh() {
    inverse_ = InverseInformation(1e-8);
    variance_ = (rows_ * inverse_).cwiseProduct(rows_).rowwise().sum();
    return log_det_;
  }

  bool ImprovePass() {
    bool improved = false;
    for (size_t& current : chosen_) {
      const VectorXd x = rows_.row(static_cast<Index>(current)).transpose();
      const VectorXd u = inverse_ * x;
      const double d_out = x.dot(u);
      const VectorXd cross = rows_ * u;
      double best_gain = 1e-7;
      size_t best = current;
      for (size_t j = 0; j < free_.size(); ++j) {
        if (!free_[j]) continue;
        const auto at = static_cast<Index>(j);
        const double gain = variance_(at) - d_out - variance_(at) * d_out + cross(at) * cross(at);
        if (gain > best_gain) {
          best_gain = gain;
          best = j;
        }
      }
      if (best == current) continue;
      Update(best, 1);  // in first, so that the matrix stays regular
      Update(current, -1);
      free_[current] = true;
      free_[best] = false;
      current = best;
      improved = true;
    }
    return improved;
  }

  const MatrixXd& rows_;
  const std::vector<size_t>& fixed_;
  std::vector<bool> available_, free_;
  std::vector<size_t> chosen_;
  MatrixXd inverse_;
  VectorXd variance_;  // xᵀ(XᵀX)⁻¹x of every candidate
  double log_det_ = 0;
};

// Factors grouped so that the candidates are all combinations of the groups' own combinations: (input, output) is one
// group when only some pairs are legal. Empty if the candidates are no such product.
struct Group {
  std::vector<size_t> factors;
  std::vector<std::vector<int32_t>> combinations;
};
std::vector<Group> ProductGroups(const Candidates& candidates) {
  const size_t k = candidates.factors.size();
  const auto combinations = [&](const std::vector<size_t>& factors) {
    std::set<std::vector<int32_t>> seen;
    for (const auto& cell : candidates.cells) {
      std::vector<int32_t> key;
      for (const size_t factor : factors) key.push_back(cell[factor]);
      seen.insert(std::move(key));
    }
    return seen;
  };
  std::vector<size_t> group_of(k);
  std::iota(group_of.begin(), group_of.end(), size_t{0});
  for (size_t i = 0; i < k; ++i) {
    for (size_t j = i + 1; j < k; ++j) {
      if (combinations({i, j}).size() == combinations({i}).size() * combinations({j}).size()) continue;
      const size_t from = group_of[j];
      for (size_t& group : group_of) {
        if (group == from) group = group_of[i];
      }
    }
  }
  std::map<size_t, Group> groups;
  for (size_t i = 0; i < k; ++i) groups[group_of[i]].factors.push_back(i);
  std::vector<Group> result;
  size_t product = 1;
  for (auto& [unused, group] : groups) {
    const auto seen = combinations(group.factors);
    group.combinations.assign(seen.begin(), seen.end());
    product *= group.combinations.size();
    result.push_back(std::move(group));
  }
  if (product != candidates.cells.size()) return {};
  return result;
}

// Candidate indices of an orthogonal array over the product groups, if one with at most `max_runs` is known.
std::optional<std::vector<size_t>> ArrayOverGroups(const Candidates& candidates, size_t max_runs) {
  const std::vector<Group> groups = ProductGroups(candidates);
  std::vector<int32_t> levels;
  std::vector<size_t> varying;
  for (size_t g = 0; g < groups.size(); ++g) {
    if (groups[g].combinations.size() < 2) continue;
    varying.push_back(g);
    levels.push_back(static_cast<int32_t>(groups[g].combinations.size()));
  }
  if (varying.size() < 2) return std::nullopt;
  const auto array = FindOrthogonalArray(levels, max_runs);
  if (!array) return std::nullopt;
  std::map<std::vector<int32_t>, size_t> index_of;
  for (size_t i = 0; i < candidates.cells.size(); ++i) index_of[candidates.cells[i]] = i;
  std::vector<size_t> chosen;
  for (const std::vector<int32_t>& run : *array) {
    std::vector<int32_t> cell(candidates.factors.size(), 0);
    for (const Group& group : groups) {
      for (size_t f = 0; f < group.factors.size(); ++f) cell[group.factors[f]] = group.combinations[0][f];
    }
    for (size_t v = 0; v < varying.size(); ++v) {
      const Group& group = groups[varying[v]];
      const auto& combination = group.combinations[static_cast<size_t>(run[v])];
      for (size_t f = 0; f < group.factors.size(); ++f) cell[group.factors[f]] = combination[f];
    }
    chosen.push_back(index_of.at(cell));
  }
  std::sort(chosen.begin(), chosen.end());
  if (std::adjacent_find(chosen.begin(), chosen.end()) != chosen.end()) return std::nullopt;  // repeats cells
  return chosen;
}

}  // namespace

absl::StatusOr<Fraction> ChooseFraction(const Candidates& candidates, const FractionOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(const DesignModel model, DesignModel::Create(candidates, options.formula));
  std::set<size_t> run;
  for (const size_t index : options.already_run) {
    if (index >= candidates.cells.size()) {
      return absl::InvalidArgumentError(
          fmt::format("cell {} is said to have been run, but there are {} candidates", index, candidates.cells.size()));
    }
    run.insert(index);
  }
  const size_t left = candidates.cells.size() - run.size();
  if (options.trials == 0 || options.trials > left) {
    return absl::InvalidArgumentError(
        fmt::format("{} trials asked for, but {} candidate cells are left to choose from; ask "
                    "for 1 to {}, and use replicates for more",
                    options.trials, left, left));
  }
  const size_t total = options.trials + options.already_run.size();
  if (static_cast<Index>(total) < model.parameters()) {
    return absl::InvalidArgumentError(fmt::format(
        "the model has {} parameters, so {} trials cannot estimate it; choose at least {} (better twice as many), or leave "
        "out interactions",
        model.parameters(), total, model.parameters()));
  }

  Fraction fraction;
  const auto array =
      options.already_run.empty() ? ArrayOverGroups(candidates, candidates.cells.size() - 1) : std::nullopt;
  if (options.trials == left) {
    fraction.method = "full design";
    for (size_t i = 0; i < candidates.cells.size(); ++i) {
      if (!run.contains(i)) fraction.chosen.push_back(i);
    }
  } else if (array && array->size() == options.trials && AssessDesign(model, *array).d_efficiency > 0) {
    fraction.method = "orthogonal array";
    fraction.chosen = *array;
  } else {
    fraction.method = "D-optimal";
    ExchangeSearch search(model.rows(), options.already_run);
    RandomStream random(options.seed);
    double best = -std::numeric_limits<double>::infinity();
    for (int start = 0; start < std::max(1, options.restarts); ++start) {
      double log_det = 0;
      std::vector<size_t> chosen = search.Run(options.trials, random, log_det);
      if (log_det > best + 1e-9) {
        best = log_det;
        fraction.chosen = std::move(chosen);
      }
    }
    std::sort(fraction.chosen.begin(), fraction.chosen.end());
  }
  std::vector<size_t> together = options.already_run;
  together.insert(together.end(), fraction.chosen.begin(), fraction.chosen.end());
  fraction.quality = AssessDesign(model, together);
  fraction.sentences.push_back(fmt::format(
      "{} of {} cells chosen ({}); D-efficiency {:.3f}, {} residual degrees of freedom.", fraction.chosen.size(),
      candidates.cells.size(), fraction.method, fraction.quality.d_efficiency, fraction.quality.residual_df));
  if (fraction.quality.d_efficiency == 0) {
    fraction.sentences.push_back("This selection cannot estimate every term: ask for more trials or fewer terms.");
  }
  if (array && fraction.method == "D-optimal") {
    fraction.sentences.push_back(
        fmt::format("An orthogonal array for the main effects has {} cells: choose that many to get "
                    "it.",
                    array->size()));
  }
  if (!fraction.quality.aliases.empty()) {
    const AliasEntry& worst = fraction.quality.aliases.front();
    fraction.sentences.push_back(
        fmt::format("If it is real, the interaction {} (not in the model) shows up most in {}: {:.0f} % "
                    "of it lies there.",
                    worst.omitted, worst.term, 100 * worst.share));
  }
  return fraction;
}

std::vector<size_t> RandomisedRunOrder(size_t cells, size_t blocks, uint64_t seed) {
  RandomStream random(seed);
  std::vector<size_t> order;
  for (size_t block = 0; block < blocks; ++block) {
    std::vector<size_t> within(cells);
    std::iota(within.begin(), within.end(), block * cells);
    random.Shuffle(within);
    order.insert(order.end(), within.begin(), within.end());
  }
  return order;
}

}  // namespace loupe::analysis::stats
