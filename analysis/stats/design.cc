#include "analysis/stats/design.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "Eigen/QR"
#include "analysis/stats/cell_table.h"
#include "analysis/stats/data_table.h"
#include "analysis/stats/model_matrix.h"
#include "analysis/stats/ordered_projection.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

absl::Status CheckCandidates(const Candidates& candidates) {
  if (candidates.factors.empty() || candidates.cells.empty()) {
    return absl::InvalidArgumentError("a design needs at least one factor and one candidate cell");
  }
  std::set<std::vector<int32_t>> seen;
  for (const std::vector<int32_t>& cell : candidates.cells) {
    if (cell.size() != candidates.factors.size()) {
      return absl::InvalidArgumentError(
          fmt::format("a candidate cell has {} levels for {} factors", cell.size(), candidates.factors.size()));
    }
    for (size_t f = 0; f < cell.size(); ++f) {
      if (cell[f] < 0 || static_cast<size_t>(cell[f]) >= candidates.factors[f].levels.size()) {
        return absl::InvalidArgumentError(
            fmt::format("a candidate cell has level {} of factor '{}', which has {} levels", cell[f],
                        candidates.factors[f].name, candidates.factors[f].levels.size()));
      }
    }
    if (!seen.insert(cell).second) return absl::InvalidArgumentError("a candidate cell is listed twice");
  }
  return absl::OkStatus();
}

DataTable NamesOnly(const Candidates& candidates) {
  DataTable table;
  for (const DesignFactor& factor : candidates.factors) table.factors.push_back({factor.name, factor.levels, {}});
  return table;
}

absl::StatusOr<CellTable> AsCells(const Candidates& candidates, const std::vector<ModelTerm>& terms) {
  CellTable cells;
  std::set<size_t> used;
  for (const ModelTerm& term : terms) used.insert(term.begin(), term.end());
  cells.factors.assign(used.begin(), used.end());
  for (const size_t factor : cells.factors) {
    std::set<int32_t> occurring;
    for (const auto& cell : candidates.cells) occurring.insert(cell[factor]);
    if (occurring.size() < 2) {
      return absl::InvalidArgumentError(
          fmt::format("factor '{}' has only one level among the candidate cells; leave it out "
                      "of the model",
                      candidates.factors[factor].name));
    }
    cells.used_levels.emplace_back(occurring.begin(), occurring.end());
    std::vector<int32_t>& codes = cells.codes.emplace_back();
    for (const auto& cell : candidates.cells) {
      const auto& levels = cells.used_levels.back();
      codes.push_back(
          static_cast<int32_t>(std::lower_bound(levels.begin(), levels.end(), cell[factor]) - levels.begin()));
    }
  }
  cells.n.assign(candidates.cells.size(), 1.0);
  return cells;
}

// Rows `selected` of `x`.
MatrixXd Take(const MatrixXd& x, const std::vector<size_t>& selected) {
  MatrixXd rows(static_cast<Index>(selected.size()), x.cols());
  for (size_t i = 0; i < selected.size(); ++i) rows.row(static_cast<Index>(i)) = x.row(static_cast<Index>(selected[i]));
  return rows;
}

// Orthonormal basis of the centred columns.
MatrixXd CentredBasis(const MatrixXd& x) {
  const MatrixXd centred = x.rowwise() - x.colwise().mean();
  const VectorXd none = VectorXd::Zero(x.rows());
  // A column constant within rounding has no direction of its own: scale by the uncentred length.
  std::vector<Index> alive;
  for (Index j = 0; j < x.cols(); ++j) {
    if (centred.col(j).norm() > 1e-9 * x.col(j).norm()) alive.push_back(j);
  }
  const MatrixXd usable = centred(Eigen::all, alive);
  OrderedProjection projection(usable, none);
  projection.Add(0, usable.cols());
  const MatrixXd independent = usable(Eigen::all, projection.kept());
  const Eigen::HouseholderQR<MatrixXd> qr(independent);
  return qr.householderQ() * MatrixXd::Identity(independent.rows(), independent.cols());
}

}  // namespace

