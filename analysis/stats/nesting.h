// Factors that exist only at some levels of another: the settings of its own that each method of a comparison has (an
// adapter's activation, LoRA's rank). In R's notation `method/rank`, with a rank for one method alone.
//
// How the model takes them (Searle 1971 §6.2; McCullagh & Nelder 1989 §3.3): a nested factor's term always holds the
// outer factor (method:rank), so that by marginality the outer one is tested before it and it after the outer one; its
// columns are contrasts among its own levels and 0 elsewhere. The mean of a level of the outer factor is that of its
// settings that occur, each with the same weight (reference_grid.h).
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "analysis/stats/data_table.h"

namespace loupe::analysis::stats {

// The table with its factors nested in `outer`: a factor without a level in every row of a level of `outer`, whatever
// became of those rows, exists at the other levels only. It takes kAbsentLevel where it does not exist; where it exists
// at several levels of `outer`, it becomes a factor for each of them ("rank in lora"), with the levels that occur
// there. A factor that no row has exists nowhere, and no row is left out for it. `apart` (may be empty: none) is no
// method's own, such as the block. NotFound: no factor `outer`.
absl::StatusOr<DataTable> NestFactors(const DataTable& data, std::string_view outer, std::string_view apart);

// The same table with nothing in the place of kAbsentLevel: what was observed, factor by factor.
DataTable WithoutAbsentLevels(const DataTable& data);

bool HasNestedFactors(const DataTable& data);

// How tables call a nested factor's term, its factors joined by ":" and without the outer one: "rank in lora". A name
// that says where it belongs already ("rank in lora", "lora.rank") stays; `within` may be empty: no nested term.
std::string NestedTermName(const std::string& term, const std::string& within);

}  // namespace loupe::analysis::stats
