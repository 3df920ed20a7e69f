// `loupe logs`, one of the commands on trials.
#pragma once

#include "CLI/App.hpp"

namespace loupe::cli {

void AddLogsCommand(CLI::App& app, int& exit_code);

}  // namespace loupe::cli
