#include "analysis/stats/model_reduction.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "Eigen/QR"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::analysis::stats {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr Index kMostColumns = 4000;

// The triangular factor of rows that come in pieces, by Householder QR of what has gathered.
class RowReducer {
 public:
  // `expected`: how many rows will be added.
  RowReducer(Index columns, Index expected)
      : columns_(columns), rows_(columns + std::min(expected, 4 * columns + 256), columns) {}

  void Add(const Eigen::Ref<const RowMajor>& piece) {
    for (Index begin = 0; begin < piece.rows();) {
      if (used_ == rows_.rows()) Triangularise();
      const Index count = std::min(piece.rows() - begin, rows_.rows() - used_);
      rows_.middleRows(used_, count) = piece.middleRows(begin, count);
      used_ += count;
      begin += count;
    }
  }

  // [at most `columns`, columns], upper triangular.
  MatrixXd Take() {
    Triangularise();
    return rows_.topRows(used_);
  }

 private:
  void Triangularise() {
    if (used_ == 0) return;
    Eigen::Ref<MatrixXd> filled = rows_.topRows(used_);
    Eigen::HouseholderQR<Eigen::Ref<MatrixXd>> qr(filled);
    used_ = std::min(used_, columns_);
    for (Index j = 0; j + 1 < used_; ++j) rows_.col(j).segment(j + 1, used_ - j - 1).setZero();
  }

  Index columns_;
  MatrixXd rows_;
  Index used_ = 0;
};

// Numbers the combinations that `codes` (one vector per factor, entries below its levels) make, in order of first
// appearance.
std::vector<int32_t> NumberGroups(const std::vector<const std::vector<int32_t>*>& codes,
                                  const std::vector<size_t>& levels, size_t rows, size_t& groups) {
  std::vector<int32_t> group(rows, 0);
  groups = rows == 0 ? 0 : 1;
  for (size_t f = 0; f < codes.size(); ++f) {
    std::vector<int32_t> number(groups * levels[f], -1);
    int32_t next = 0;
    for (size_t row = 0; row < rows; ++row) {
      const size_t key = static_cast<size_t>(group[row]) * levels[f] + static_cast<size_t>((*codes[f])[row]);
      if (number[key] < 0) number[key] = next++;
      group[row] = number[key];
    }
    groups = static_cast<size_t>(next);
  }
  return group;
}

// Rows of the problem at one stage: cells, or means over the factors that are gone.
struct Stage {
  std::vector<std::vector<int32_t>> codes;  // per factor of the cells; those that are gone are empty
  VectorXd n;
  VectorXd y;
  RowMajor x;  // [rows, columns of the terms with a factor that is gone], in the order of `terms`
  std::vector<size_t> terms;

  size_t rows() const { return static_cast<size_t>(n.size()); }
};

}  // namespace

absl::StatusOr<ModelReduction> ModelReduction::Create(const ModelMatrix& model, const CellTable& cells) {
  ModelReduction reduction(model, cells);
  reduction.ChooseInside();
  Index outside = 0;
  for (const size_t t : reduction.outside_) outside += model.columns()[t].count;
  if (outside > kMostColumns) {
    return absl::InvalidArgumentError(
        fmt::format("the model has {} columns, more than {}; leave out interactions between factors with many levels",
                    model.column_count(), kMostColumns));
  }
  reduction.Reduce();
  reduction.KeepIndependent();
  return reduction;
}

