// Which trials of a search are ended early: asynchronous successive halving in its stopping form (Li et al. 2020, A
// System for Massively Parallel Hyperparameter Tuning, arXiv 1810.05934, §3; "stopping" as in Syne Tune's ASHA: nothing
// is paused, and nobody waits for others).
//
// Rungs stand at min_steps · reduction^k steps. A trial that comes to one is compared with those of its replicate that
// were there before it, which saw the same noise and the same pictures: it goes on where its curve is among the best
// 1/reduction of all of them, itself included, and where fewer than `reduction` have come so far.
//
// A decision depends on the values that were noted before, in their order, and on nothing else; each is noted once.
// Noted values and decisions are stored with the points that they come from, so that a restart changes none of them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "coordinator/scheduler/model.h"

namespace loupe::coordinator::scheduler {

// That a trial has come to a rung. Stored.
struct RungNote {
  int64_t trial = 0;
  int64_t rung = 0;  // its steps
  double value = 0;
  bool stops = false;
};

// Of one sweep. Not thread-safe.
class EarlyStopping {
 public:
  EarlyStopping(const SearchRules& rules, int64_t cells) : rules_(rules), cells_(cells) {}

  const SearchRules& rules() const { return rules_; }

  // A point of a trial's curve: what is to be noted, when it is the trial's first at or beyond a rung (of several
  // rungs, the highest). A repeated or older point says nothing new.
  std::optional<RungNote> OnPoint(int64_t trial, int64_t step, double value);
  // What was stored, in any order.
  void Restore(const RungNote& note);

  // The step after which a trial is to train no more; 0: it has its whole budget.
  int64_t FinishAfter(int64_t trial) const;

 private:
  // The highest rung at or before `step`; nothing before the first.
  std::optional<int64_t> RungAt(int64_t step) const;
  // Smaller is better; a value that is no number is the worst.
  double Loss(double value) const;
  void Insert(const RungNote& note);

  struct Trial {
    int64_t rung = 0;  // the highest one it has come to
    int64_t finish_after = 0;
  };

  const SearchRules rules_;
  const int64_t cells_;
  std::map<int64_t, Trial> trials_;
  // By (replicate, rung): the losses noted, rising.
  std::map<std::pair<int64_t, int64_t>, std::vector<double>> rungs_;
};

}  // namespace loupe::coordinator::scheduler