absl::StatusOr<DesignModel> DesignModel::Create(const Candidates& candidates, std::string_view formula) {
  LOUPE_RETURN_IF_ERROR(CheckCandidates(candidates));
  const DataTable names = NamesOnly(candidates);
  std::vector<ModelTerm> terms;
  if (formula.empty()) {
    for (size_t f = 0; f < candidates.factors.size(); ++f) terms.push_back({f});
  } else {
    LOUPE_ASSIGN_OR_RETURN(terms, ParseModelFormula(formula, names));
  }
  LOUPE_ASSIGN_OR_RETURN(const CellTable cells, AsCells(candidates, terms));
  const ModelMatrix matrix(cells, terms);
  const auto count = static_cast<Index>(candidates.cells.size());
  const MatrixXd x = matrix.Rows(0, count);

  DesignModel model;
  const VectorXd none = VectorXd::Zero(count);
  OrderedProjection projection(x, none);
  projection.Add(0, matrix.column_count());
  const MatrixXd independent = x(Eigen::all, projection.kept());
  const Eigen::HouseholderQR<MatrixXd> qr(independent);
  model.rows_ = qr.householderQ() * MatrixXd::Identity(count, independent.cols());
  model.rows_ *= std::sqrt(static_cast<double>(count));
  for (size_t t = 0; t < terms.size(); ++t) {
    model.term_names_.push_back(TermName(terms[t], names));
    model.term_columns_.push_back(x.middleCols(matrix.columns()[t].first, matrix.columns()[t].count));
  }
  std::vector<ModelTerm> with_pairs = terms;
  for (size_t i = 0; i < cells.factors.size(); ++i) {
    for (size_t j = i + 1; j < cells.factors.size(); ++j) {
      const ModelTerm pair{cells.factors[i], cells.factors[j]};
      if (std::find(terms.begin(), terms.end(), pair) == terms.end()) with_pairs.push_back(pair);
    }
  }
  const ModelMatrix extended(cells, with_pairs);
  const MatrixXd all = extended.Rows(0, count);
  for (size_t t = terms.size(); t < with_pairs.size(); ++t) {
    model.omitted_names_.push_back(TermName(with_pairs[t], names));
    model.omitted_columns_.push_back(all.middleCols(extended.columns()[t].first, extended.columns()[t].count));
  }
  return model;
}

DesignQuality AssessDesign(const DesignModel& model, const std::vector<size_t>& selected) {
  DesignQuality quality;
  const MatrixXd rows = Take(model.rows(), selected);
  const auto n = static_cast<Index>(selected.size());
  const Index p = model.parameters();
  const VectorXd none = VectorXd::Zero(n);
  OrderedProjection rank(rows, none);
  rank.Add(0, p);
  quality.residual_df = static_cast<double>(n - rank.rank());
  if (rank.rank() == p) {
    const Eigen::HouseholderQR<MatrixXd> qr(rows);
    double log_det = 0;
    for (Index j = 0; j < p; ++j) log_det += 2 * std::log(std::abs(qr.matrixQR()(j, j)));
    quality.d_efficiency = std::exp(log_det / static_cast<double>(p)) / static_cast<double>(n);
  }

  for (size_t t = 0; t < model.term_names().size(); ++t) {
    const auto df_on = [&](const std::vector<size_t>* subset) {
      const auto take = [&](const MatrixXd& x) { return subset ? Take(x, *subset) : x; };
      Index width = 1;
      for (size_t u = 0; u < model.term_columns().size(); ++u) width += model.term_columns()[u].cols();
      const MatrixXd own = take(model.term_columns()[t]);
      MatrixXd x(own.rows(), width);
      x.col(0).setOnes();
      Index at = 1;
      for (size_t u = 0; u < model.term_columns().size(); ++u) {
        if (u == t) continue;
        const MatrixXd part = take(model.term_columns()[u]);
        x.middleCols(at, part.cols()) = part;
        at += part.cols();
      }
      x.middleCols(at, own.cols()) = own;
      OrderedProjection projection(x, VectorXd::Zero(x.rows()));
      projection.Add(0, at);
      return static_cast<double>(projection.Add(at, own.cols()).rank);
    };
    quality.terms.push_back({.term = model.term_names()[t], .df = df_on(&selected), .nominal_df = df_on(nullptr)});
  }

  for (size_t o = 0; o < model.omitted_names().size(); ++o) {
    const MatrixXd omitted = CentredBasis(Take(model.omitted_columns()[o], selected));
    if (omitted.cols() == 0) continue;
    for (size_t t = 0; t < model.term_names().size(); ++t) {
      const MatrixXd term = CentredBasis(Take(model.term_columns()[t], selected));
      const double share = (term.transpose() * omitted).squaredNorm() / static_cast<double>(omitted.cols());
      if (share > 0.01) {
        quality.aliases.push_back({.omitted = model.omitted_names()[o], .term = model.term_names()[t], .share = share});
      }
    }
  }
  std::stable_sort(quality.aliases.begin(), quality.aliases.end(),
                   [](const AliasEntry& a, const AliasEntry& b) { return a.share > b.share; });
  return quality;
}

}  // namespace loupe::analysis::stats
