#include "analysis/stats/box_cox.h"

#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "analysis/stats/distributions.h"
#include "analysis/stats/linear_model.h"
#include "boost/math/tools/minima.hpp"
#include "boost/math/tools/toms748_solve.hpp"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis {
namespace {

constexpr double kFarthest = 5.0;

// Re-fits the same model on y^(λ) = (y^λ − 1)/(λ g^(λ−1)) with g the geometric mean: its RSS is comparable between λ.
class Profile {
 public:
  Profile(const DataTable& data, const AnovaOptions& options, const LinearModel& model)
      : table_(data), options_(options) {
    double sum = 0;
    n_ = 0;
    log_y_.assign(data.rows(), std::numeric_limits<double>::quiet_NaN());
    for (size_t row = 0; row < data.rows(); ++row) {
      if (model.cell_of_row()[row] < 0) continue;
      log_y_[row] = std::log(data.Response(row));
      sum += log_y_[row];
      n_ += 1;
    }
    mean_log_ = sum / n_;
  }

  absl::StatusOr<double> LogLikelihood(double lambda) {
    std::vector<double> transformed(log_y_.size());
    for (size_t row = 0; row < log_y_.size(); ++row) {
      const double about = log_y_[row] - mean_log_;  // log(y/g)
      transformed[row] = std::abs(lambda) < 1e-10 ? about : std::expm1(lambda * about) / lambda;
    }
    SetResponse(table_, std::move(transformed));
    LOUPE_ASSIGN_OR_RETURN(const auto model, LinearModel::Fit(table_, options_));
    return -0.5 * n_ * std::log(model->residual_sum_sq() / n_) - n_ * mean_log_;
  }

 private:
  DataTable table_;
  AnovaOptions options_;
  std::vector<double> log_y_;
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
  if (name == nullptr) return where + ", which excludes 1 and all simple powers: look at the residuals before you transform.";
  return fmt::format("{}, which excludes 1: consider analysing {} instead of the response.", where, name);
}

}  // namespace

absl::StatusOr<BoxCoxResult> BoxCox(const DataTable& data, const AnovaOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(const auto model, LinearModel::Fit(data, options));
  for (size_t row = 0; row < data.rows(); ++row) {
    if (model->cell_of_row()[row] >= 0 && !(data.Response(row) > 0)) {
      return absl::FailedPreconditionError(fmt::format(
          "Box–Cox needs a positive response, but row {} has {}; add a constant to '{}' first if its zero has no meaning",
          row + 1, data.Response(row), data.response_name));
    }
  }
  Profile profile(data, options, *model);
  absl::Status failure;
  const auto value = [&](double lambda) {
    const auto result = profile.LogLikelihood(lambda);
    if (!result.ok()) {
      failure.Update(result.status());
      return -std::numeric_limits<double>::max();
    }
    return *result;
  };
  BoxCoxResult result;
  const auto minimum = boost::math::tools::brent_find_minima([&](double lambda) { return -value(lambda); }, -kFarthest,
                                                             kFarthest, 24);
  result.lambda = minimum.first;
  result.log_likelihood = -minimum.second;
  result.log_likelihood_of_identity = value(1.0);
  const double z = NormalQuantile(0.5 * (1 + options.confidence));
  const double drop = 0.5 * z * z;  // half the χ²₁ quantile
  const auto above = [&](double lambda) { return value(lambda) - result.log_likelihood + drop; };
  const auto solve = [&](double from, double to) {
    if (above(to) > 0) return to;  // open on this side
    std::uintmax_t iterations = 60;
    const auto [a, b] = boost::math::tools::toms748_solve(above, std::min(from, to), std::max(from, to),
                                                          boost::math::tools::eps_tolerance<double>(24), iterations);
    return 0.5 * (a + b);
  };
  result.low = solve(result.lambda, -kFarthest);
  result.high = solve(result.lambda, kFarthest);
  LOUPE_RETURN_IF_ERROR(failure);
  result.hint = Hint(result, options.confidence);
  return result;
}

}  // namespace loupe::analysis
