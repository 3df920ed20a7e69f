#include "analysis/stats/model_matrix.h"

#include <algorithm>
#include <cmath>

#include "Eigen/QR"
#include "fmt/format.h"

namespace loupe::analysis {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;

constexpr Index kMaxColumns = 4000;

bool IsInModel(const ModelTerm& term, const std::vector<ModelTerm>& terms) {
  return term.empty() || std::find(terms.begin(), terms.end(), term) != terms.end();
}

// See TermColumns::nominal_df.
Index NominalDegrees(const ModelTerm& term, const std::vector<ModelTerm>& terms, const CellTable& cells) {
  Index degrees = 0;
  for (size_t mask = 1; mask < size_t{1} << term.size(); ++mask) {
    ModelTerm effect;
    Index product = 1;
    for (size_t i = 0; i < term.size(); ++i) {
      if (((mask >> i) & 1) == 0) continue;
      effect.push_back(term[i]);
      const auto position = std::find(cells.factors.begin(), cells.factors.end(), term[i]) - cells.factors.begin();
      product *= static_cast<Index>(cells.levels(static_cast<size_t>(position))) - 1;
    }
    const bool in_margin = std::any_of(terms.begin(), terms.end(), [&](const ModelTerm& other) {
      return other != term && IsContained(other, term) && IsContained(effect, other);
    });
    if (!in_margin) degrees += product;
  }
  return degrees;
}

}  // namespace

MatrixXd HelmertContrasts(Index levels) {
  MatrixXd contrasts = MatrixXd::Zero(levels, levels - 1);
  for (Index j = 0; j < levels - 1; ++j) {
    const double k = static_cast<double>(j) + 1.0;
    const double scale = 1.0 / std::sqrt(k * (k + 1.0));
    contrasts.col(j).head(j + 1).setConstant(-scale);
    contrasts(j + 1, j) = k * scale;
  }
  return contrasts;
}

ModelMatrix::ModelMatrix(const CellTable& cells, std::vector<ModelTerm> terms) : cells_(cells), terms_(std::move(terms)) {
  for (const ModelTerm& term : terms_) {
    std::vector<FactorCoding>& codings = codings_.emplace_back();
    Index count = 1;
    for (const size_t factor : term) {
      FactorCoding& coding = codings.emplace_back();
      coding.position = static_cast<size_t>(
          std::find(cells.factors.begin(), cells.factors.end(), factor) - cells.factors.begin());
      const auto levels = static_cast<Index>(cells.levels(coding.position));
      ModelTerm margin = term;
      std::erase(margin, factor);
      // Scaled to unit mean square, so that columns of deep interactions keep the size of the others.
      coding.basis = IsInModel(margin, terms_) ? MatrixXd(HelmertContrasts(levels) * std::sqrt(static_cast<double>(levels)))
                                               : MatrixXd(MatrixXd::Identity(levels, levels));
      coding.average = coding.basis.colwise().mean();
      count *= coding.basis.cols();
    }
    columns_.push_back({column_count_, count, NominalDegrees(term, terms_, cells)});
    column_count_ += count;
  }
}

Eigen::RowVectorXd ModelMatrix::Row(const std::vector<int32_t>& level_positions) const {
  Eigen::RowVectorXd row(column_count_);
  row(0) = 1.0;
  for (size_t t = 0; t < terms_.size(); ++t) {
    Index size = 1;
    double* out = row.data() + columns_[t].first;
    out[0] = 1.0;
    for (const FactorCoding& coding : codings_[t]) {
      const Index level = level_positions[coding.position];
      const Index width = coding.basis.cols();
      for (Index i = size - 1; i >= 0; --i) {  // backwards: the outer product grows in place
        const double value = out[i];
        for (Index j = width - 1; j >= 0; --j) {
          out[i * width + j] = value * (level == kAveraged ? coding.average(j) : coding.basis(level, j));
        }
      }
      size *= width;
    }
  }
  return row;
}

MatrixXd ModelMatrix::Rows(Index begin, Index count) const {
  MatrixXd rows(count, column_count_);
  std::vector<int32_t> levels(cells_.factors.size());
  for (Index i = 0; i < count; ++i) {
    for (size_t f = 0; f < levels.size(); ++f) levels[f] = cells_.codes[f][static_cast<size_t>(begin + i)];
    rows.row(i) = Row(levels);
  }
  return rows;
}

absl::StatusOr<Reduced> ReduceModel(const ModelMatrix& model, const CellTable& cells) {
  const Index columns = model.column_count();
  if (columns > kMaxColumns) {
    return absl::InvalidArgumentError(fmt::format(
        "the model has {} columns, more than {}; leave out interactions between factors with many levels", columns,
        kMaxColumns));
  }
  const auto cell_count = static_cast<Index>(cells.cells());
  const Index block = std::max<Index>(4 * columns, 256);
  Reduced reduced;
  reduced.column_norms = Eigen::VectorXd::Zero(columns);
  MatrixXd kept(0, columns + 1);  // the last column is y
  for (Index begin = 0; begin < cell_count; begin += block) {
    const Index count = std::min(block, cell_count - begin);
    MatrixXd stacked(kept.rows() + count, columns + 1);
    stacked.topRows(kept.rows()) = kept;
    stacked.bottomLeftCorner(count, columns) = model.Rows(begin, count);
    for (Index i = 0; i < count; ++i) {
      const auto cell = static_cast<size_t>(begin + i);
      stacked(kept.rows() + i, columns) = cells.mean[cell];
      stacked.row(kept.rows() + i) *= std::sqrt(cells.n[cell]);
    }
    reduced.column_norms += stacked.bottomLeftCorner(count, columns).colwise().squaredNorm().transpose();
    const Index rows = stacked.rows();
    const Index rank_limit = std::min(rows, columns + 1);
    Eigen::HouseholderQR<Eigen::Ref<MatrixXd>> qr(stacked);
    kept = stacked.topRows(rank_limit);
    for (Index j = 0; j < kept.cols(); ++j) {
      if (j + 1 < rank_limit) kept.col(j).tail(rank_limit - j - 1).setZero();
    }
  }
  reduced.column_norms = reduced.column_norms.cwiseSqrt();
  const Index m = std::min(kept.rows(), columns);
  reduced.r = kept.topLeftCorner(m, columns);
  reduced.qty = kept.col(columns).head(m);
  if (kept.rows() > columns) reduced.lack_of_fit_sum_sq = kept(columns, columns) * kept(columns, columns);
  return reduced;
}

}  // namespace loupe::analysis
