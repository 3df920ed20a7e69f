#include <cmath>

#include "analysis/report/anova_format.h"
#include "analysis/report/fold_cells.h"
#include "analysis/report/reached_power.h"
#include "common/text.h"
#include "nlohmann/json.hpp"

namespace loupe::analysis::report {
namespace {

using Json = nlohmann::ordered_json;

Json Number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }
// A text with all its digits ("3.2174…e+412") where no double holds it.
Json Number(const stats::WideNumber& value) {
  return value.FitsDouble() ? Number(static_cast<double>(value)) : Json(value.Decimal(17));
}

Json EffectJson(const stats::EffectSize& effect) {
  return {{"eta_sq", Number(effect.eta_sq)},
          {"partial_eta_sq", Number(effect.partial_eta_sq)},
          {"partial_eta_sq_low", Number(effect.partial_eta_sq_low)},
          {"partial_eta_sq_high", Number(effect.partial_eta_sq_high)},
          {"omega_sq", Number(effect.omega_sq)},
          {"partial_omega_sq", Number(effect.partial_omega_sq)},
          {"epsilon_sq", Number(effect.epsilon_sq)},
          {"partial_epsilon_sq", Number(effect.partial_epsilon_sq)},
          {"cohens_f", Number(effect.cohens_f)}};
}

Json TermJson(const stats::AnovaTerm& term) {
  return {{"term", term.term},
          {"df", Number(term.df)},
          {"sum_sq", Number(term.sum_sq)},
          {"mean_sq", Number(term.mean_sq)},
          {"f", Number(term.f)},
          {"p", Number(term.p)},
          {"block", term.is_block},
          {"within", term.within.empty() ? Json(nullptr) : Json(term.within)},
          {"nominal_df", Number(term.nominal_df)},
          {"estimable", term.estimable},
          {"aliased_with", term.aliased_with},
          {"note", term.note},
          {"effect", EffectJson(term.effect)}};
}

Json SampleJson(const stats::SampleAccount& sample) {
  return {{"rows", sample.rows},
          {"used", sample.used},
          {"missing_response", sample.missing_response},
          {"missing_level", sample.missing_level},
          {"failed", sample.failed},
          {"cancelled", sample.cancelled},
          {"stopped_early", sample.stopped_early},
          {"stopped_early_included", sample.stopped_early_included}};
}

Json MeanJson(const stats::LevelMean& mean) {
  return {{"n", mean.n},
          {"mean", Number(mean.mean)},
          {"sd", Number(mean.sd)},
          {"std_error", Number(mean.std_error)},
          {"low", Number(mean.low)},
          {"high", Number(mean.high)}};
}

Json GroupTestJson(const std::optional<stats::GroupTest>& test) {
  if (!test) return nullptr;
  return {{"statistic", Number(test->statistic)},
          {"df1", Number(test->df1)},
          {"df2", Number(test->df2)},
          {"p", Number(test->p)}};
}

Json PermutationJson(const ModelDetails& details) {
  if (!details.has_permutation) return nullptr;
  Json terms = Json::array();
  for (const stats::PermutationTerm& term : details.permutation.terms) {
    terms.push_back(
        {{"term", term.term}, {"f", Number(term.f)}, {"p", Number(term.p)}, {"p_error", Number(term.p_error)}});
  }
  return {{"permutations", details.permutation.permutations},
          {"seed", details.permutation.seed},
          {"terms", std::move(terms)}};
}

Json OneWayJson(const stats::OneWayResult& row, const RobustTests& robust) {
  return {{"factor", row.factor},
          {"df", Number(row.between_df)},
          {"sum_sq", Number(row.between_sum_sq)},
          {"mean_sq", Number(row.between_mean_sq)},
          {"f", Number(row.f)},
          {"p", Number(row.p)},
          {"r_squared", Number(row.r_squared)},
          {"welch", GroupTestJson(robust.welch)},
          {"kruskal_wallis", GroupTestJson(robust.kruskal_wallis)},
          {"residual",
           {{"df", Number(row.within_df)},
            {"sum_sq", Number(row.within_sum_sq)},
            {"mean_sq", Number(row.within_mean_sq)}}}};
}

Json HeatMapJson(const stats::TwoWayMeans& map) {
  Json cells = Json::array();
  for (size_t row = 0; row < map.row_levels.size(); ++row) {
    for (size_t column = 0; column < map.column_levels.size(); ++column) {
      if (map.At(row, column).n == 0) continue;
      Json cell = {{"row", map.row_levels[row]}, {"column", map.column_levels[column]}};
      cell.update(MeanJson(map.At(row, column)));
      cells.push_back(std::move(cell));
    }
  }
  return {{"rows", map.row_factor}, {"columns", map.column_factor}, {"cells", std::move(cells)}};
}

Json ReasonOrNull(const std::string& reason) { return reason.empty() ? Json(nullptr) : Json(reason); }

Json MarginalMeansJson(const stats::MarginalMeans& means) {
  Json levels = Json::array();
  for (const stats::MarginalMean& mean : means.means) {
    levels.push_back({{"level", CellName(mean.levels)},
                      {"estimable", mean.estimable},
                      {"reason", ReasonOrNull(mean.reason)},
                      {"n", mean.n},
                      {"mean", Number(mean.mean)},
                      {"std_error", Number(mean.std_error)},
                      {"low", Number(mean.low)},
                      {"high", Number(mean.high)}});
  }
  return levels;
}

Json PairsJson(const std::vector<stats::Comparison>& pairs) {
  Json out = Json::array();
  for (const stats::Comparison& pair : pairs) {
    out.push_back({{"first", pair.first},
                   {"second", pair.second},
                   {"estimable", pair.estimable},
                   {"reason", ReasonOrNull(pair.reason)},
                   {"difference", Number(pair.difference)},
                   {"std_error", Number(pair.std_error)},
                   {"t", Number(pair.t)},
                   {"p", Number(pair.p)},
                   {"p_tukey", Number(pair.p_tukey)},
                   {"p_holm", Number(pair.p_holm)},
                   {"p_benjamini_hochberg", Number(pair.p_benjamini_hochberg)},
                   {"low", Number(pair.low)},
                   {"high", Number(pair.high)}});
  }
  return out;
}

Json SimpleEffectsJson(const stats::SimpleEffects& simple) {
  Json effects = Json::array();
  for (const stats::SimpleEffect& effect : simple.effects) {
    Json held = Json::object();
    for (size_t i = 0; i < simple.within.size(); ++i) held[simple.within[i]] = effect.within[i];
    effects.push_back({{"within", std::move(held)},
                       {"df", Number(effect.test.df)},
                       {"nominal_df", Number(effect.test.nominal_df)},
                       {"f", Number(effect.test.f)},
                       {"p", Number(effect.test.p)},
                       {"marginal_means", MarginalMeansJson(effect.means)},
                       {"comparisons", PairsJson(effect.pairs)}});
  }
  return {{"factors", simple.factors}, {"within", simple.within}, {"effects", std::move(effects)}};
}

Json ContrastJson(const stats::Contrast& contrast) {
  return {{"contrast", contrast.formula},
          {"estimable", contrast.estimable},
          {"reason", ReasonOrNull(contrast.reason)},
          {"estimate", Number(contrast.estimate)},
          {"std_error", Number(contrast.std_error)},
          {"t", Number(contrast.t)},
          {"p", Number(contrast.p)},
          {"p_holm", Number(contrast.p_holm)},
          {"low", Number(contrast.low)},
          {"high", Number(contrast.high)}};
}

Json RankingJson(const CellRanking& ranking, const std::vector<std::string>& factors) {
  Json cells = Json::array();
  for (const RankedCell& cell : ranking.cells) {
    Json levels = Json::object();
    for (size_t f = 0; f < factors.size(); ++f) levels[factors[f]] = cell.levels[f];
    cells.push_back({{"levels", std::move(levels)},
                     {"n", cell.n},
                     {"mean", Number(cell.mean)},
                     {"low", Number(cell.low)},
                     {"high", Number(cell.high)},
                     {"may_be_best", cell.may_be_best}});
  }
  return {{"reason", ranking.reason.empty() ? Json(nullptr) : Json(ranking.reason)},
          {"from_replicates", ranking.from_replicates},
          {"error_df", Number(ranking.error_df)},
          {"may_be_best", ranking.may_be_best},
          {"cells", std::move(cells)}};
}

Json AssumptionsJson(const ModelDetails& details) {
  if (!details.assumptions_reason.empty())
    return {{"reason", details.assumptions_reason}, {"sentences", Json::array()}};
  const stats::AssumptionReport& report = details.assumptions;
  Json json = {{"reason", nullptr},
               {"sentences", report.sentences},
               {"normality",
                {{"test", report.normality_name},
                 {"statistic", Number(report.normality.statistic)},
                 {"p", Number(report.normality.p)}}},
               {"equal_spread", nullptr},
               {"box_cox", nullptr}};
  if (report.equal_spread) {
    json["equal_spread"] = {{"test", "Brown–Forsythe"},
                            {"by", report.equal_spread_by},
                            {"f", Number(report.equal_spread->statistic)},
                            {"p", Number(report.equal_spread->p)}};
  }
  if (report.box_cox) {
    json["box_cox"] = {{"lambda", Number(report.box_cox->lambda)},
                       {"low", Number(report.box_cox->low)},
                       {"high", Number(report.box_cox->high)}};
  }
  return json;
}

Json HalfNormalJson(const HalfNormal& half) {
  Json effects = Json::array();
  for (const HalfNormalEffect& effect : half.effects) {
    effects.push_back({{"term", effect.term}, {"size", Number(effect.size)}, {"quantile", Number(effect.quantile)}});
  }
  return {{"reason", half.reason.empty() ? Json(nullptr) : Json(half.reason)},
          {"formula", half.formula},
          {"pseudo_std_error", Number(half.pseudo_std_error)},
          {"margin_of_error", Number(half.margin_of_error)},
          {"effects", std::move(effects)}};
}

Json MixedModelJson(const stats::MixedModel& mixed) {
  Json terms = Json::array();
  for (const stats::MixedTerm& term : mixed.terms) {
    terms.push_back({{"term", term.term},
                     {"df", Number(term.df)},
                     {"denominator_df", Number(term.denominator_df)},
                     {"f", Number(term.f)},
                     {"p", Number(term.p)},
                     {"estimable", term.estimable}});
  }
  return {{"block", mixed.block},
          {"block_variance", Number(mixed.block_variance)},
          {"residual_variance", Number(mixed.residual_variance)},
          {"intraclass_correlation", Number(mixed.intraclass_correlation)},
          {"terms", std::move(terms)},
          {"warnings", mixed.warnings}};
}

Json ImportanceJson(const ModelDetails& details) {
  Json shares = Json::array();
  for (const stats::ImportanceShare& share : details.importance.shares) {
    shares.push_back({{"factors", share.factors}, {"share", Number(share.share)}, {"spread", Number(share.spread)}});
  }
  return {{"reason", details.importance_reason.empty() ? Json(nullptr) : Json(details.importance_reason)},
          {"shares", std::move(shares)},
          {"higher_order", Number(details.importance.higher_order)}};
}

Json BaselineJson(const ModelDetails& details, const std::vector<std::string>& factors) {
  if (!details.baseline_reason.empty()) return {{"reason", details.baseline_reason}, {"contrasts", Json::array()}};
  if (!details.has_baseline) return nullptr;
  const BaselineContrasts& baseline = details.baseline;
  Json levels = Json::object(), contrasts = Json::array();
  for (size_t f = 0; f < factors.size(); ++f) levels[factors[f]] = baseline.levels[f];
  for (const stats::Comparison& contrast : baseline.contrasts) {
    contrasts.push_back({{"cell", contrast.first},
                         {"estimable", contrast.estimable},
                         {"reason", ReasonOrNull(contrast.reason)},
                         {"difference", Number(contrast.difference)},
                         {"std_error", Number(contrast.std_error)},
                         {"low", Number(contrast.low)},
                         {"high", Number(contrast.high)},
                         {"p", Number(contrast.p)},
                         {"p_dunnett", Number(contrast.p_dunnett)},
                         {"p_holm", Number(contrast.p_holm)},
                         {"p_benjamini_hochberg", Number(contrast.p_benjamini_hochberg)}});
  }
  return {{"reason", nullptr},
          {"levels", std::move(levels)},
          {"mean", Number(baseline.mean)},
          {"from_replicates", baseline.from_replicates},
          {"contrasts", std::move(contrasts)}};
}

Json MethodPairsJson(const std::vector<stats::Comparison>& with_baseline) {
  Json pairs = Json::array();
  for (const stats::Comparison& pair : with_baseline) {
    pairs.push_back({{"method", pair.first},
                     {"estimable", pair.estimable},
                     {"reason", ReasonOrNull(pair.reason)},
                     {"difference", Number(pair.difference)},
                     {"std_error", Number(pair.std_error)},
                     {"low", Number(pair.low)},
                     {"high", Number(pair.high)},
                     {"p", Number(pair.p)},
                     {"p_dunnett", Number(pair.p_dunnett)},
                     {"p_holm", Number(pair.p_holm)}});
  }
  return pairs;
}

Json EqualMeansJson(const stats::JointTest& equal, double residual_df) {
  return {
      {"df", Number(equal.df)}, {"residual_df", Number(residual_df)}, {"f", Number(equal.f)}, {"p", Number(equal.p)}};
}

Json EqualParametersJson(const MethodComparison& comparison) {
  if (!comparison.at_equal_parameters) return nullptr;
  const EqualParameters& equal = *comparison.at_equal_parameters;
  Json methods = Json::array();
  for (const MethodAtBudget& method : equal.methods) {
    methods.push_back({{"method", method.method},
                       {"settings", method.settings},
                       {"parameters_low", Number(method.least)},
                       {"parameters_high", Number(method.most)},
                       {"estimable", method.mean.estimable},
                       {"reason", ReasonOrNull(method.mean.reason)},
                       {"mean", Number(method.mean.mean)},
                       {"std_error", Number(method.mean.std_error)},
                       {"low", Number(method.mean.low)},
                       {"high", Number(method.mean.high)}});
  }
  return {{"parameters", Number(equal.budget.parameters)},
          {"tolerance", Number(equal.budget.tolerance)},
          {"baseline", equal.baseline.empty() ? Json(nullptr) : Json(equal.baseline)},
          {"equal", EqualMeansJson(equal.equal, comparison.df)},
          {"methods", std::move(methods)},
          {"with_baseline", MethodPairsJson(equal.with_baseline)},
          {"sentences", equal.sentences}};
}

Json MethodComparisonJson(const std::optional<MethodComparison>& asked) {
  if (!asked) return nullptr;
  const MethodComparison& comparison = *asked;
  Json methods = Json::array();
  for (const MethodSummary& method : comparison.methods) {
    Json costs = Json::object(), best = nullptr;
    for (size_t i = 0; i < method.costs.size(); ++i) {
      costs[comparison.cost_names[i]] = {{"trials", method.costs[i].n},
                                         {"mean", Number(method.costs[i].mean)},
                                         {"low", Number(method.costs[i].low)},
                                         {"high", Number(method.costs[i].high)}};
    }
    if (!method.best_levels.empty()) {
      Json levels = Json::object();
      for (size_t i = 0; i < method.best_levels.size(); ++i) levels[method.own_factors[i]] = method.best_levels[i];
      best = {{"levels", std::move(levels)},
              {"mean", Number(method.best.mean)},
              {"std_error", Number(method.best.std_error)},
              {"low", Number(method.best.low)},
              {"high", Number(method.best.high)}};
    }
    methods.push_back({{"method", method.method},
                       {"trials", method.trials},
                       {"settings", method.settings},
                       {"own_factors", method.own_factors},
                       {"estimable", method.mean.estimable},
                       {"reason", ReasonOrNull(method.mean.reason)},
                       {"mean", Number(method.mean.mean)},
                       {"std_error", Number(method.mean.std_error)},
                       {"low", Number(method.mean.low)},
                       {"high", Number(method.mean.high)},
                       {"best", std::move(best)},
                       {"costs", std::move(costs)},
                       {"pareto_front", method.on_pareto_front ? Json(*method.on_pareto_front) : Json(nullptr)}});
  }
  return {{"factor", comparison.factor},
          {"baseline", comparison.baseline},
          {"equal", EqualMeansJson(comparison.equal, comparison.df)},
          {"pareto_of", comparison.pareto_of},
          {"methods", std::move(methods)},
          {"with_baseline", MethodPairsJson(comparison.with_baseline)},
          {"at_equal_parameters", EqualParametersJson(comparison)},
          {"sentences", comparison.sentences}};
}

Json PowerJson(const stats::AnovaTable& anova) {
  Json terms = Json::array();
  for (const ReachedPower& row : ComputeReachedPower(anova)) {
    terms.push_back({{"term", row.term},
                     {"found_f", Number(row.found_f)},
                     {"detectable_f", Number(row.detectable_f)},
                     {"power_of_medium", Number(row.power_of_medium)}});
  }
  return {{"alpha", kPowerAlpha}, {"power", kPowerAsked}, {"medium_f", kMediumEffect}, {"terms", std::move(terms)}};
}

// Everything behind the F table; null when there is no table.
Json DetailsJson(const FactorialAnalysis& analysis) {
  if (analysis.details == nullptr) return nullptr;
  const ModelDetails& details = *analysis.details;
  Json means = Json::object(), pairs = Json::object(), simple = Json::array(), contrasts = Json::array();
  for (const stats::SimpleEffects& effects : details.simple_effects) simple.push_back(SimpleEffectsJson(effects));
  for (const stats::Contrast& contrast : details.contrasts) contrasts.push_back(ContrastJson(contrast));
  for (const FactorComparison& comparison : details.comparisons) {
    means[comparison.factor] = MarginalMeansJson(comparison.means);
    pairs[comparison.factor] = PairsJson(comparison.pairs);
  }
  return {{"marginal_means", std::move(means)},
          {"comparisons", std::move(pairs)},
          {"simple_effects", std::move(simple)},
          {"contrasts", std::move(contrasts)},
          {"ranking", RankingJson(details.ranking, analysis.cell_factors)},
          {"assumptions", AssumptionsJson(details)},
          {"importance", ImportanceJson(details)},
          {"permutation", PermutationJson(details)},
          {"power", PowerJson(analysis.anova)},
          {"baseline", BaselineJson(details, analysis.cell_factors)},
          {"residual_sd", Number(details.residual_sd)},
          {"half_normal", HalfNormalJson(details.half_normal)},
          {"methods", MethodComparisonJson(details.methods)},
          {"mixed_model", details.has_mixed_model ? MixedModelJson(details.mixed_model) : Json(nullptr)}};
}

}  // namespace

