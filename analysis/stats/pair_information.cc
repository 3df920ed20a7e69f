#include "analysis/stats/pair_information.h"

#include <algorithm>

#include "Eigen/QR"
#include "analysis/stats/nan.h"
#include "analysis/stats/ordered_projection.h"

namespace loupe::analysis::stats {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

std::vector<PairInformation> ComparePairsOfLevels(const ModelMatrix& model, const CellTable& cells,
                                                  const Reduced& reduced, size_t term,
                                                  const std::vector<size_t>& tested_after) {
  const size_t factor = model.terms()[term].front();
  const auto position =
      static_cast<size_t>(std::find(cells.factors.begin(), cells.factors.end(), factor) - cells.factors.begin());
  const TermColumns own = model.columns()[term];
  // The term's columns less what the columns before them explain.
  std::vector<Index> before{0};
  for (const size_t u : tested_after) {
    for (Index k = 0; k < model.columns()[u].count; ++k) before.push_back(model.columns()[u].first + k);
  }
  const MatrixXd base = reduced.r(Eigen::all, before);
  Eigen::ColPivHouseholderQR<MatrixXd> qr(base);
  qr.setThreshold(kRankTolerance);
  MatrixXd rest = qr.householderQ().adjoint() * MatrixXd(reduced.r.middleCols(own.first, own.count));
  rest.topRows(qr.rank()).setZero();
  Eigen::CompleteOrthogonalDecomposition<MatrixXd> own_qr;
  own_qr.setThreshold(kRankTolerance);
  own_qr.compute(MatrixXd(rest.transpose()));

  const auto levels = static_cast<int32_t>(cells.levels(position));
  std::vector<VectorXd> rows;
  for (int32_t level = 0; level < levels; ++level) {
    std::vector<int32_t> at(cells.factors.size(), ModelMatrix::kAveraged);
    at[position] = level;
    rows.push_back(model.Row(at).segment(own.first, own.count).transpose());
  }
  std::vector<PairInformation> pairs;
  for (int32_t i = 0; i < levels; ++i) {
    for (int32_t j = i + 1; j < levels; ++j) {
      const VectorXd difference = rows[static_cast<size_t>(i)] - rows[static_cast<size_t>(j)];
      // The shortest u with restᵀ u = difference: ‖u‖² is the variance; without a u the pair is not estimable.
      const VectorXd u = own_qr.solve(difference);
      const bool estimable = (rest.transpose() * u - difference).norm() <= kRankTolerance * difference.norm() * 10;
      pairs.push_back({i, j, estimable, estimable ? u.squaredNorm() : kNaN});
    }
  }
  return pairs;
}

}  // namespace loupe::analysis::stats
