// What `mode: search` would have saved, and how often it would have missed the best cell: a finished study's complete
// curves are replayed through the rule (coordinator/scheduler/early_stopping.h), in many orders.
//
//   early_stopping_study DATABASE SWEEP CURVE SCORE minimize|maximize [smaller|larger [ORDERS]]
//
// DATABASE: a coordinator.db, of which a copy will do; CURVE: what the rule sees, and which way is better; SCORE: what
// the sweep is after (smaller is better, or larger: the default). Nothing is trained, so a saved step is one that no
// worker would have had to take; trials of one replicate come to a rung in random order, replicate after replicate
// (workers of one speed, however many, give the orders in which they begin). A cell's score is the mean over its trials
// that had their whole budget; the best cell was missed when another one is thought to be the best, and what is lost
// then is how much worse that one is.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/scheduler/early_stopping.h"
#include "coordinator/store/sqlite_db.h"
#include "fmt/format.h"

namespace loupe::coordinator {
namespace {

struct StudiedTrial {
  int64_t cell = 0;
  std::vector<std::pair<int64_t, double>> curve;  // by step
  double loss = 0;                                // the score, smaller is better
};

struct Study {
  int64_t cells = 0;
  std::map<int64_t, StudiedTrial> trials;  // by index
  int64_t budget = 0;
};

constexpr char kCellsSql[] = "SELECT cell_count FROM sweeps WHERE sweep_id = ?";
constexpr char kTrialsSql[] =
    "SELECT t.trial_index, t.cell_index, c.value FROM trials AS t JOIN sweeps AS s USING (sweep_key) "
    "JOIN scores AS c USING (sweep_key, trial_index) WHERE s.sweep_id = ? AND c.name = ? ORDER BY t.trial_index";
constexpr char kCurvesSql[] =
    "SELECT p.trial_index, p.step, p.value FROM sweeps AS s JOIN results AS r USING (sweep_key) "
    "JOIN metric_points AS p USING (sweep_key, trial_index, epoch) JOIN metric_names AS n USING (metric_id) "
    "WHERE s.sweep_id = ? AND n.name = ? ORDER BY p.trial_index, p.step";

Study Read(store::SqliteDb& db, std::string_view sweep, std::string_view curve, std::string_view score, double sign) {
  Study study;
  bool ok = db.ForEach(
                  kCellsSql, [&](const store::SqliteRow& row) { study.cells = row.Int(0); }, sweep)
                .ok();
  ok &= db.ForEach(
              kTrialsSql,
              [&](const store::SqliteRow& row) {
                study.trials[row.Int(0)] = {.cell = row.Int(1), .curve = {}, .loss = sign * row.Real(2)};
              },
              sweep, score)
            .ok();
  ok &= db.ForEach(
              kCurvesSql,
              [&](const store::SqliteRow& row) {
                const auto trial = study.trials.find(row.Int(0));
                if (trial == study.trials.end()) return;
                trial->second.curve.emplace_back(row.Int(1), row.Real(2));
                study.budget = std::max(study.budget, row.Int(1));
              },
              sweep, curve)
            .ok();
  if (!ok) study.trials.clear();
  return study;
}

// By cell: the mean loss of these trials; cells without one are not in it.
std::map<int64_t, double> CellMeans(const Study& study, const std::vector<int64_t>& trials) {
  std::map<int64_t, std::pair<double, int>> sums;
  for (const int64_t index : trials) {
    const StudiedTrial& trial = study.trials.at(index);
    sums[trial.cell].first += trial.loss;
    ++sums[trial.cell].second;
  }
  std::map<int64_t, double> means;
  for (const auto& [cell, sum] : sums) means[cell] = sum.first / sum.second;
  return means;
}

int64_t BestOf(const std::map<int64_t, double>& means) {
  return std::min_element(means.begin(), means.end(), [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

struct Replayed {
  int64_t steps = 0;
  std::vector<int64_t> whole;  // trials that had their whole budget
};

Replayed Replay(const Study& study, const scheduler::SearchRules& rules, std::mt19937_64& random) {
  std::map<int64_t, std::vector<int64_t>> by_replicate;
  for (const auto& [index, trial] : study.trials) by_replicate[index / study.cells].push_back(index);
  std::vector<int64_t> order;
  for (auto& [replicate, trials] : by_replicate) {
    std::shuffle(trials.begin(), trials.end(), random);
    order.insert(order.end(), trials.begin(), trials.end());
  }
  scheduler::EarlyStopping early(rules, study.cells);
  Replayed result;
  for (const int64_t index : order) {
    int64_t last = study.budget;
    for (const auto& [step, value] : study.trials.at(index).curve) {
      early.OnPoint(index, step, value);
      if (early.FinishAfter(index) == 0 || step == study.budget) continue;
      last = step;
      break;
    }
    result.steps += last;
    if (last == study.budget) result.whole.push_back(index);
  }
  return result;
}

int Main(int argc, char** argv) {
  if (argc < 6) {
    fmt::print(stderr, "early_stopping_study DATABASE SWEEP CURVE SCORE minimize|maximize [smaller|larger [ORDERS]]\n");
    return 2;
  }
  const auto db = store::SqliteDb::Open(argv[1], store::SqliteDb::Mode::kReadOnly, "");
  if (!db.ok()) {
    fmt::print(stderr, "{}\n", std::string(db.status().message()));
    return 1;
  }
  const int orders = argc > 7 ? std::stoi(argv[7]) : 2000;
  const bool smaller = argc > 6 && std::string_view(argv[6]) == "smaller";
  const Study study = Read(**db, argv[2], argv[3], argv[4], smaller ? 1 : -1);
  if (study.trials.empty() || study.budget == 0) {
    fmt::print(stderr, "no trial of '{}' has both {} and {}\n", argv[2], argv[3], argv[4]);
    return 1;
  }
  std::vector<int64_t> all;
  for (const auto& [index, trial] : study.trials) all.push_back(index);
  const std::map<int64_t, double> truth = CellMeans(study, all);
  const int64_t best = BestOf(truth);
  double worst = truth.at(best);
  for (const auto& [cell, mean] : truth) worst = std::max(worst, mean);
  const double range = std::max(worst - truth.at(best), 1e-300);
  fmt::print("{}: {} trials of {} cells, {} steps each; curve {}, score {}; {} orders\n", argv[2], all.size(),
             truth.size(), study.budget, argv[3], argv[4], orders);
  fmt::print(
      "| reduction | first rung | steps saved | best cell missed | lost then, of the range of cells | lost on average "
      "|\n|---|---|---|---|---|---|\n");
  for (const int64_t reduction : {2, 3, 4}) {
    for (const int64_t share : {10, 5, 2}) {
      const scheduler::SearchRules rules{.curve = argv[3],
                                         .smaller_is_better = std::string_view(argv[5]) == "minimize",
                                         .reduction = reduction,
                                         .min_steps = std::max<int64_t>(1, study.budget / share)};
      std::mt19937_64 random(1);
      double steps = 0, missed = 0, regret = 0;
      for (int order = 0; order < orders; ++order) {
        const Replayed replayed = Replay(study, rules, random);
        steps += static_cast<double>(replayed.steps);
        const int64_t chosen = BestOf(CellMeans(study, replayed.whole));
        missed += chosen == best ? 0 : 1;
        regret += (truth.at(chosen) - truth.at(best)) / range;
      }
      const double whole = static_cast<double>(study.budget) * static_cast<double>(all.size()) * orders;
      fmt::print("| {} | {} | {:.0f} % | {:.0f} % | {:.1f} % | {:.1f} % |\n", reduction, rules.min_steps,
                 100 * (1 - steps / whole), 100 * missed / orders, missed == 0 ? 0 : 100 * regret / missed,
                 100 * regret / orders);
    }
  }
  return 0;
}

}  // namespace
}  // namespace loupe::coordinator

int main(int argc, char** argv) { return loupe::coordinator::Main(argc, argv); }
