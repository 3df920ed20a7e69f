// Every key of a sweep file, as Markdown tables: what `loupe keys` prints and docs/sweep-file.md holds.
#pragma once

#include <string>

namespace loupe::cli {

// One table for the keys that are no settings, then one per section of settings, in the order of the tables in
// common/settings/setting_rules.cc and SweepFileStructure(). Ends in a line break.
std::string SweepFileReference();

}  // namespace loupe::cli
