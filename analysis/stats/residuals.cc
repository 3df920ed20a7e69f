#include "analysis/stats/residuals.h"

#include <cmath>

#include "analysis/stats/nan.h"

namespace loupe::analysis::stats {

std::vector<ResidualRow> ComputeResiduals(const LinearModel& model) {
  const DataTable& data = model.data();
  const CellTable& cells = model.cells();
  const double centre = cells.centre(), sd = model.scaled_residual_sd();
  const std::vector<double> leverages = model.Leverages();
  std::vector<ResidualRow> rows;
  rows.reserve(static_cast<size_t>(cells.sample.used));
  for (size_t row = 0; row < data.rows(); ++row) {
    if (model.cell_of_row()[row] < 0) continue;
    const auto cell = static_cast<size_t>(model.cell_of_row()[row]);
    ResidualRow& out = rows.emplace_back();
    out.row = row;
    const double fit = model.ScaledFit(cell),
                 residual = sd > 0 ? cells.Centred(data.response_deviation[row]) - fit : 0.0;
    out.fitted = data.response_origin + (centre + cells.unit.Up(fit));
    out.residual = cells.unit.Up(residual);
    out.leverage = leverages[cell];
    const double freedom = 1 - out.leverage;
    const bool usable = freedom > 1e-10 && sd > 0;
    out.studentized = usable ? residual / (sd * std::sqrt(freedom)) : kNaN;
    out.cooks_distance =
        usable ? out.studentized * out.studentized * out.leverage / (static_cast<double>(model.rank()) * freedom)
               : kNaN;
  }
  return rows;
}

}  // namespace loupe::analysis::stats