// The set with the most combinations that occur. All subsets of S are terms.
void ModelReduction::ChooseInside() {
  const std::vector<ModelTerm>& terms = model_->terms();
  size_t most = 1;
  for (const ModelTerm& term : terms) {
    if (term.size() > 10) continue;
    // A nested factor's columns are 0 where it does not exist: they do not span the indicators.
    if (std::any_of(term.begin(), term.end(),
                    [&](size_t factor) { return cells_->NestingOf(cells_->PositionOf(factor)).nested; })) {
      continue;
    }
    std::vector<size_t> set;
    double combinations = 1;
    for (const size_t factor : term) {
      set.push_back(static_cast<size_t>(std::find(cells_->factors.begin(), cells_->factors.end(), factor) -
                                        cells_->factors.begin()));
      combinations *= static_cast<double>(cells_->levels(set.back()));
    }
    // Those that do not occur are held too, where they are not much more than the data.
    constexpr double kMostPerCell = 4;
    if (combinations > kMostPerCell * static_cast<double>(cells_->cells()) ||
        combinations <= static_cast<double>(most)) {
      continue;
    }
    const auto subsets = std::count_if(
        terms.begin(), terms.end(), [&](const ModelTerm& other) { return other == term || IsContained(other, term); });
    if (static_cast<size_t>(subsets) + 1 != size_t{1} << term.size()) continue;
    std::vector<const std::vector<int32_t>*> codes;
    std::vector<size_t> levels;
    for (const size_t position : set) {
      codes.push_back(&cells_->codes[position]);
      levels.push_back(cells_->levels(position));
    }
    size_t groups = 0;
    std::vector<int32_t> group = NumberGroups(codes, levels, cells_->cells(), groups);
    if (groups <= most) continue;
    most = groups;
    set_ = set;
    group_of_cell_ = std::move(group);
  }
  if (set_.empty()) group_of_cell_.assign(cells_->cells(), 0);
  group_levels_.assign(most, std::vector<int32_t>(cells_->factors.size(), ModelMatrix::kAveraged));
  for (size_t cell = 0; cell < cells_->cells(); ++cell) {
    for (const size_t position : set_) {
      group_levels_[static_cast<size_t>(group_of_cell_[cell])][position] = cells_->codes[position][cell];
    }
  }
  FindMissingGroups();
  columns_.resize(terms.size());
  Index at = 0;
  for (size_t t = 0; t < terms.size(); ++t) {
    const bool within = std::all_of(terms[t].begin(), terms[t].end(), [&](size_t factor) {
      return std::any_of(set_.begin(), set_.end(),
                         [&](size_t position) { return cells_->factors[position] == factor; });
    });
    (within ? inside_ : outside_).push_back(t);
    columns_[t] = model_->columns()[t];
    if (within) continue;
    columns_[t].first = at;
    at += columns_[t].count;
  }
}

void ModelReduction::FindMissingGroups() {
  double combinations = 1;
  for (const size_t position : set_) combinations *= static_cast<double>(cells_->levels(position));
  if (combinations == static_cast<double>(group_levels_.size())) return;
  const std::set<std::vector<int32_t>> occurring(group_levels_.begin(), group_levels_.end());
  std::vector<int32_t> at(cells_->factors.size(), ModelMatrix::kAveraged);
  for (const size_t position : set_) at[position] = 0;
  // An odometer over S.
  for (size_t wheel = 0; wheel < set_.size();) {
    if (!occurring.contains(at)) missing_groups_.push_back(at);
    for (wheel = 0; wheel < set_.size(); ++wheel) {
      if (++at[set_[wheel]] < static_cast<int32_t>(cells_->levels(set_[wheel]))) break;
      at[set_[wheel]] = 0;
    }
  }
}

bool ModelReduction::IsInside(size_t term) const { return std::binary_search(inside_.begin(), inside_.end(), term); }

