// How few of the 320 adapter cells give the same F ranking as all of them, on a made-up truth with known effects.
//
//   fraction_study [REPEATS] [SIGMA]        defaults: 200 repeats, noise 0.015
//
// Truth: score = 0.80 + input + output + activation + scale + a small activation × scale interaction + noise,
// with input strongest, then activation, scale, output. Each repeat draws fresh noise, analyses all 320 cells (Type II
// main effects), then only the chosen ones. Columns: mean Spearman correlation of the four F's with the full design's
// own, how often they come in the same order, how often the first factor agrees, and how often every factor that the
// full design finds (p < 0.05) is found. The line "random" is a subset picked by chance, for comparison.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "analysis/stats/anova.h"
#include "analysis/stats/fraction.h"
#include "analysis/stats/random_stream.h"
#include "analysis/stats/rank.h"
#include "fmt/format.h"
#include "tests/testing/adapter_candidates.h"

namespace {

using namespace loupe::analysis;

constexpr double kInput[] = {0.000, 0.018, 0.012, 0.030, 0.048, 0.020, 0.006, -0.014, -0.016, -0.036};
constexpr double kOutput[] = {0.000, 0.001, 0.000, 0.005, -0.003, 0.000, -0.002};
constexpr double kActivation[] = {0.002, -0.012, 0.010, 0.000};
constexpr double kScale[] = {-0.002, 0.003, 0.004, -0.005};

double Truth(const std::vector<int32_t>& cell) {
  const double interaction = cell[2] == 2 && cell[3] == 3 ? 0.004 : 0.0;
  return 0.8 + kInput[cell[0]] + kOutput[cell[1]] + kActivation[cell[2]] + kScale[cell[3]] + interaction;
}

std::vector<stats::AnovaTerm> Analyse(const stats::Candidates& candidates, const std::vector<size_t>& chosen,
                                      const std::vector<double>& y) {
  stats::DataTable data;
  data.response_name = "score";
  for (const stats::DesignFactor& factor : candidates.factors) data.factors.push_back({factor.name, factor.levels, {}});
  std::vector<double> values;
  for (const size_t cell : chosen) {
    for (size_t f = 0; f < data.factors.size(); ++f) data.factors[f].codes.push_back(candidates.cells[cell][f]);
    values.push_back(y[cell]);
  }
  stats::SetResponse(data, std::move(values));
  const auto table = stats::FitAnova(data, {});
  if (!table.ok()) {
    fmt::print(stderr, "{}\n", std::string(table.status().message()));
    std::exit(1);
  }
  return table->terms;
}

std::vector<size_t> OrderByF(const std::vector<stats::AnovaTerm>& terms) {
  std::vector<size_t> order{0, 1, 2, 3};
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return terms[a].f > terms[b].f; });
  return order;
}

}  // namespace

namespace {

struct Line {
  double rho = 0, same_order = 0, same_first = 0, finds = 0;
};

Line Study(const stats::Candidates& candidates, const std::vector<size_t>& chosen, int repeats, double sigma) {
  std::vector<size_t> all(candidates.cells.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  stats::RandomStream random(7);
  Line line;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    std::vector<double> y;
    for (const auto& cell : candidates.cells) y.push_back(Truth(cell) + sigma * random.Normal());
    const std::vector<stats::AnovaTerm> full = Analyse(candidates, all, y);
    const std::vector<stats::AnovaTerm> part = Analyse(candidates, chosen, y);
    std::vector<double> full_f, part_f;
    bool found = true;
    for (size_t t = 0; t < full.size(); ++t) {
      full_f.push_back(full[t].f);
      part_f.push_back(part[t].f);
      found = found && (full[t].p >= 0.05 || part[t].p < 0.05);
    }
    line.rho += stats::SpearmanAgreement(full_f, part_f)->rho / repeats;
    line.same_order += OrderByF(full) == OrderByF(part) ? 100.0 / repeats : 0.0;
    line.same_first += OrderByF(full)[0] == OrderByF(part)[0] ? 100.0 / repeats : 0.0;
    line.finds += found ? 100.0 / repeats : 0.0;
  }
  return line;
}

void Print(size_t trials, const std::string& method, const stats::DesignQuality& quality, const Line& line) {
  fmt::print("{:>6}  {:<16}  {:>6.3f}  {:>11.0f}  {:>6.2f}  {:>8.0f} %  {:>8.0f} %  {:>13.0f} %\n", trials, method,
             quality.d_efficiency, quality.residual_df, line.rho, line.same_order, line.same_first, line.finds);
}

}  // namespace

int main(int argc, char** argv) {
  const int repeats = argc > 1 ? std::stoi(argv[1]) : 200;
  const double sigma = argc > 2 ? std::stod(argv[2]) : 0.015;
  const stats::Candidates candidates = AdapterCandidates();
  const auto model = stats::DesignModel::Create(candidates, "");
  if (!model.ok()) return 1;
  fmt::print("trials  method            D-eff.  residual df     rho  same order  same first  finds all found\n");
  for (const size_t trials : {24u, 32u, 48u, 64u, 80u, 96u, 128u, 160u, 240u, 320u}) {
    const auto fraction = stats::ChooseFraction(candidates, {.trials = trials, .restarts = 5});
    if (!fraction.ok()) {
      fmt::print(stderr, "{}\n", std::string(fraction.status().message()));
      return 1;
    }
    Print(trials, fraction->method, fraction->quality, Study(candidates, fraction->chosen, repeats, sigma));
    if (trials != 96) continue;
    std::vector<size_t> random(candidates.cells.size());
    for (size_t i = 0; i < random.size(); ++i) random[i] = i;
    stats::RandomStream(3).Shuffle(random);
    random.resize(trials);
    Print(trials, "random", stats::AssessDesign(*model, random), Study(candidates, random, repeats, sigma));
  }
}
