// Tables at the edge of what can be analysed: empty, constant, exactly reproduced, huge, tiny, with holes.
#pragma once

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "analysis/stats/data_table.h"
#include "fmt/format.h"
#include "gtest/gtest.h"

namespace loupe::analysis::report {

// `levels_a` × `levels_b` cells × `replicates`, y given by (a, b, replicate).
inline stats::DataTable Grid(int levels_a, int levels_b, int replicates,
                             const std::function<double(int, int, int)>& y) {
  stats::DataTableBuilder builder("y", {{"a", {}}, {"b", {}}, {"replicate", {}}});
  for (int r = 0; r < replicates; ++r) {
    for (int a = 0; a < levels_a; ++a) {
      for (int b = 0; b < levels_b; ++b) {
        EXPECT_TRUE(
            builder.AddRow({fmt::format("a{}", a), fmt::format("b{}", b), fmt::format("{}", r)}, y(a, b, r)).ok());
      }
    }
  }
  return std::move(builder).Build();
}

inline double Noise(int a, int b, int r) { return std::sin(17.0 * a + 5.3 * b * b + 29.1 * r + 1); }

struct DegenerateTable {
  std::string name;
  stats::DataTable table;
};

inline std::vector<DegenerateTable> DegenerateTables() {
  constexpr double kHuge = 1e308, kTiny = std::numeric_limits<double>::denorm_min(),
                   kNaN = std::numeric_limits<double>::quiet_NaN();
  std::vector<DegenerateTable> cases;
  const auto add = [&](const std::string& name, int a, int b, int r, const std::function<double(int, int, int)>& y) {
    cases.push_back({name, Grid(a, b, r, y)});
  };
  add("no rows", 0, 0, 0, Noise);
  add("one row", 1, 1, 1, Noise);
  add("one level", 1, 3, 3, Noise);
  add("constant", 3, 3, 3, [](int, int, int) { return 0.1; });
  add("all missing", 3, 3, 3, [&](int, int, int) { return kNaN; });
  add("a alone gives y", 3, 3, 3, [](int a, int, int) { return 0.1 * a + 0.3; });
  add("replicate alone gives y", 3, 3, 3, [](int, int, int r) { return 0.1 * r + 0.3; });
  add("main effects give y", 3, 3, 3, [](int a, int b, int) { return 0.1 * a + 0.7 * b + 1; });
  add("products give y", 3, 3, 3, [](int a, int b, int) { return std::exp(0.3 * a + 0.7 * b); });
  add("one replicate", 3, 3, 1, Noise);
  add("two values", 3, 3, 3, [](int a, int b, int r) { return Noise(a, b, r) > 0 ? 1.0 : 2.0; });
  add("±1e308", 3, 3, 3, [&](int a, int b, int r) { return (a + b + r) % 2 == 0 ? kHuge : -kHuge; });
  add("near 1e308", 3, 3, 3, [&](int a, int b, int r) { return kHuge * (1 + 0.1 * Noise(a, b, r)); });
  add("denormals", 3, 3, 3, [&](int a, int b, int r) { return kTiny * std::round(1000 * (2 + Noise(a, b, r))); });
  add("twenty decades", 3, 3, 3, [](int a, int b, int r) { return std::pow(10, 10 * Noise(a, b, r)); });
  add("one huge value", 3, 3, 3, [&](int a, int b, int r) { return a + b + r == 0 ? kHuge : 1 + Noise(a, b, r); });
  add("rounding of a constant", 3, 3, 3,
      [](int a, int b, int r) { return 0.3 + ((a + b + r) % 2 == 0 ? 1e-17 : 5.6e-17); });
  stats::DataTable twice = Grid(3, 3, 3, Noise);
  twice.factors[1].codes = twice.factors[0].codes;
  cases.push_back({"a factor twice", twice});
  stats::DataTable holes =
      Grid(4, 4, 2, [&](int a, int b, int r) { return a == b || a == b + 1 ? Noise(a, b, r) : kNaN; });
  cases.push_back({"empty cells", holes});
  return cases;
}

}  // namespace loupe::analysis::report