void ModelReduction::Reduce() {
  const std::vector<ModelTerm>& terms = model_->terms();
  const size_t factor_count = cells_->factors.size();
  Index q = 0;
  for (const size_t t : outside_) q += columns_[t].count;
  RowReducer all(q + 1, q + 1);
  lengths_ = VectorXd::Zero(q);

  Stage stage;
  stage.codes = cells_->codes;
  stage.n = Eigen::Map<const VectorXd>(cells_->n.data(), static_cast<Index>(cells_->cells()));
  stage.y = Eigen::Map<const VectorXd>(cells_->mean.data(), static_cast<Index>(cells_->cells()));
  std::vector<size_t> left;  // factors outside S that still have to go, those with most levels first
  for (size_t f = 0; f < factor_count; ++f) {
    if (std::find(set_.begin(), set_.end(), f) == set_.end()) left.push_back(f);
  }
  std::stable_sort(left.begin(), left.end(), [&](size_t a, size_t b) { return cells_->levels(a) > cells_->levels(b); });
  std::vector<size_t> remaining = set_;
  remaining.insert(remaining.end(), left.rbegin(), left.rend());

  for (const size_t gone : left) {
    remaining.pop_back();
    // Columns that vary within the groups of this stage: carried ones, and those of terms that have `gone`.
    std::vector<size_t> fresh;
    for (const size_t t : outside_) {
      const bool has = std::find(terms[t].begin(), terms[t].end(), cells_->factors[gone]) != terms[t].end();
      if (has && std::find(stage.terms.begin(), stage.terms.end(), t) == stage.terms.end()) fresh.push_back(t);
    }
    Index fresh_columns = 0;
    for (const size_t t : fresh) fresh_columns += columns_[t].count;
    const Index carried = stage.x.cols(), width = carried + fresh_columns;
    std::vector<size_t> varying = stage.terms;
    varying.insert(varying.end(), fresh.begin(), fresh.end());

    std::vector<const std::vector<int32_t>*> codes;
    std::vector<size_t> levels;
    for (const size_t f : remaining) {
      codes.push_back(&stage.codes[f]);
      levels.push_back(cells_->levels(f));
    }
    size_t groups = 0;
    const std::vector<int32_t> group = NumberGroups(codes, levels, stage.rows(), groups);
    std::vector<size_t> begin(groups + 1, 0), order(stage.rows());
    for (const int32_t g : group) ++begin[static_cast<size_t>(g) + 1];
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    std::vector<size_t> next(begin.begin(), begin.end() - 1);
    for (size_t row = 0; row < group.size(); ++row) order[next[static_cast<size_t>(group[row])]++] = row;

    Stage means;
    means.codes.resize(factor_count);
    means.n = VectorXd::Zero(static_cast<Index>(groups));
    means.y = VectorXd::Zero(static_cast<Index>(groups));
    means.x = RowMajor::Zero(static_cast<Index>(groups), width);
    means.terms = varying;
    for (const size_t f : remaining) means.codes[f].resize(groups);
    RowReducer within(width + 1, static_cast<Index>(stage.rows()));
    RowMajor piece;
    std::vector<int32_t> at(factor_count, ModelMatrix::kAveraged);
    VectorXd fresh_squares = VectorXd::Zero(fresh_columns);
    for (size_t g = 0; g < groups; ++g) {
      const auto out = static_cast<Index>(g);
      const auto count = static_cast<Index>(begin[g + 1] - begin[g]);
      piece.resize(count, width + 1);
      for (Index i = 0; i < count; ++i) {
        const size_t row = order[begin[g] + static_cast<size_t>(i)];
        const double n = stage.n(static_cast<Index>(row));
        if (carried > 0) piece.row(i).head(carried) = stage.x.row(static_cast<Index>(row));
        for (size_t f = 0; f < factor_count; ++f) {
          if (!stage.codes[f].empty()) at[f] = stage.codes[f][row];
        }
        model_->FillTerms(fresh, at, piece.row(i).data() + carried);
        piece(i, width) = stage.y(static_cast<Index>(row));
        means.n(out) += n;
        means.x.row(out) += n * piece.row(i).head(width);
        means.y(out) += n * piece(i, width);
        fresh_squares += n * piece.row(i).segment(carried, fresh_columns).transpose().cwiseAbs2();
      }
      means.x.row(out) /= means.n(out);
      means.y(out) /= means.n(out);
      for (const size_t f : remaining) means.codes[f][g] = stage.codes[f][order[begin[g]]];
      if (count == 1) continue;  // no deviation
      for (Index i = 0; i < count; ++i) {
        const double root = std::sqrt(stage.n(static_cast<Index>(order[begin[g] + static_cast<size_t>(i)])));
        piece.row(i).head(width) = root * (piece.row(i).head(width) - means.x.row(out));
        piece(i, width) = root * (piece(i, width) - means.y(out));
      }
      within.Add(piece);
    }
    Index from = 0;
    for (const size_t t : fresh) {
      lengths_.segment(columns_[t].first, columns_[t].count) =
          fresh_squares.segment(from, columns_[t].count).cwiseSqrt();
      from += columns_[t].count;
    }
    // What the stage leaves, put where its columns belong.
    const MatrixXd triangle = within.Take();
    RowMajor placed = RowMajor::Zero(triangle.rows(), q + 1);
    from = 0;
    for (const size_t t : varying) {
      placed.middleCols(columns_[t].first, columns_[t].count) = triangle.middleCols(from, columns_[t].count);
      from += columns_[t].count;
    }
    placed.col(q) = triangle.col(width);
    all.Add(placed);
    stage = std::move(means);
  }

  const MatrixXd triangle = all.Take();
  const Index m = std::min(triangle.rows(), q);
  r_ = triangle.topLeftCorner(m, q);
  qty_ = triangle.col(q).head(m);
  lack_of_fit_sum_sq_ = triangle.rows() > q ? triangle(q, q) * triangle(q, q) : 0.0;
  // Stage by stage the groups were numbered anew: back to the numbers of group_of_cell_.
  const auto group_count = static_cast<Index>(group_levels_.size());
  std::vector<Index> row_of(stage.rows());
  if (!set_.empty()) {
    std::map<std::vector<int32_t>, Index> known;
    for (Index g = 0; g < group_count; ++g) known.emplace(group_levels_[static_cast<size_t>(g)], g);
    std::vector<int32_t> at(factor_count, ModelMatrix::kAveraged);
    for (size_t row = 0; row < stage.rows(); ++row) {
      for (const size_t f : set_) at[f] = stage.codes[f][row];
      row_of[row] = known.at(at);
    }
  }
  group_n_.resize(group_count);
  group_mean_.resize(group_count);
  group_rows_.resize(group_count, q);
  for (size_t row = 0; row < stage.rows(); ++row) {
    group_n_(row_of[row]) = stage.n(static_cast<Index>(row));
    group_mean_(row_of[row]) = stage.y(static_cast<Index>(row));
    Index from = 0;
    for (const size_t t : stage.terms) {
      group_rows_.block(row_of[row], columns_[t].first, 1, columns_[t].count) =
          stage.x.block(static_cast<Index>(row), from, 1, columns_[t].count);
      from += columns_[t].count;
    }
  }
}

