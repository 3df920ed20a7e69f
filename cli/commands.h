// The subcommands of `loupe`. Each Add… function hangs one on the app; when it is chosen, its callback runs the command
// and leaves the exit code in `exit_code`, which must outlive the app.
#pragma once

#include "CLI/App.hpp"

namespace loupe::cli {

// Without a coordinator.
void AddPlanCommand(CLI::App& app, int& exit_code);
void AddAnovaCommand(CLI::App& app, int& exit_code);
void AddKeysCommand(CLI::App& app, int& exit_code);

void AddUpCommand(CLI::App& app, int& exit_code);
void AddDataCommands(CLI::App& app, int& exit_code);

// With one.
void AddSubmitCommand(CLI::App& app, int& exit_code);
void AddAugmentCommand(CLI::App& app, int& exit_code);
void AddWatchCommand(CLI::App& app, int& exit_code);
void AddSweepCommands(CLI::App& app, int& exit_code);
void AddTrialCommands(CLI::App& app, int& exit_code);
void AddWorkerCommands(CLI::App& app, int& exit_code);
void AddReportCommand(CLI::App& app, int& exit_code);

}  // namespace loupe::cli
