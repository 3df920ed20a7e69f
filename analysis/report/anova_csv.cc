#include <cmath>

#include "analysis/report/anova_format.h"
#include "common/text.h"
#include "fmt/format.h"

namespace loupe::analysis {
namespace {

void Line(std::string& out, const std::vector<std::string>& fields) {
  for (size_t i = 0; i < fields.size(); ++i) {
    if (i > 0) out += ',';
    out += fields[i];
  }
  out += '\n';
}

}  // namespace

std::string_view SumOfSquaresName(SumOfSquares type) {
  return type == SumOfSquares::kType1 ? "I" : type == SumOfSquares::kType2 ? "II" : "III";
}

std::string CsvNumber(double value) { return std::isnan(value) ? "" : fmt::format("{}", value); }
// With all its digits, also where no double holds it.
std::string CsvNumber(const WideNumber& value) {
  return value.FitsDouble() ? CsvNumber(static_cast<double>(value)) : value.Decimal(17);
}

std::string FormatAnovaCsv(const FactorialAnalysis& analysis) {
  std::string out =
      "kind,term,df,sum_sq,mean_sq,f,p,partial_eta_sq,partial_eta_sq_low,partial_eta_sq_high,omega_sq,estimable,note\n";
  for (const AnovaTerm& term : analysis.anova.terms) {
    Line(out, {"anova", CsvField(term.term), CsvNumber(term.df), CsvNumber(term.sum_sq), CsvNumber(term.mean_sq),
               CsvNumber(term.f), CsvNumber(term.p), CsvNumber(term.effect.partial_eta_sq),
               CsvNumber(term.effect.partial_eta_sq_low), CsvNumber(term.effect.partial_eta_sq_high),
               CsvNumber(term.effect.omega_sq), term.estimable ? "true" : "false", CsvField(term.note)});
  }
  if (analysis.problem.empty()) {
    const AnovaResidual& residual = analysis.anova.residual;
    Line(out, {"residual", "residual", CsvNumber(residual.df), CsvNumber(residual.sum_sq), CsvNumber(residual.mean_sq),
               "", "", "", "", "", "", "", ""});
  }
  for (const OneWayResult& row : analysis.one_way) {
    Line(out, {"one_way", CsvField(row.factor), CsvNumber(row.between_df), CsvNumber(row.between_sum_sq),
               CsvNumber(row.between_mean_sq), CsvNumber(row.f), CsvNumber(row.p), CsvNumber(row.r_squared), "", "", "",
               std::isnan(row.f) ? "false" : "true", ""});
    Line(out, {"one_way_residual", CsvField(row.factor), CsvNumber(row.within_df), CsvNumber(row.within_sum_sq),
               CsvNumber(row.within_mean_sq), "", "", "", "", "", "", "", ""});
  }
  return out;
}

}  // namespace loupe::analysis