Json AnovaJson(const FactorialAnalysis& analysis) {
  const stats::AnovaTable& anova = analysis.anova;
  const bool fitted = analysis.problem.empty();
  Json json;
  json["response"] = analysis.response;
  json["smaller_is_better"] = analysis.smaller_is_better;
  json["confidence"] = analysis.confidence;
  json["problem"] = fitted ? Json(nullptr) : Json(analysis.problem);
  json["formula"] = anova.formula;
  json["block"] = anova.block.empty() ? Json(nullptr) : Json(anova.block);
  json["ss_type"] = static_cast<int>(anova.ss_type);
  json["sample"] = SampleJson(anova.sample);
  json["terms"] = Json::array();
  for (const stats::AnovaTerm& term : anova.terms) json["terms"].push_back(TermJson(term));
  json["residual"] = fitted ? Json{{"df", Number(anova.residual.df)},
                                   {"sum_sq", Number(anova.residual.sum_sq)},
                                   {"mean_sq", Number(anova.residual.mean_sq)}}
                            : Json(nullptr);
  json["total"] = fitted ? Json{{"df", Number(anova.total_df)}, {"sum_sq", Number(anova.total_sum_sq)}} : Json(nullptr);
  json["pure_error"] =
      fitted ? Json{{"df", Number(anova.pure_error_df)}, {"sum_sq", Number(anova.pure_error_sum_sq)}} : Json(nullptr);
  json["grand_mean"] = fitted ? Number(anova.grand_mean) : Json(nullptr);
  json["r_squared"] = fitted ? Number(anova.r_squared) : Json(nullptr);
  json["one_way"] = Json::array();
  for (size_t i = 0; i < analysis.one_way.size(); ++i) {
    json["one_way"].push_back(OneWayJson(analysis.one_way[i], analysis.robust[i]));
  }
  json["means"] = Json::object();
  for (const FactorMeans& factor : analysis.means) {
    Json levels = Json::array();
    for (const stats::LevelMean& level : factor.levels) {
      Json entry = {{"level", level.level}};
      entry.update(MeanJson(level));
      levels.push_back(std::move(entry));
    }
    json["means"][factor.factor] = std::move(levels);
  }
  json["heat_map"] = analysis.has_heat_map ? HeatMapJson(analysis.heat_map) : Json(nullptr);
  json["cells"] = Json::array();
  for (size_t i = 0; i < analysis.cells.size(); ++i) {
    Json levels = Json::object();
    for (size_t f = 0; f < analysis.cell_factors.size(); ++f)
      levels[analysis.cell_factors[f]] = analysis.cells[i].levels[f];
    Json cell = {{"rank", i + 1}, {"levels", std::move(levels)}};
    cell.update(MeanJson(analysis.cells[i].mean));
    json["cells"].push_back(std::move(cell));
  }
  json["details"] = DetailsJson(analysis);
  json["notes"] = analysis.notes;
  return json;
}

std::string FormatAnovaJson(const FactorialAnalysis& analysis) {
  // Level names come from users: bytes that are not UTF-8 are replaced and not thrown at the caller.
  return PrintableJson(AnovaJson(analysis).dump(2, ' ', false, Json::error_handler_t::replace)) + "\n";
}

}  // namespace loupe::analysis::report