void ModelReduction::KeepIndependent() {
  const Index q = r_.cols();
  is_triangular_ = r_.rows() == q;
  for (Index j = 0; j < q && is_triangular_; ++j) is_triangular_ = std::abs(r_(j, j)) > kRankTolerance * lengths_(j);
  if (is_triangular_) {
    kept_.resize(static_cast<size_t>(q));
    std::iota(kept_.begin(), kept_.end(), Index{0});
    return;
  }
  OrderedProjection full(r_, qty_, lengths_);
  full.Add(0, q);
  kept_ = full.kept();
  const auto rank = static_cast<Index>(kept_.size());
  if (rank == r_.rows()) return;
  if (rank == 0) {
    lack_of_fit_sum_sq_ += qty_.squaredNorm();
    r_.resize(0, q);
    qty_.resize(0);
    return;
  }
  const Eigen::HouseholderQR<MatrixXd> qr(MatrixXd(r_(Eigen::all, kept_)));
  r_ = MatrixXd(qr.householderQ().adjoint() * r_).topRows(rank).eval();
  const VectorXd turned = qr.householderQ().adjoint() * qty_;
  lack_of_fit_sum_sq_ += turned.tail(turned.size() - rank).squaredNorm();
  qty_ = turned.head(rank);
}

ModelReduction::Rows ModelReduction::RowsOf(const std::vector<size_t>& terms) const {
  Rows rows;
  Index columns = 1;
  for (const size_t t : terms) {
    rows.first.push_back(columns);
    columns += columns_[t].count;
  }
  const Index top = groups();
  rows.x = MatrixXd::Zero(top + r_.rows(), columns);
  rows.response.resize(rows.x.rows());
  rows.response << group_mean_, qty_;
  rows.lengths = VectorXd::Zero(columns);
  rows.lengths(0) = std::sqrt(group_n_.sum());
  std::vector<double> values;
  for (Index g = 0; g < top; ++g) {
    const double root = std::sqrt(group_n_(g));
    rows.x(g, 0) = root;
    rows.response(g) *= root;
    for (size_t i = 0; i < terms.size(); ++i) {
      const Index count = columns_[terms[i]].count;
      if (IsInside(terms[i])) {
        values.resize(static_cast<size_t>(count));
        model_->FillTerms({terms[i]}, group_levels(g), values.data());
        for (Index j = 0; j < count; ++j) rows.x(g, rows.first[i] + j) = root * values[static_cast<size_t>(j)];
      } else {
        rows.x.block(g, rows.first[i], 1, count) = root * group_rows_.block(g, columns_[terms[i]].first, 1, count);
      }
    }
  }
  for (size_t i = 0; i < terms.size(); ++i) {
    const TermColumns own = columns_[terms[i]];
    if (IsInside(terms[i])) {
      rows.lengths.segment(rows.first[i], own.count) =
          rows.x.middleCols(rows.first[i], own.count).colwise().norm().transpose();
    } else {
      rows.x.block(top, rows.first[i], r_.rows(), own.count) = r_.middleCols(own.first, own.count);
      rows.lengths.segment(rows.first[i], own.count) = lengths_.segment(own.first, own.count);
    }
  }
  return rows;
}

