// What `loupe plan` prints.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "analysis/stats/fraction.h"
#include "cli/effect_power.h"
#include "coordinator/plan/plan.h"
#include "coordinator/plan/plan_summary.h"

namespace loupe::cli {

struct TimeEstimate {
  double seconds_per_trial = 0;
  double seconds = 0;  // of the whole sweep
  int workers = 1;
  std::string basis;  // one sentence without its full stop
};

struct PlanView {
  std::string sweep_id;
  const coordinator::plan::Plan* plan = nullptr;  // outlives this
  coordinator::plan::PlanOutlook outlook;
  PowerQuestion question;
  // Standard deviation of one trial's score, where one is known: differences are then given in the score's units too.
  std::optional<double> sigma;
  std::optional<TimeEstimate> estimate;
  // How the cells were chosen (numbers of the plan before it was narrowed), and of how many.
  std::optional<analysis::stats::Fraction> subset;
  int64_t candidate_cells = 0;
  bool list_cells = false;
};

// At most 100 columns, but for the list of cells.
std::string PlanText(const PlanView& view);

// Keys in docs/cli.md.
std::string PlanJson(const PlanView& view);

// The chosen cells' quality and alias table, as part of a text; `candidates` is how many there were to choose from.
std::string ChosenText(const analysis::stats::Fraction& fraction, int64_t candidates);

// "  17: input=SA_in output=FFN_in" and a line break.
std::string CellLine(const coordinator::plan::Plan& plan, int64_t cell);

// One line per cell: its number, its levels, and its place in each replicate's run order (from 1).
std::string PlanCsv(const PlanView& view);

}  // namespace loupe::cli
