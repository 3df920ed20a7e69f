#include "analysis/stats/box_cox.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "analysis/stats/distributions.h"
#include "analysis/stats/linear_model.h"
#include "analysis/stats/root_finder.h"
#include "boost/math/tools/minima.hpp"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

constexpr double kFarthest = 5.0;

// Residual sum of squares of the model for y^(λ) = (y^λ − 1)/(λ g^(λ−1)), g the geometric mean, on the cells:
// comparable between λ.
class Profile {
 public:
  Profile(const LinearModel& model, std::vector<double> log_y)
      : model_(model), log_y_(std::move(log_y)), n_(model.cells().total_n) {
    for (size_t row = 0; row < log_y_.size(); ++row) {
      if (model.cell_of_row()[row] >= 0) mean_log_ += log_y_[row] / n_;
    }
    transformed_.resize(log_y_.size());
  }

  // −∞ < value; +∞ where the model reproduces the transformed response exactly.
  double LogLikelihood(double lambda) {
    // The least-squares problem does not see a common shift: where powers grow large, y^λ/λ itself is used, about its
    // largest value, and that factor is put back in the logarithm.
    double largest = 0;
    for (size_t row = 0; row < log_y_.size(); ++row) {
      if (model_.cell_of_row()[row] >= 0) largest = std::max(largest, lambda * (log_y_[row] - mean_log_));
    }
    const double shift = largest > 30 ? largest : 0.0;
    for (size_t row = 0; row < log_y_.size(); ++row) {
      if (model_.cell_of_row()[row] < 0) continue;
      const double about = log_y_[row] - mean_log_;  // log(y/g)
      transformed_[row] = std::abs(lambda) < 1e-10 ? about
                          : shift > 0              ? std::exp(lambda * about - shift) / lambda
                                                   : std::expm1(lambda * about) / lambda;
    }
    const double residual = ResidualSumSq();
    if (!(residual > 0)) return std::numeric_limits<double>::infinity();
    return -0.5 * n_ * (std::log(residual / n_) + 2 * shift) - n_ * mean_log_;
  }

 private:
  // 0 where it is rounding.
  double ResidualSumSq() const {
    const CellTable& cells = model_.cells();
    std::vector<double> mean(cells.cells(), 0.0), origin(cells.cells(), 0.0);
    std::vector<bool> seen(cells.cells(), false);
    double grand = 0;
    for (size_t row = 0; row < transformed_.size(); ++row) {
      if (model_.cell_of_row()[row] < 0) continue;
      const auto cell = static_cast<size_t>(model_.cell_of_row()[row]);
      if (!seen[cell]) origin[cell] = transformed_[row];
      seen[cell] = true;
      mean[cell] += (transformed_[row] - origin[cell]) / cells.n[cell];
    }
    for (size_t cell = 0; cell < mean.size(); ++cell) {
      mean[cell] += origin[cell];
      grand += cells.n[cell] * mean[cell] / n_;
    }
    double within = 0, total = 0;
    for (size_t row = 0; row < transformed_.size(); ++row) {
      if (model_.cell_of_row()[row] < 0) continue;
      const double about = transformed_[row] - mean[static_cast<size_t>(model_.cell_of_row()[row])];
      within += about * about;
      total += (transformed_[row] - grand) * (transformed_[row] - grand);
    }
    Eigen::VectorXd about_grand(static_cast<Eigen::Index>(mean.size()));
    for (size_t cell = 0; cell < mean.size(); ++cell) about_grand(static_cast<Eigen::Index>(cell)) = mean[cell] - grand;
    const double residual = within + model_.LackOfFit(about_grand);
    return residual > 1e-24 * total ? residual : 0.0;
  }

  const LinearModel& model_;
  std::vector<double> log_y_, transformed_;
  double mean_log_ = 0;
  double n_ = 0;
};