// The part of Qᵀy along a term after all other columns: span(R⁻ᵀ E) is what of the column space is orthogonal to the
// others.
OrderedProjection::Gain ModelReduction::TestLast(size_t term) const {
  const TermColumns own = columns_[term];
  const Index tail = r_.cols() - own.first;
  MatrixXd w = MatrixXd::Zero(tail, own.count);
  w.topRows(own.count).setIdentity();
  r_.bottomRightCorner(tail, tail).transpose().triangularView<Eigen::Lower>().solveInPlace(w);
  const Eigen::HouseholderQR<MatrixXd> qr(w);
  const VectorXd turned = qr.householderQ().adjoint() * qty_.tail(tail);
  return {.rank = own.count, .sum_sq = turned.head(own.count).squaredNorm()};
}

OrderedProjection::Gain ModelReduction::Test(size_t term, const std::vector<size_t>& after) const {
  std::vector<bool> in(model_->terms().size(), false);
  for (const size_t t : after) in[t] = true;
  const size_t in_count = static_cast<size_t>(std::count(in.begin(), in.end(), true));
  const bool is_last = in_count + 1 == in.size() && !in[term];
  const bool absorbs = std::all_of(inside_.begin(), inside_.end(), [&](size_t t) { return in[t]; });
  if (absorbs && is_last && is_triangular_) return TestLast(term);
  if (absorbs && !IsInside(term)) {
    OrderedProjection projection(r_, qty_, lengths_);
    for (const size_t t : after) {
      if (!IsInside(t)) projection.Add(columns_[t].first, columns_[t].count);
    }
    return projection.Add(columns_[term].first, columns_[term].count);
  }
  std::vector<size_t> terms = after;
  if (!is_last) terms.push_back(term);
  const Rows rows = RowsOf(terms);
  OrderedProjection projection(rows.x, rows.response, rows.lengths);
  const Index own = is_last ? 0 : columns_[term].count;
  projection.Add(0, rows.x.cols() - own);
  // The rows are as many as the rank: after all other columns, all that is left of y is the last term's.
  if (is_last) return {.rank = rank() - projection.rank(), .sum_sq = projection.residual_sum_sq()};
  return projection.Add(rows.x.cols() - own, own);
}

std::vector<std::pair<size_t, double>> ModelReduction::SingleColumns(size_t first_term) const {
  std::vector<std::pair<size_t, double>> effects;
  // Where S is what comes first, its columns need no look.
  const bool absorbs = std::all_of(inside_.begin(), inside_.end(), [&](size_t t) { return t < first_term; });
  std::vector<size_t> terms(model_->terms().size());
  std::iota(terms.begin(), terms.end(), size_t{0});
  const Rows rows = absorbs ? Rows{} : RowsOf(terms);
  if (absorbs) terms = outside_;
  OrderedProjection projection(absorbs ? r_ : rows.x, absorbs ? qty_ : rows.response,
                               absorbs ? lengths_ : rows.lengths);
  if (!absorbs) projection.Add(0, 1);
  for (size_t i = 0; i < terms.size(); ++i) {
    const TermColumns own = columns_[terms[i]];
    const Index first = absorbs ? own.first : rows.first[i];
    if (terms[i] < first_term) {
      projection.Add(first, own.count);
      continue;
    }
    for (Index j = 0; j < own.count; ++j) {
      const OrderedProjection::Gain gain = projection.Add(first + j, 1);
      if (gain.rank > 0) effects.emplace_back(terms[i], gain.sum_sq);
    }
  }
  return effects;
}

Reduced ModelReduction::Whole() const {
  std::vector<size_t> terms(model_->terms().size());
  std::iota(terms.begin(), terms.end(), size_t{0});
  Rows rows = RowsOf(terms);
  return Reduced{std::move(rows.x), std::move(rows.response), lack_of_fit_sum_sq_};
}

}  // namespace loupe::analysis::stats
