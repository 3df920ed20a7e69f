#include <algorithm>
#include <cmath>

#include "analysis/report/anova_format.h"
#include "analysis/report/number_format.h"
#include "analysis/report/reached_power.h"
#include "analysis/report/text_table.h"
#include "analysis/stats/nesting.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::report {
namespace {

constexpr size_t kCellsInText = 10;
constexpr size_t kSharesShown = 8;
constexpr size_t kPairsShown = 15;
constexpr double kSmallestShareShown = 0.0005;

std::string FTable(const FactorialAnalysis& analysis) {
  TextTable table({"term", "df", "sum sq", "mean sq", "F", "p", "", "part. η²", "f", "min. f"});
  const std::vector<ReachedPower> power = ComputeReachedPower(analysis.anova);
  for (const stats::AnovaTerm& term : analysis.anova.terms) {
    const auto reached =
        std::find_if(power.begin(), power.end(), [&](const ReachedPower& row) { return row.term == term.term; });
    const bool tested = reached != power.end();
    const std::string name = term.is_block ? term.term + " (block)" : stats::NestedTermName(term.term, term.within);
    table.Add({name, FormatCount(term.df), FormatNumber(term.sum_sq), FormatNumber(term.mean_sq), FormatNumber(term.f),
               FormatP(term.p), std::string(SignificanceStars(term.p)), FormatNumber(term.effect.partial_eta_sq, 3),
               tested ? FormatNumber(reached->found_f, 2) : "", tested ? FormatNumber(reached->detectable_f, 2) : ""});
  }
  const stats::AnovaResidual& residual = analysis.anova.residual;
  table.Add({"residual", FormatCount(residual.df), FormatNumber(residual.sum_sq), FormatNumber(residual.mean_sq), "",
             "", "", "", "", ""});
  return table.Text();
}

std::string OneWayTable(const FactorialAnalysis& analysis) {
  TextTable table({"factor", "df", "between", "within df", "within", "F", "p", "", "p Welch", "p K–W"});
  for (size_t i = 0; i < analysis.one_way.size(); ++i) {
    const stats::OneWayResult& row = analysis.one_way[i];
    const RobustTests& robust = analysis.robust[i];
    table.Add({row.factor, FormatCount(row.between_df), FormatNumber(row.between_mean_sq), FormatCount(row.within_df),
               FormatNumber(row.within_mean_sq), FormatNumber(row.f), FormatP(row.p),
               std::string(SignificanceStars(row.p)), robust.welch ? FormatP(robust.welch->p) : "–",
               robust.kruskal_wallis ? FormatP(robust.kruskal_wallis->p) : "–"});
  }
  return table.Text();
}

// The model's mean of a level; null where there is no model, or the factor is not in it.
const stats::MarginalMean* ModelMean(const FactorialAnalysis& analysis, const std::string& factor,
                                     const std::string& level) {
  if (analysis.details == nullptr) return nullptr;
  for (const FactorComparison& comparison : analysis.details->comparisons) {
    if (comparison.factor != factor) continue;
    for (const stats::MarginalMean& mean : comparison.means.means) {
      if (mean.levels.front() == level) return &mean;
    }
  }
  return nullptr;
}

std::string MeansTable(const FactorialAnalysis& analysis) {
  TextTable table({"factor", "level", "n", "plain mean", "sd", "model's mean",
                   fmt::format("{:g} % interval", 100 * analysis.confidence)},
                  /*left_columns=*/2);
  for (const FactorMeans& factor : analysis.means) {
    bool first = true;
    for (const stats::LevelMean& level : factor.levels) {
      const stats::MarginalMean* mean = ModelMean(analysis, factor.factor, level.level);
      const bool known = mean != nullptr && mean->estimable;
      table.Add({first ? factor.factor : "", level.level, fmt::format("{}", level.n), FormatNumber(level.mean),
                 FormatNumber(level.sd, 3),
                 known             ? FormatNumber(mean->mean)
                 : mean == nullptr ? "–"
                                   : "not estimable",
                 known ? FormatInterval(mean->low, mean->high) : ""});
      first = false;
    }
  }
  return table.Text();
}

// Why some of a factor's means are not estimable, once for all of them.
std::string MeanReasons(const FactorialAnalysis& analysis) {
  std::string text;
  if (analysis.details == nullptr) return text;
  for (const FactorComparison& comparison : analysis.details->comparisons) {
    for (const stats::MarginalMean& mean : comparison.means.means) {
      if (mean.estimable) continue;
      text += WrapText(
          fmt::format("{} = {} has no mean in the model: {}.", comparison.factor, mean.levels.front(), mean.reason), 98,
          "", "  ");
      break;
    }
  }
  return text;
}

// Estimable pairs in order, or those with the smallest p when they are too many to read; then how many there are
// besides.
std::string PairsTable(const std::vector<stats::Comparison>& pairs, size_t shown, double confidence) {
  std::vector<const stats::Comparison*> rows;
  const stats::Comparison* unknown = nullptr;
  size_t not_estimable = 0;
  for (const stats::Comparison& pair : pairs) {
    if (pair.estimable) {
      rows.push_back(&pair);
    } else {
      ++not_estimable;
      if (unknown == nullptr) unknown = &pair;
    }
  }
  const size_t estimable = rows.size();
  if (estimable > shown) {
    std::stable_sort(rows.begin(), rows.end(),
                     [](const stats::Comparison* a, const stats::Comparison* b) { return a->p < b->p; });
    rows.resize(shown);
  }
  TextTable table({"levels", "difference", "std. error", fmt::format("{:g} % interval (Tukey)", 100 * confidence), "p",
                   "p Tukey", "p Holm", ""});
  for (const stats::Comparison* pair : rows) {
    table.Add({fmt::format("{} − {}", pair->first, pair->second), FormatNumber(pair->difference, 3),
               FormatNumber(pair->std_error, 3), FormatInterval(pair->low, pair->high, 3), FormatP(pair->p),
               FormatP(pair->p_tukey), FormatP(pair->p_holm), std::string(SignificanceStars(pair->p_tukey))});
  }
  std::string text = rows.empty() ? "" : table.Text();
  if (estimable > shown) text += fmt::format("  and {} more (--format json has all)\n", estimable - shown);
  if (unknown != nullptr) {
    text += WrapText(fmt::format("{} of {} pairs are not estimable, such as {} − {}: {}.", not_estimable, pairs.size(),
                                 unknown->first, unknown->second, unknown->reason),
                     98, "  ", "  ");
  }
  return text;
}

std::string DifferencesText(const FactorialAnalysis& analysis) {
  std::string text;
  for (const FactorComparison& comparison : analysis.details->comparisons) {
    if (comparison.pairs.empty() && comparison.pairs_reason.empty()) continue;
    text += fmt::format("\n{}\n{}", comparison.factor, PairsTable(comparison.pairs, kPairsShown, analysis.confidence));
    if (!comparison.pairs_reason.empty()) text += WrapText(comparison.pairs_reason, 98, "  ", "  ");
  }
  if (text.empty()) return "";
  return "\nDifferences between levels, adjusted for the rest of the model (other levels weighted equally)\n" + text;
}

std::string BestSettingText(const MethodSummary& method) {
  std::string text;
  for (size_t i = 0; i < method.best_levels.size(); ++i)
    text += fmt::format("{}{} {}", i == 0 ? "" : ", ", method.own_factors[i], method.best_levels[i]);
  return text;
}

std::string EqualMeansText(const stats::JointTest& equal, double residual_df) {
  if (!(equal.df > 0) || std::isnan(equal.f)) return "";
  return fmt::format("All these means equal: F = {} on {} and {} df, p {}{}\n", FormatNumber(equal.f),
                     FormatCount(equal.df), FormatCount(residual_df), FormatP(equal.p).starts_with('<') ? "" : "= ",
                     FormatP(equal.p));
}

// Every other method less the baseline; "" where nothing is estimable.
std::string MethodPairsText(const std::string& baseline, const std::vector<stats::Comparison>& with_baseline,
                            double confidence) {
  TextTable table({fmt::format("less {}", baseline), "difference", "std. error",
                   fmt::format("{:g} % interval (together)", 100 * confidence), "p", "p Dunnett", "p Holm", ""});
  bool any = false;
  for (const stats::Comparison& pair : with_baseline) {
    if (!pair.estimable) continue;
    any = true;
    table.Add({pair.first, FormatNumber(pair.difference, 3), FormatNumber(pair.std_error, 3),
               FormatInterval(pair.low, pair.high, 3), FormatP(pair.p),
               std::isnan(pair.p_dunnett) ? "–" : FormatP(pair.p_dunnett), FormatP(pair.p_holm),
               std::string(SignificanceStars(pair.p_holm))});
  }
  return any ? fmt::format("\n{}", table.Text()) : "";
}

std::string EqualParametersText(const MethodComparison& comparison) {
  if (!comparison.at_equal_parameters) return "";
  const EqualParameters& equal = *comparison.at_equal_parameters;
  TextTable table({comparison.factor, "settings", "parameters", "mean",
                   fmt::format("{:g} % interval", 100 * comparison.confidence)});
  std::string settings;
  for (const MethodAtBudget& method : equal.methods) {
    table.Add({method.method, fmt::format("{}", method.settings.size()),
               method.least == method.most
                   ? FormatAmount(method.least)
                   : fmt::format("{} … {}", FormatAmount(method.least), FormatAmount(method.most)),
               method.mean.estimable ? FormatNumber(method.mean.mean) : "not estimable",
               method.mean.estimable ? FormatInterval(method.mean.low, method.mean.high) : ""});
    if (method.settings.size() > 1 || !method.settings.front().empty()) {
      settings += WrapText(fmt::format("{}: {}.", method.method, fmt::join(method.settings, "; ")), 98, "", "  ");
    }
  }
  std::string text = fmt::format(
      "\nMethods at {} trained parameters, give or take {:g} % (mean over the settings of that "
      "size, each with the same weight)\n",
      FormatAmount(equal.budget.parameters), 100 * equal.budget.tolerance);
  if (!equal.methods.empty()) text += fmt::format("\n{}{}", table.Text(), settings);
  text += EqualMeansText(equal.equal, comparison.df);
  text += MethodPairsText(equal.baseline, equal.with_baseline, comparison.confidence);
  for (const std::string& sentence : equal.sentences) text += WrapText(sentence, 98, "- ", "  ");
  return text;
}

std::string MethodComparisonText(const FactorialAnalysis& analysis) {
  if (!analysis.details->methods) return "";
  const MethodComparison& comparison = *analysis.details->methods;
  std::vector<std::string> header = {comparison.factor,
                                     "settings",
                                     "trials",
                                     "mean",
                                     fmt::format("{:g} % interval", 100 * comparison.confidence),
                                     "best"};
  header.insert(header.end(), comparison.cost_titles.begin(), comparison.cost_titles.end());
  const bool marked = !comparison.pareto_of.empty();
  if (marked) header.emplace_back();
  TextTable table(header);
  std::string best;
  for (const MethodSummary& method : comparison.methods) {
    std::vector<std::string> row = {method.method,
                                    fmt::format("{}", method.settings),
                                    fmt::format("{}", method.trials),
                                    method.mean.estimable ? FormatNumber(method.mean.mean) : "not estimable",
                                    method.mean.estimable ? FormatInterval(method.mean.low, method.mean.high) : "",
                                    FormatNumber(method.best.mean)};
    for (size_t i = 0; i < method.costs.size(); ++i)
      row.push_back(FormatCost(method.costs[i].mean, comparison.cost_units[i]));
    if (marked) row.emplace_back(!method.on_pareto_front ? "?" : *method.on_pareto_front ? kParetoMark : "");
    table.Add(row);
    if (!method.best_levels.empty()) {
      best += WrapText(fmt::format("Best of {}: {} ({}).", method.method, BestSettingText(method),
                                   FormatInterval(method.best.low, method.best.high)),
                       98, "", "  ");
    }
  }
  std::string text = fmt::format("\nMethods (mean {} over each one's own settings; costs are means per trial)\n\n{}{}",
                                 analysis.response, table.Text(), best);
  text += EqualMeansText(comparison.equal, comparison.df);
  text += MethodPairsText(comparison.baseline, comparison.with_baseline, comparison.confidence);
  for (const std::string& sentence : comparison.sentences) text += WrapText(sentence, 98, "- ", "  ");
  return text + EqualParametersText(comparison);
}

std::string SimpleEffectsText(const FactorialAnalysis& analysis) {
  std::string text;
  for (const stats::SimpleEffects& simple : analysis.details->simple_effects) {
    for (const stats::SimpleEffect& effect : simple.effects) {
      if (effect.test.df == 0) continue;
      const std::string held = HeldText(simple, effect);
      text +=
          fmt::format("\n{}{}{}: F = {} on {} and {} df, p {}{}\n{}", fmt::join(simple.factors, ":"),
                      held.empty() ? "" : " within ", held, FormatNumber(effect.test.f), FormatCount(effect.test.df),
                      FormatCount(effect.means.df), FormatP(effect.test.p).starts_with('<') ? "" : "= ",
                      FormatP(effect.test.p), PairsTable(effect.pairs, kPairsShown, analysis.confidence));
    }
    for (const std::string& sentence : NothingToCompare(simple)) text += "\n" + WrapText(sentence, 98, "", "  ");
  }
  return text.empty() ? "" : "\nSimple effects\n" + text;
}

std::string ContrastsText(const FactorialAnalysis& analysis) {
  if (analysis.details->contrasts.empty()) return "";
  TextTable table({"contrast", "estimate", "std. error", fmt::format("{:g} % interval", 100 * analysis.confidence), "p",
                   "p Holm", ""});
  std::string reasons;
  for (const stats::Contrast& contrast : analysis.details->contrasts) {
    table.Add({contrast.formula, contrast.estimable ? FormatNumber(contrast.estimate) : "not estimable",
               FormatNumber(contrast.std_error, 3), FormatInterval(contrast.low, contrast.high), FormatP(contrast.p),
               FormatP(contrast.p_holm), std::string(SignificanceStars(contrast.p))});
    if (!contrast.estimable) {
      reasons += WrapText(fmt::format("{} is not estimable: {}.", contrast.formula, contrast.reason), 98, "", "  ");
    }
  }
  return fmt::format("\nContrasts (interval and p of each alone; Holm's p of all together)\n\n{}{}", table.Text(),
                     reasons);
}

std::string CellsTable(const FactorialAnalysis& analysis) {
  std::vector<std::string> header = {"#"};
  header.insert(header.end(), analysis.cell_factors.begin(), analysis.cell_factors.end());
  header.insert(header.end(), {"n", "mean", "sd"});
  TextTable table(header, 1 + analysis.cell_factors.size());
  for (size_t i = 0; i < std::min(kCellsInText, analysis.cells.size()); ++i) {
    std::vector<std::string> row = {fmt::format("{}", i + 1)};
    row.insert(row.end(), analysis.cells[i].levels.begin(), analysis.cells[i].levels.end());
    const stats::LevelMean& mean = analysis.cells[i].mean;
    row.insert(row.end(), {fmt::format("{}", mean.n), FormatNumber(mean.mean), FormatNumber(mean.sd, 3)});
    table.Add(row);
  }
  return table.Text();
}

std::string ImportanceTable(const stats::Importance& importance) {
  TextTable table({"factors", "share", "sd over trees"});
  double left = importance.higher_order;
  for (size_t i = 0; i < importance.shares.size(); ++i) {
    const stats::ImportanceShare& share = importance.shares[i];
    if (i >= kSharesShown || share.share < kSmallestShareShown) {
      left += share.share;
      continue;
    }
    table.Add({fmt::format("{}", fmt::join(share.factors, " × ")), fmt::format("{:.1f} %", 100 * share.share),
               fmt::format("{:.1f} %", 100 * share.spread)});
  }
  table.Add({"all else", fmt::format("{:.1f} %", 100 * std::max(0.0, left)), ""});
  return table.Text();
}

std::string PermutationText(const ModelDetails& details) {
  if (!details.has_permutation) return "";
  std::string parts;
  for (const stats::PermutationTerm& term : details.permutation.terms) {
    if (std::isnan(term.p)) continue;
    parts += fmt::format("{}{} {}", parts.empty() ? "" : ", ", term.term, FormatP(term.p));
  }
  if (parts.empty()) return "";
  return WrapText(fmt::format("Permutation p of F, which needs no normality ({} permutations): {}.",
                              details.permutation.permutations, parts),
                  98, "", "");
}

std::string BaselineText(const FactorialAnalysis& analysis) {
  const ModelDetails& details = *analysis.details;
  if (!details.baseline_reason.empty()) return fmt::format("\n{}", WrapText(details.baseline_reason, 98, "", ""));
  if (!details.has_baseline || details.baseline.contrasts.empty()) return "";
  const BaselineContrasts& baseline = details.baseline;
  const bool dunnett = !std::isnan(baseline.contrasts.front().p_dunnett);
  const size_t shown = std::min(kCellsInText, baseline.contrasts.size());
  std::string text = fmt::format(
      "\n{}",
      WrapText(
          fmt::format("Cells less the baseline {} (mean {}), {} of {}; {:g} % intervals and p for all of them "
                      "together ({})",
                      fmt::join(baseline.levels, ", "), FormatNumber(baseline.mean), shown, baseline.contrasts.size(),
                      100 * analysis.confidence, dunnett ? "Dunnett" : "Bonferroni, Holm"),
          98, "", ""));
  TextTable table({"cell", "difference", "interval", "p", ""});
  for (size_t i = 0; i < shown; ++i) {
    const stats::Comparison& contrast = baseline.contrasts[i];
    const double p = dunnett ? contrast.p_dunnett : contrast.p_holm;
    table.Add({contrast.first, FormatNumber(contrast.difference, 3), FormatInterval(contrast.low, contrast.high, 3),
               FormatP(p), std::string(SignificanceStars(p))});
  }
  return fmt::format("{}\n{}", text, table.Text());
}

}  // namespace

