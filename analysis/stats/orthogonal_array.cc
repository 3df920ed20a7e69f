#include "analysis/stats/orthogonal_array.h"

#include <algorithm>
#include <array>

namespace loupe::analysis::stats {
namespace {

// GF(p^k) with elements 0 … q − 1, an element's base-p digits being the coefficients of its polynomial.
class GaloisField {
 public:
  // `reduction`: base-p digits of −(x^k mod the irreducible polynomial) negated, i.e. what x^k equals.
  GaloisField(int p, int k, int x_to_k) : p_(p), k_(k), x_to_k_(x_to_k) {
    q_ = 1;
    for (int i = 0; i < k; ++i) q_ *= p;
  }

  int size() const { return q_; }

  int Add(int a, int b) const {
    int sum = 0;
    for (int place = 1; place < q_; place *= p_) sum += ((a / place + b / place) % p_) * place;
    return sum;
  }

  int Multiply(int a, int b) const {
    int product = 0;
    for (int place = q_ / p_; place >= 1; place /= p_) {  // Horner over b's digits, highest first
      product = TimesX(product);
      for (int i = 0; i < (b / place) % p_; ++i) product = Add(product, a);
    }
    return product;
  }

 private:
  int TimesX(int a) const {
    if (k_ == 1) return 0;  // one digit only: Horner has a single step
    const int top = a / (q_ / p_);
    int shifted = (a % (q_ / p_)) * p_;
    for (int i = 0; i < top; ++i) shifted = Add(shifted, x_to_k_);
    return shifted;
  }

  int p_, k_, x_to_k_, q_;
};

// x² = x + 1 in GF(4); x³ = x + 1 in GF(8); x⁴ = x + 1 in GF(16); x² = 2 (= −1) in GF(9).
const std::array<GaloisField, 10>& Fields() {
  static const std::array<GaloisField, 10> fields{
      GaloisField(2, 1, 0), GaloisField(3, 1, 0), GaloisField(2, 2, 3),  GaloisField(5, 1, 0),  GaloisField(7, 1, 0),
      GaloisField(2, 3, 3), GaloisField(3, 2, 2), GaloisField(11, 1, 0), GaloisField(13, 1, 0), GaloisField(2, 4, 3)};
  return fields;
}

// Coefficient vectors of the linear forms, one per point of the projective space: first non-zero entry 1.
std::vector<std::vector<int>> ProjectivePoints(int s, int n) {
  std::vector<std::vector<int>> points;
  for (int lead = 0; lead < n; ++lead) {
    int count = 1;
    for (int i = lead + 1; i < n; ++i) count *= s;
    for (int code = 0; code < count; ++code) {
      std::vector<int> point(static_cast<size_t>(n), 0);
      point[static_cast<size_t>(lead)] = 1;
      int rest = code;
      for (int i = lead + 1; i < n; ++i, rest /= s) point[static_cast<size_t>(i)] = rest % s;
      points.push_back(std::move(point));
    }
  }
  return points;
}

struct Plan {
  const GaloisField* field = nullptr;
  int dimension = 0;
  size_t copies = 1;
  size_t runs = 0;
};

std::optional<Plan> PlanOver(const GaloisField& field, const std::vector<int32_t>& levels, size_t max_runs) {
  Plan plan{.field = &field};
  const int s = field.size();
  for (const int32_t count : levels) {
    if (s % count == 0) continue;
    if (count % s != 0 || plan.copies > 1) return std::nullopt;
    plan.copies = static_cast<size_t>(count / s);
  }
  size_t runs = 1;
  size_t columns = 0;
  while (columns < levels.size()) {
    columns += runs;
    runs *= static_cast<size_t>(s);
    ++plan.dimension;
    if (runs * plan.copies > max_runs) return std::nullopt;
  }
  plan.runs = runs * plan.copies;
  return plan;
}

}  // namespace

std::optional<std::vector<std::vector<int32_t>>> FindOrthogonalArray(const std::vector<int32_t>& levels,
                                                                     size_t max_runs) {
  std::optional<Plan> best;
  for (const GaloisField& field : Fields()) {
    const std::optional<Plan> plan = PlanOver(field, levels, max_runs);
    if (plan && (!best || plan->runs < best->runs)) best = plan;
  }
  if (!best) return std::nullopt;
  const GaloisField& field = *best->field;
  const int s = field.size();
  const std::vector<std::vector<int>> points = ProjectivePoints(s, best->dimension);
  std::vector<std::vector<int32_t>> rows;
  for (size_t copy = 0; copy < best->copies; ++copy) {
    for (size_t run = 0; run < best->runs / best->copies; ++run) {
      std::vector<int32_t>& row = rows.emplace_back();
      for (size_t column = 0; column < levels.size(); ++column) {
        int value = 0;
        size_t rest = run;
        for (const int coefficient : points[column]) {
          value = field.Add(value, field.Multiply(coefficient, static_cast<int>(rest % static_cast<size_t>(s))));
          rest /= static_cast<size_t>(s);
        }
        const bool is_large = levels[column] > s;
        row.push_back(is_large ? static_cast<int32_t>(copy) * s + value : value % levels[column]);
      }
    }
  }
  return rows;
}

}  // namespace loupe::analysis::stats
