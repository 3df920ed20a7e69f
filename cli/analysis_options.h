// Options that 'loupe anova' and 'loupe report' share: what to ask of an analysis and which of its tables to print.
#pragma once

#include <string>
#include <vector>

#include "CLI/App.hpp"
#include "absl/status/status.h"

namespace loupe::cli {

// --simple-effects and --contrast, each of which may be given again. The vectors must live until `command` has run.
void AddQuestionOptions(CLI::App& command, std::vector<std::string>& simple_effects,
                        std::vector<std::string>& contrasts);

// --table, among `tables` (the first is printed without it): of the CSV format, which it chooses where --format is not
// given. Both strings must live until `command` has run.
void AddTableOption(CLI::App& command, std::string& table, std::string& format, std::vector<std::string> tables);
// INVALID_ARGUMENT: a table was named, and the format is another.
absl::Status CheckTable(const std::string& table, const std::string& format);

}  // namespace loupe::cli
