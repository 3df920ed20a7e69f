#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "analysis/report/anova_format.h"
#include "analysis/report/fold_cells.h"
#include "common/text.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace loupe::analysis::report {
namespace {

void Line(std::string& out, const std::vector<std::string>& fields) {
  for (size_t i = 0; i < fields.size(); ++i) {
    if (i > 0) out += ',';
    out += fields[i];
  }
  out += '\n';
}

std::string CsvBool(bool value) { return value ? "true" : "false"; }

std::string MeansCsv(const FactorialAnalysis& analysis) {
  std::string out = "factor,within,level,n,observed_mean,observed_sd,mean,std_error,df,low,high,estimable,note\n";
  if (analysis.details == nullptr) {  // no model: what was observed is all there is
    for (const FactorMeans& factor : analysis.means) {
      for (const stats::LevelMean& level : factor.levels) {
        Line(out,
             {CsvField(factor.factor), "", CsvField(level.level), CsvNumber(static_cast<double>(level.n)),
              CsvNumber(level.mean), CsvNumber(level.sd), "", "", "", "", "", "false", CsvField(analysis.problem)});
      }
    }
    return out;
  }
  const auto add = [&](const std::string& factor, const std::string& within, const stats::MarginalMeans& means) {
    const FactorMeans* observed = nullptr;
    for (const FactorMeans& other : analysis.means) {
      if (within.empty() && other.factor == factor) observed = &other;
    }
    for (const stats::MarginalMean& mean : means.means) {
      const std::string level = CellName(mean.levels);
      std::string plain, sd;
      for (size_t i = 0; observed != nullptr && i < observed->levels.size(); ++i) {
        if (observed->levels[i].level != level) continue;
        plain = CsvNumber(observed->levels[i].mean);
        sd = CsvNumber(observed->levels[i].sd);
      }
      Line(out, {CsvField(factor), CsvField(within), CsvField(level), CsvNumber(static_cast<double>(mean.n)), plain, sd,
                 CsvNumber(mean.mean), CsvNumber(mean.std_error), CsvNumber(means.df), CsvNumber(mean.low),
                 CsvNumber(mean.high), CsvBool(mean.estimable), CsvField(mean.reason)});
    }
  };
  for (const FactorComparison& comparison : analysis.details->comparisons) add(comparison.factor, "", comparison.means);
  for (const stats::SimpleEffects& simple : analysis.details->simple_effects) {
    for (const stats::SimpleEffect& effect : simple.effects) {
      add(fmt::format("{}", fmt::join(simple.factors, ":")), HeldText(simple, effect), effect.means);
    }
  }
  return out;
}

std::string PairsCsv(const FactorialAnalysis& analysis) {
  std::string out =
      "factor,within,first,second,difference,std_error,df,t,p,p_tukey,p_holm,p_benjamini_hochberg,low,high,estimable,note\n";
  if (analysis.details == nullptr) return out;
  const auto add = [&](const std::string& factor, const std::string& within, double df,
                       const std::vector<stats::Comparison>& pairs) {
    for (const stats::Comparison& pair : pairs) {
      Line(out,
           {CsvField(factor), CsvField(within), CsvField(pair.first), CsvField(pair.second), CsvNumber(pair.difference),
            CsvNumber(pair.std_error), CsvNumber(df), CsvNumber(pair.t), CsvNumber(pair.p), CsvNumber(pair.p_tukey),
            CsvNumber(pair.p_holm), CsvNumber(pair.p_benjamini_hochberg), CsvNumber(pair.low), CsvNumber(pair.high),
            CsvBool(pair.estimable), CsvField(pair.reason)});
    }
  };
  for (const FactorComparison& comparison : analysis.details->comparisons)
    add(comparison.factor, "", comparison.means.df, comparison.pairs);
  for (const stats::SimpleEffects& simple : analysis.details->simple_effects) {
    for (const stats::SimpleEffect& effect : simple.effects) {
      add(fmt::format("{}", fmt::join(simple.factors, ":")), HeldText(simple, effect), effect.means.df, effect.pairs);
    }
  }
  return out;
}

std::string SimpleEffectsCsv(const FactorialAnalysis& analysis) {
  std::string out = "factor,within,df,nominal_df,residual_df,f,p\n";
  if (analysis.details == nullptr) return out;
  for (const stats::SimpleEffects& simple : analysis.details->simple_effects) {
    for (const stats::SimpleEffect& effect : simple.effects) {
      Line(out, {CsvField(fmt::format("{}", fmt::join(simple.factors, ":"))), CsvField(HeldText(simple, effect)),
                 CsvNumber(effect.test.df), CsvNumber(effect.test.nominal_df), CsvNumber(effect.means.df),
                 CsvNumber(effect.test.f), CsvNumber(effect.test.p)});
    }
  }
  return out;
}

std::string ContrastsCsv(const FactorialAnalysis& analysis) {
  std::string out = "contrast,estimate,std_error,t,p,p_holm,low,high,estimable,note\n";
  if (analysis.details == nullptr) return out;
  for (const stats::Contrast& contrast : analysis.details->contrasts) {
    Line(out, {CsvField(contrast.formula), CsvNumber(contrast.estimate), CsvNumber(contrast.std_error),
               CsvNumber(contrast.t), CsvNumber(contrast.p), CsvNumber(contrast.p_holm), CsvNumber(contrast.low),
               CsvNumber(contrast.high), CsvBool(contrast.estimable), CsvField(contrast.reason)});
  }
  return out;
}

std::string BaselineCsv(const FactorialAnalysis& analysis) {
  std::string out =
      "cell,baseline,difference,std_error,t,p,p_dunnett,p_holm,p_benjamini_hochberg,low,high,estimable,note\n";
  if (analysis.details == nullptr || !analysis.details->has_baseline) return out;
  const BaselineContrasts& baseline = analysis.details->baseline;
  for (const stats::Comparison& contrast : baseline.contrasts) {
    Line(out,
         {CsvField(contrast.first), CsvField(CellName(baseline.levels)), CsvNumber(contrast.difference),
          CsvNumber(contrast.std_error), CsvNumber(contrast.t), CsvNumber(contrast.p), CsvNumber(contrast.p_dunnett),
          CsvNumber(contrast.p_holm), CsvNumber(contrast.p_benjamini_hochberg), CsvNumber(contrast.low),
          CsvNumber(contrast.high), CsvBool(contrast.estimable), CsvField(contrast.reason)});
  }
  return out;
}

std::string MethodsCsv(const FactorialAnalysis& analysis) {
  std::string out = "method,trials,settings,mean,std_error,df,low,high,estimable,best_setting,best_mean,best_std_error";
  if (analysis.details == nullptr || !analysis.details->methods) return out + ",pareto_front,note\n";
  const MethodComparison& comparison = *analysis.details->methods;
  for (const std::string& cost : comparison.cost_names) out += fmt::format(",{0}_mean,{0}_low,{0}_high", cost);
  out += ",pareto_front,note\n";
  for (const MethodSummary& method : comparison.methods) {
    std::string best;
    for (size_t i = 0; i < method.best_levels.size(); ++i)
      best += fmt::format("{}{} = {}", i == 0 ? "" : ", ", method.own_factors[i], method.best_levels[i]);
    std::vector<std::string> row = {CsvField(method.method),
                                    CsvNumber(static_cast<double>(method.trials)),
                                    CsvNumber(static_cast<double>(method.settings)),
                                    CsvNumber(method.mean.mean),
                                    CsvNumber(method.mean.std_error),
                                    CsvNumber(comparison.df),
                                    CsvNumber(method.mean.low),
                                    CsvNumber(method.mean.high),
                                    CsvBool(method.mean.estimable),
                                    CsvField(best),
                                    CsvNumber(method.best.mean),
                                    CsvNumber(method.best.std_error)};
    for (const MethodCost& cost : method.costs)
      row.insert(row.end(), {CsvNumber(cost.mean), CsvNumber(cost.low), CsvNumber(cost.high)});
    row.push_back(method.on_pareto_front ? CsvBool(*method.on_pareto_front) : "");
    row.push_back(CsvField(method.mean.reason));
    Line(out, row);
  }
  return out;
}

std::string MethodPairsCsv(const FactorialAnalysis& analysis) {
  std::string out = "method,baseline,difference,std_error,df,t,p,p_dunnett,p_holm,low,high,estimable,note\n";
  if (analysis.details == nullptr || !analysis.details->methods) return out;
  for (const stats::Comparison& pair : analysis.details->methods->with_baseline) {
    Line(out, {CsvField(pair.first), CsvField(pair.second), CsvNumber(pair.difference), CsvNumber(pair.std_error),
               CsvNumber(analysis.details->methods->df), CsvNumber(pair.t), CsvNumber(pair.p),
               CsvNumber(pair.p_dunnett), CsvNumber(pair.p_holm), CsvNumber(pair.low), CsvNumber(pair.high),
               CsvBool(pair.estimable), CsvField(pair.reason)});
  }
  return out;
}

std::string EqualParametersCsv(const FactorialAnalysis& analysis) {
  std::string out =
      "method,settings,parameters_low,parameters_high,mean,std_error,low,high,estimable,baseline,difference,"
      "difference_std_error,p,p_dunnett,p_holm,note\n";
  if (analysis.details == nullptr || !analysis.details->methods) return out;
  if (!analysis.details->methods->at_equal_parameters) return out;
  const EqualParameters& equal = *analysis.details->methods->at_equal_parameters;
  for (const MethodAtBudget& method : equal.methods) {
    std::vector<std::string> row = {
        CsvField(method.method),       CsvField(fmt::format("{}", fmt::join(method.settings, "; "))),
        CsvNumber(method.least),       CsvNumber(method.most),
        CsvNumber(method.mean.mean),   CsvNumber(method.mean.std_error),
        CsvNumber(method.mean.low),    CsvNumber(method.mean.high),
        CsvBool(method.mean.estimable)};
    const auto pair = std::find_if(equal.with_baseline.begin(), equal.with_baseline.end(),
                                   [&](const stats::Comparison& other) { return other.first == method.method; });
    if (pair == equal.with_baseline.end()) {
      row.insert(row.end(), {CsvField(equal.baseline), "", "", "", "", "", CsvField(method.mean.reason)});
    } else {
      row.insert(row.end(), {CsvField(pair->second), CsvNumber(pair->difference), CsvNumber(pair->std_error),
                             CsvNumber(pair->p), CsvNumber(pair->p_dunnett), CsvNumber(pair->p_holm),
                             CsvField(pair->estimable ? method.mean.reason : pair->reason)});
    }
    Line(out, row);
  }
  return out;
}

std::string CellsCsv(const FactorialAnalysis& analysis) {
  std::vector<std::string> header = {"rank"};
  for (const std::string& factor : analysis.cell_factors) header.push_back(CsvField(factor));
  header.insert(header.end(), {"n", "mean", "sd", "std_error", "low", "high"});
  std::string out;
  Line(out, header);
  for (size_t i = 0; i < analysis.cells.size(); ++i) {
    std::vector<std::string> row = {fmt::format("{}", i + 1)};
    for (const std::string& level : analysis.cells[i].levels) row.push_back(CsvField(level));
    const stats::LevelMean& mean = analysis.cells[i].mean;
    row.insert(row.end(), {CsvNumber(static_cast<double>(mean.n)), CsvNumber(mean.mean), CsvNumber(mean.sd),
                           CsvNumber(mean.std_error), CsvNumber(mean.low), CsvNumber(mean.high)});
    Line(out, row);
  }
  return out;
}

struct NamedTable {
  const char* name;
  std::string (*format)(const FactorialAnalysis&);
};
constexpr NamedTable kCsvTables[] = {{"anova", FormatAnovaCsv},
                                     {"means", MeansCsv},
                                     {"pairs", PairsCsv},
                                     {"simple-effects", SimpleEffectsCsv},
                                     {"contrasts", ContrastsCsv},
                                     {"baseline", BaselineCsv},
                                     {"cells", CellsCsv},
                                     {"methods", MethodsCsv},
                                     {"methods-baseline", MethodPairsCsv},
                                     {"equal-parameters", EqualParametersCsv}};

}  // namespace