std::string Hint(const BoxCoxResult& result, double confidence) {
  const std::array<std::pair<double, const char*>, 6> simple{{{0.0, "its logarithm"},
                                                              {0.5, "its square root"},
                                                              {-1.0, "its reciprocal"},
                                                              {2.0, "its square"},
                                                              {-0.5, "one over its square root"},
                                                              {-2.0, "one over its square"}}};
  const std::string where = fmt::format("Box–Cox: λ = {:.2f}, {:.0f} % interval {:.2f} to {:.2f}", result.lambda,
                                        100 * confidence, result.low, result.high);
  if (result.low <= 1 && 1 <= result.high) return where + ", which includes 1: no transformation is called for.";
  double nearest = std::numeric_limits<double>::infinity();
  const char* name = nullptr;
  for (const auto& [lambda, text] : simple) {
    if (lambda >= result.low && lambda <= result.high && std::abs(lambda - result.lambda) < nearest) {
      nearest = std::abs(lambda - result.lambda);
      name = text;
    }
  }
  if (name == nullptr)
    return where + ", which excludes 1 and all simple powers: look at the residuals before you transform.";
  return fmt::format("{}, which excludes 1: consider analysing {} instead of the response.", where, name);
}

}  // namespace

absl::StatusOr<BoxCoxResult> BoxCox(const DataTable& data, const AnovaOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(const auto model, LinearModel::Fit(data, options));
  double least = std::numeric_limits<double>::infinity(), greatest = 0;
  std::vector<double> log_y(data.rows());
  for (size_t row = 0; row < data.rows(); ++row) {
    if (model->cell_of_row()[row] < 0) continue;
    const double y = data.Response(row);
    if (!(y > 0)) {
      return absl::FailedPreconditionError(fmt::format(
          "Box–Cox needs a positive response, but row {} has {}; add a constant to '{}' first if its zero has no meaning",
          row + 1, y, data.response_name));
    }
    least = std::min(least, y);
    greatest = std::max(greatest, y);
    log_y[row] = std::log(y);
  }
  const auto is_between = [&](size_t row) {
    return model->cell_of_row()[row] >= 0 && data.Response(row) != least && data.Response(row) != greatest;
  };
  bool two_values = true;
  for (size_t row = 0; row < data.rows() && two_values; ++row) two_values = !is_between(row);
  if (two_values) {
    return absl::FailedPreconditionError(
        "the response has two different values only, and a power of it is the same response in another unit");
  }
  if (model->reproduces_response()) {
    return absl::FailedPreconditionError(
        "the model reproduces every response exactly, so no power can make its errors more normal");
  }
  Profile profile(*model, std::move(log_y));
  // The likelihood can have more than one top: the best of a grid, then Brent's method around it.
  constexpr double kStep = 0.5;
  double best = -kFarthest, top = -std::numeric_limits<double>::infinity();
  for (double lambda = -kFarthest; lambda <= kFarthest; lambda += kStep) {
    const double value = profile.LogLikelihood(lambda);
    if (value > top) {
      top = value;
      best = lambda;
    }
  }
  BoxCoxResult result;
  if (std::isfinite(top)) {
    const auto minimum = boost::math::tools::brent_find_minima(
        [&](double lambda) { return std::max(-profile.LogLikelihood(lambda), std::numeric_limits<double>::lowest()); },
        std::max(-kFarthest, best - kStep), std::min(kFarthest, best + kStep), 24);
    result.lambda = -minimum.second > top ? minimum.first : best;
    top = std::max(top, -minimum.second);
  }
  if (top > 0.5 * std::numeric_limits<double>::max()) {
    return absl::FailedPreconditionError(fmt::format(
        "with the response to the power {:.2f} (0: its logarithm) the model reproduces it exactly, so the likelihood has no maximum",
        std::isfinite(result.lambda) && result.lambda != 0 ? result.lambda : best));
  }
  result.log_likelihood = top;
  result.log_likelihood_of_identity = profile.LogLikelihood(1.0);
  const double z = NormalQuantile(0.5 * (1 + options.confidence));
  const double drop = 0.5 * z * z;  // half the χ²₁ quantile
  const auto above = [&](double lambda) { return profile.LogLikelihood(lambda) - result.log_likelihood + drop; };
  const auto solve = [&](double to) {
    if (above(to) > 0) return to;  // open on this side
    return FindRoot(above, result.lambda, to, 24);
  };
  result.low = solve(-kFarthest);
  result.high = solve(kFarthest);
  result.hint = Hint(result, options.confidence);
  return result;
}

}  // namespace loupe::analysis::stats
