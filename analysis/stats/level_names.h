// Which texts of a column name one level, and which say that there is none.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "analysis/stats/data_table.h"

namespace loupe::analysis::stats {

// Whether a field says "no value" by a convention: empty, NA, N/A, #N/A, <NA>, NaN, null, \N, '.' (SAS), '?' (Weka), a
// dash, a spreadsheet's error (#DIV/0!), … in any case. "None" does so only in a column of numbers (`of_numbers`): in a
// factor it may be a level. A dash among levels with a '+' is a level too: so are two-level designs coded.
bool IsMissingMarker(std::string_view text, bool of_numbers);

// Tidies a factor whose levels are the distinct texts of its column, in the order in which they came:
// levels that are markers become missing; levels that are one decimal number in several spellings (1e-4, 0.0001, 1E-04)
// become one, under its first spelling; levels that are all numbers are put in ascending order. Each change that a
// reader of the table could not expect, and levels that are suspiciously alike (case, inner blanks, a rounding error),
// get a sentence in `warnings`.
void TidyLevels(Factor& factor, std::vector<std::string>& warnings);

// The index of the level that `text` names: as it is written, else the same number in another spelling.
std::optional<size_t> FindLevel(const std::vector<std::string>& levels, std::string_view text);

}  // namespace loupe::analysis::stats