std::string_view SumOfSquaresName(stats::SumOfSquares type) {
  return type == stats::SumOfSquares::kType1 ? "I" : type == stats::SumOfSquares::kType2 ? "II" : "III";
}

std::string HeldText(const stats::SimpleEffects& simple, const stats::SimpleEffect& effect) {
  std::string held;
  for (size_t i = 0; i < simple.within.size(); ++i)
    held += fmt::format("{}{} = {}", i == 0 ? "" : ", ", simple.within[i], effect.within[i]);
  return held;
}

std::vector<std::string> NothingToCompare(const stats::SimpleEffects& simple) {
  std::vector<std::pair<std::string, std::vector<std::string>>> by_reason;
  for (const stats::SimpleEffect& effect : simple.effects) {
    if (effect.test.df > 0) continue;
    std::vector<std::string> there;
    for (const stats::MarginalMean& mean : effect.means.means) {
      if (mean.n > 0) there.push_back(fmt::format("{}", fmt::join(mean.levels, ", ")));
    }
    std::string reason = "no difference is estimable";
    if (there.size() == 1) {
      reason = fmt::format("only {} occurs there", there.front());
    } else if (!effect.pairs.empty() && !effect.pairs.front().reason.empty()) {
      reason = effect.pairs.front().reason;
    }
    const auto same =
        std::find_if(by_reason.begin(), by_reason.end(), [&](const auto& known) { return known.first == reason; });
    auto& held = (same == by_reason.end() ? by_reason.emplace_back(reason, std::vector<std::string>()) : *same).second;
    held.push_back(HeldText(simple, effect));
  }
  std::vector<std::string> sentences;
  for (const auto& [reason, held] : by_reason) {
    const std::string where = fmt::format("{}", fmt::join(held, "; "));
    sentences.push_back(fmt::format("{}: nothing to compare{}{}: {}.", fmt::join(simple.factors, ":"),
                                    where.empty() ? "" : " within ", where, reason));
  }
  return sentences;
}