std::string FormatAnovaText(const FactorialAnalysis& analysis) {
  std::string text;
  if (analysis.problem.empty()) {
    text += fmt::format("Analysis of variance of {}, Type {} sums of squares: {}\n", analysis.response,
                        SumOfSquaresName(analysis.anova.ss_type), analysis.anova.formula);
    text += analysis.anova.sample.Sentence() + "\n\n" + FTable(analysis);
    text += fmt::format(
        "*** p < 0.001   ** p < 0.01   * p < 0.05\n"
        "f: Cohen's f found; min. f: the smallest that these trials find with probability {:g} (level {:g})\n",
        kPowerAsked, kPowerAlpha);
  } else {
    text += fmt::format("No F table yet: {}\n", analysis.problem);
  }
  if (analysis.details != nullptr) text += MethodComparisonText(analysis);
  if (!analysis.one_way.empty()) {
    text += fmt::format(
        "\nEach factor by itself (one-way F = between / within mean square; Welch: unequal spread; K–W: ranks)\n\n{}",
        OneWayTable(analysis));
  }
  if (analysis.details != nullptr && !analysis.details->importance.shares.empty()) {
    text += fmt::format(
        "\nImportance (functional ANOVA shares of the variance over all combinations, by a random forest)\n\n{}",
        ImportanceTable(analysis.details->importance));
  }
  if (!analysis.means.empty())
    text +=
        fmt::format("\nMeans of {} per level\n\n", analysis.response) + MeansTable(analysis) + MeanReasons(analysis);
  if (analysis.details != nullptr) {
    text += DifferencesText(analysis) + SimpleEffectsText(analysis) + ContrastsText(analysis);
  }
  if (!analysis.cells.empty()) {
    text += fmt::format("\nBest cells ({} is better), {} of {}\n\n", analysis.smaller_is_better ? "less" : "more",
                        std::min(kCellsInText, analysis.cells.size()), analysis.cells.size()) +
            CellsTable(analysis);
  }
  if (analysis.details != nullptr) {
    const CellRanking& ranking = analysis.details->ranking;
    if (ranking.reason.empty()) {
      text += WrapText(
          fmt::format("{} of {} cells cannot be told from the best at {:g} % confidence (Hsu's comparisons with "
                      "the best, {}).",
                      ranking.may_be_best, ranking.cells.size(), 100 * analysis.confidence,
                      ranking.from_replicates ? "error from replicates" : "predictions of the model"),
          98, "", "");
    }
    text += PermutationText(*analysis.details);
    text += BaselineText(analysis);
    if (!analysis.details->assumptions.sentences.empty()) {
      text += "\nAssumptions\n";
      for (const std::string& sentence : analysis.details->assumptions.sentences)
        text += WrapText(sentence, 98, "- ", "  ");
    }
  }
  if (!analysis.notes.empty()) {
    text += "\nNotes\n";
    for (const std::string& note : analysis.notes) text += WrapText(note, 98, "- ", "  ");
  }
  return text;
}

}  // namespace loupe::analysis::report
