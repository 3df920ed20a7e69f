#include "analysis/report/methods_text.h"

#include <map>
#include <set>

#include "analysis/report/anova_format.h"
#include "analysis/report/number_format.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::report {
namespace {

std::string DesignSentence(const SweepResults& results) {
  std::vector<std::string> factors, own;
  int64_t product = 1;
  std::map<std::string, int64_t> settings;  // of each method with factors of its own
  int64_t methods = 0;
  for (const SweepFactor& factor : results.factors) {
    const auto levels = static_cast<int64_t>(factor.levels.size());
    std::string named = fmt::format("{} ({} levels)", factor.name, levels);
    if (!factor.within.empty()) {
      own.push_back(fmt::format("{} in {}", named, factor.within));
      settings.try_emplace(factor.within, 1).first->second *= levels;
      continue;
    }
    factors.push_back(std::move(named));
    if (factor.name == kMethodFactor && factor.key == kMethodFactor) {
      methods = levels;
    } else {
      product *= levels;
    }
  }
  if (methods > 0) {
    int64_t all = methods - static_cast<int64_t>(settings.size());  // those without factors of their own have one
    for (const auto& [method, count] : settings) all += count;
    product *= all;
  }
  std::set<std::vector<int32_t>> cells;
  for (const TrialRecord& trial : results.trials) cells.insert(trial.levels);
  std::string text = fmt::format("The design crosses {}; {} of the {} combinations were planned",
                                 fmt::join(factors, ", "), cells.size(), product);
  if (!own.empty()) text += fmt::format(" (the methods' own factors: {})", fmt::join(own, ", "));
  text += results.replicates > 1 ? fmt::format(", each with {} replicates.", results.replicates) : ", each once.";
  if (results.replicates > 1) {
    text +=
        " All cells of a replicate share the same random streams (initialisation, data order, noise, sampling "
        "latents), so "
        "the replicate enters as a block.";
  }
  return text;
}

std::string ModelSentence(const SweepAnalysis& sweep) {
  const stats::AnovaTable& anova = sweep.analysis.anova;
  if (!sweep.analysis.problem.empty()) return "No model was fitted.";
  std::string type;
  switch (anova.ss_type) {
    case stats::SumOfSquares::kType1:
      type = "Type I (sequential, in the order given)";
      break;
    case stats::SumOfSquares::kType2:
      type = "Type II (each term after all terms that do not contain it)";
      break;
    case stats::SumOfSquares::kType3:
      type = "Type III (each term after all others)";
      break;
  }
  std::string text = fmt::format(
      "{} was analysed by a linear model with the terms {}{}, fitted by Householder QR with sum-to-zero contrasts; "
      "sums of "
      "squares are {}. F tests use the residual mean square on {} degrees of freedom.",
      sweep.response, anova.formula, anova.block.empty() ? "" : fmt::format(" and the block {}", anova.block), type,
      FormatCount(anova.residual.df));
  text += fmt::format(
      " Effect sizes are partial η² with {:g} % intervals from the noncentral F distribution. One-way F statistics per "
      "factor, as in arXiv 2303.18181, are given beside them.",
      100 * sweep.analysis.confidence);
  for (const stats::AnovaTerm& term : anova.terms) {
    if (term.df < term.nominal_df) {
      text += fmt::format(" Of {}, {} of {} degrees of freedom could be estimated.", term.term, FormatCount(term.df),
                          FormatCount(term.nominal_df));
    }
  }
  return text;
}

}  // namespace

std::string MethodsText(const SweepResults& results, const SweepAnalysis& sweep) {
  const TrialCount& count = sweep.count;
  std::string text = DesignSentence(results) + " " + ModelSentence(sweep);
  if (sweep.analysis.problem.empty()) {
    text +=
        fmt::format(" The analysis uses n = {} trials of {} planned.", sweep.analysis.anova.sample.used, count.total);
  }
  const int64_t missing = count.failed + count.quarantined + count.cancelled + count.queued + count.running;
  if (missing > 0) {
    text += fmt::format(" {} trials have no result ({} failed, {} quarantined, {} cancelled, {} not finished).",
                        missing, count.failed, count.quarantined, count.cancelled, count.queued + count.running);
  } else {
    text += " No trial is missing.";
  }
  if (count.stopped_early > 0) {
    const bool in = sweep.analysis.anova.sample.stopped_early_included > 0;
    text += fmt::format(" {} trials were stopped early and {}.", count.stopped_early, in ? "are included" : "left out");
  }
  text += fmt::format(" The sweep's seed is {}; trial seeds are derived from it and the replicate.",
                      results.provenance.seed);
  return text;
}

}  // namespace loupe::analysis::report