std::string CsvNumber(double value) { return std::isfinite(value) ? fmt::format("{}", value) : ""; }
// With all its digits, also where no double holds it.
std::string CsvNumber(const stats::WideNumber& value) {
  return value.FitsDouble() ? CsvNumber(static_cast<double>(value)) : value.Decimal(17);
}

std::string FormatAnovaCsv(const FactorialAnalysis& analysis) {
  std::string out =
      "kind,term,df,sum_sq,mean_sq,f,p,partial_eta_sq,partial_eta_sq_low,partial_eta_sq_high,omega_sq,estimable,note\n";
  for (const stats::AnovaTerm& term : analysis.anova.terms) {
    Line(out, {"anova", CsvField(term.term), CsvNumber(term.df), CsvNumber(term.sum_sq), CsvNumber(term.mean_sq),
               CsvNumber(term.f), CsvNumber(term.p), CsvNumber(term.effect.partial_eta_sq),
               CsvNumber(term.effect.partial_eta_sq_low), CsvNumber(term.effect.partial_eta_sq_high),
               CsvNumber(term.effect.omega_sq), CsvBool(term.estimable), CsvField(term.note)});
  }
  if (analysis.problem.empty()) {
    const stats::AnovaResidual& residual = analysis.anova.residual;
    Line(out, {"residual", "residual", CsvNumber(residual.df), CsvNumber(residual.sum_sq), CsvNumber(residual.mean_sq),
               "", "", "", "", "", "", "", ""});
  }
  for (const stats::OneWayResult& row : analysis.one_way) {
    Line(out, {"one_way", CsvField(row.factor), CsvNumber(row.between_df), CsvNumber(row.between_sum_sq),
               CsvNumber(row.between_mean_sq), CsvNumber(row.f), CsvNumber(row.p), CsvNumber(row.r_squared), "", "", "",
               CsvBool(!std::isnan(row.f)), ""});
    Line(out, {"one_way_residual", CsvField(row.factor), CsvNumber(row.within_df), CsvNumber(row.within_sum_sq),
               CsvNumber(row.within_mean_sq), "", "", "", "", "", "", "", ""});
  }
  return out;
}

std::vector<std::string> CsvTableNames() {
  std::vector<std::string> names;
  for (const NamedTable& table : kCsvTables) names.emplace_back(table.name);
  return names;
}

absl::StatusOr<std::string> FormatCsvTable(const FactorialAnalysis& analysis, std::string_view table) {
  for (const NamedTable& known : kCsvTables) {
    if (table == known.name) return known.format(analysis);
  }
  return absl::InvalidArgumentError(
      fmt::format("there is no table '{}'; expected one of {}", Printable(table), fmt::join(CsvTableNames(), ", ")));
}

}  // namespace loupe::analysis::report
