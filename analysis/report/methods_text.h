// A methods paragraph, ready to paste in a paper: design, model, sums of squares, contrasts, n, missing, seeds.
#pragma once

#include <string>

#include "analysis/report/sweep_analysis.h"
#include "analysis/report/sweep_results.h"

namespace loupe::analysis::report {

std::string MethodsText(const SweepResults& results, const SweepAnalysis& sweep);

}  // namespace loupe::analysis::report
