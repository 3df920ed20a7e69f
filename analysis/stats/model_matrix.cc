#include "analysis/stats/model_matrix.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace loupe::analysis::stats {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;

bool IsInModel(const ModelTerm& term, const std::vector<ModelTerm>& terms) {
  return term.empty() || std::find(terms.begin(), terms.end(), term) != terms.end();
}

// See TermColumns::nominal_df.
Index NominalDegrees(const ModelTerm& term, const std::vector<ModelTerm>& terms, const CellTable& cells) {
  Index degrees = 0;
  ModelTerm coded = term;
  std::erase_if(coded, [&](size_t factor) { return cells.IsImplied(factor, term); });
  for (size_t mask = 1; mask < size_t{1} << coded.size(); ++mask) {
    ModelTerm effect;
    Index product = 1;
    for (size_t i = 0; i < coded.size(); ++i) {
      if (((mask >> i) & 1) == 0) continue;
      effect.push_back(coded[i]);
      const size_t position = cells.PositionOf(coded[i]);
      product *= static_cast<Index>(cells.own_levels(position)) - 1;
      if (cells.NestingOf(position).nested) effect.push_back(cells.factors[cells.NestingOf(position).outer]);
    }
    std::sort(effect.begin(), effect.end());
    effect.erase(std::unique(effect.begin(), effect.end()), effect.end());
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

void ModelMatrix::FactorCoding::Fill(int32_t level, double* out) const {
  if (level != kAveraged && level == absent) {
    std::fill(out, out + columns(), 0.0);
    return;
  }
  if (!by_contrasts) {
    const bool averaged = level == kAveraged;
    std::fill(out, out + levels, averaged ? 1.0 / static_cast<double>(levels) : 0.0);
    if (!averaged) out[level] = 1.0;
    return;
  }
  // Helmert's: contrast j compares level j + 1 with the mean of those before it. All contrasts average to 0.
  std::fill(out, out + levels - 1, 0.0);
  if (level == kAveraged) return;
  if (level > 0) out[level - 1] = static_cast<double>(level) * scale[static_cast<size_t>(level - 1)];
  for (Index j = level; j < levels - 1; ++j) out[j] = -scale[static_cast<size_t>(j)];
}

ModelMatrix::ModelMatrix(const CellTable& cells, std::vector<ModelTerm> terms)
    : cells_(cells), terms_(std::move(terms)) {
  for (const ModelTerm& term : terms_) {
    std::vector<FactorCoding>& codings = codings_.emplace_back();
    Index count = 1;
    for (const size_t factor : term) {
      if (cells.IsImplied(factor, term)) continue;  // a nested factor's columns are 0 at the other's other levels
      FactorCoding& coding = codings.emplace_back();
      coding.position = cells.PositionOf(factor);
      coding.levels = static_cast<Index>(cells.own_levels(coding.position));
      coding.absent = cells.NestingOf(coding.position).absent;
      ModelTerm margin = term;
      std::erase(margin, factor);
      coding.by_contrasts = IsInModel(margin, terms_);
      const double root = std::sqrt(static_cast<double>(coding.levels));
      for (Index j = 0; coding.by_contrasts && j < coding.levels - 1; ++j) {
        const double k = static_cast<double>(j) + 1.0;
        coding.scale.push_back(root / std::sqrt(k * (k + 1.0)));
      }
      count *= coding.columns();
    }
    columns_.push_back({column_count_, count, NominalDegrees(term, terms_, cells)});
    column_count_ += count;
  }
}

void ModelMatrix::FillTerms(const std::vector<size_t>& terms, const std::vector<int32_t>& level_positions,
                            double* out) const {
  std::vector<double> values;
  for (const size_t t : terms) {
    const std::vector<FactorCoding>& codings = codings_[t];
    if (codings.size() == 1) {
      codings[0].Fill(level_positions[codings[0].position], out);
    } else {
      Index size = 1;
      out[0] = 1.0;
      for (const FactorCoding& coding : codings) {
        const Index width = coding.columns();
        values.resize(static_cast<size_t>(std::max(width, coding.levels)));
        coding.Fill(level_positions[coding.position], values.data());
        for (Index i = size - 1; i >= 0; --i) {  // backwards: the outer product grows in place
          const double value = out[i];
          for (Index j = width - 1; j >= 0; --j) out[i * width + j] = value * values[static_cast<size_t>(j)];
        }
        size *= width;
      }
    }
    out += columns_[t].count;
  }
}

Eigen::RowVectorXd ModelMatrix::Row(const std::vector<int32_t>& level_positions) const {
  Eigen::RowVectorXd row(column_count_);
  row(0) = 1.0;
  std::vector<size_t> all(terms_.size());
  std::iota(all.begin(), all.end(), size_t{0});
  FillTerms(all, level_positions, row.data() + 1);
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

}  // namespace loupe::analysis::stats
