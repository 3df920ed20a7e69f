// A factorial analysis as text, JSON or CSV, for `loupe anova` and as the core of a sweep's report.
#pragma once

#include <string>

#include "analysis/report/factorial_analysis.h"

namespace loupe::analysis {

// Tables for a terminal, at most 100 columns wide.
std::string FormatAnovaText(const FactorialAnalysis& analysis);

// {"response", "formula", "ss_type", "terms": [{"term", "df", "sum_sq", "mean_sq", "f", "p", …}], "residual": {"df",
// "sum_sq", "mean_sq"}, "one_way": […], "means": …, "cells": […], …}; all keys in docs/report.md. Numbers carry 17
// significant digits; what does not exist is null, never NaN.
std::string FormatAnovaJson(const FactorialAnalysis& analysis);

// One line per term, the residual last: kind,term,df,sum_sq,mean_sq,f,p,partial_eta_sq,omega_sq,estimable,note. The
// kinds: "anova", "residual", "one_way".
std::string FormatAnovaCsv(const FactorialAnalysis& analysis);

}  // namespace loupe::analysis
