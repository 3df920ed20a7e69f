// Chooses which cells to run: an orthogonal array where one fits, else a D-optimal selection; and adds cells to a
// design that has been run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analysis/stats/design.h"

namespace loupe::analysis::stats {

struct FractionOptions {
  std::string formula;              // terms that must be estimable; empty: all main effects
  size_t trials = 0;                // cells to choose
  uint64_t seed = 1;                // of the random starts; the same seed gives the same cells
  int restarts = 10;                // the best of so many searches is taken
  std::vector<size_t> already_run;  // candidates that count as run (may repeat) and are not chosen again: augmentation
};

struct Fraction {
  std::string method;                  // "full design", "orthogonal array" or "D-optimal"
  std::vector<size_t> chosen;          // candidate indices, ascending; without those already run
  DesignQuality quality;               // of chosen and already run together
  std::vector<std::string> sentences;  // what was done and what else there is, in words
};

// InvalidArgument: as DesignModel::Create; more trials than candidates that are left; fewer trials in all than the
// model has parameters (the sentence gives both).
//
// D-optimal: greedy start from a random order, then Fedorov's exchange (1972) with every candidate until no single swap
// enlarges |XᵀX|; the candidates being listed, this includes every change of one coordinate that stays legal.
absl::StatusOr<Fraction> ChooseFraction(const Candidates& candidates, const FractionOptions& options);

// A random order of trials in which each block (replicate) is complete before the next begins: indices into a list of
// `cells` × `blocks` trials, block-major. Guards against drift without confounding it with cells.
std::vector<size_t> RandomisedRunOrder(size_t cells, size_t blocks, uint64_t seed);

}  // namespace loupe::analysis::stats
