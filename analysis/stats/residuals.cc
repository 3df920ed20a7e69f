#include "analysis/stats/residuals.h"

#include <cmath>

#include "analysis/stats/nan.h"

namespace loupe::analysis {

std::vector<ResidualRow> ComputeResiduals(const LinearModel& model) {
  const DataTable& data = model.data();
  const double centre = model.cells().centre;
  const double variance = model.residual_mean_sq();
  std::vector<ResidualRow> rows;
  for (size_t row = 0; row < data.rows(); ++row) {
    if (model.cell_of_row()[row] < 0) continue;
    const auto cell = static_cast<size_t>(model.cell_of_row()[row]);
    ResidualRow& out = rows.emplace_back();
    out.row = row;
    out.fitted = data.response_origin + centre + model.FittedDeviation(cell);
    out.residual = data.response_deviation[row] - centre - model.FittedDeviation(cell);
    out.leverage = model.Leverage(cell);
    const double freedom = 1 - out.leverage;
    const bool usable = freedom > 1e-10 && variance > 0;
    out.studentized = usable ? out.residual / std::sqrt(variance * freedom) : kNaN;
    out.cooks_distance = usable ? out.residual * out.residual * out.leverage /
                                      (static_cast<double>(model.rank()) * variance * freedom * freedom)
                                : kNaN;
  }
  return rows;
}

}  // namespace loupe::analysis
