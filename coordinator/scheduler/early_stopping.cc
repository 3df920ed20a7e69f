#include "coordinator/scheduler/early_stopping.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace loupe::coordinator::scheduler {

std::optional<int64_t> EarlyStopping::RungAt(int64_t step) const {
  if (step < rules_.min_steps) return std::nullopt;
  int64_t rung = rules_.min_steps;
  while (rung <= step / rules_.reduction) rung *= rules_.reduction;
  return rung;
}

double EarlyStopping::Loss(double value) const {
  if (!std::isfinite(value)) return std::numeric_limits<double>::infinity();
  return rules_.smaller_is_better ? value : -value;
}

std::optional<RungNote> EarlyStopping::OnPoint(int64_t trial, int64_t step, double value) {
  const std::optional<int64_t> rung = RungAt(step);
  const auto known = trials_.find(trial);
  if (!rung || (known != trials_.end() && known->second.rung >= *rung)) return std::nullopt;
  // What is to end goes no further up: it may be tried again on a worker that is older than this.
  const bool ends_already = known != trials_.end() && known->second.finish_after > 0;
  RungNote note{.trial = trial, .rung = *rung, .value = value};
  Insert(note);
  const std::vector<double>& losses = rungs_.at({trial / cells_, *rung});
  const size_t kept = losses.size() / static_cast<size_t>(rules_.reduction);
  note.stops = !ends_already && kept > 0 && Loss(value) > losses[kept - 1];
  if (note.stops) trials_[trial].finish_after = *rung;
  return note;
}

void EarlyStopping::Insert(const RungNote& note) {
  Trial& trial = trials_[note.trial];
  trial.rung = std::max(trial.rung, note.rung);
  std::vector<double>& losses = rungs_[{note.trial / cells_, note.rung}];
  const double loss = Loss(note.value);
  losses.insert(std::upper_bound(losses.begin(), losses.end(), loss), loss);
}

void EarlyStopping::Restore(const RungNote& note) {
  Insert(note);
  if (note.stops) trials_[note.trial].finish_after = note.rung;
}

int64_t EarlyStopping::FinishAfter(int64_t trial) const {
  const auto found = trials_.find(trial);
  return found == trials_.end() ? 0 : found->second.finish_after;
}

}  // namespace loupe::coordinator::scheduler
