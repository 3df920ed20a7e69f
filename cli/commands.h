// The subcommands of `loupe`. Each Add… function hangs one on the app; when it is chosen, its callback runs the command
// and leaves the exit code in `exit_code`, which must outlive the app.
#pragma once

#include <string>
#include <vector>

#include "CLI/App.hpp"

namespace loupe::cli {

// Without a coordinator.
void AddPlanCommand(CLI::App& app, int& exit_code);
void AddAnovaCommand(CLI::App& app, int& exit_code);
void AddKeysCommand(CLI::App& app, int& exit_code);

void AddUpCommand(CLI::App& app, int& exit_code);
void AddDataCommands(CLI::App& app, int& exit_code);

// The shell's completion, and the manual pages; both need all other commands to be there.
void AddCompletionCommand(CLI::App& app, int& exit_code);
void AddManCommand(CLI::App& app, int& exit_code);
// For the completion's scripts: what may come next after `words`. Returns the exit code.
int PrintCompletions(const CLI::App& app, const std::vector<std::string>& words);

// With one.
void AddSubmitCommand(CLI::App& app, int& exit_code);
void AddAugmentCommand(CLI::App& app, int& exit_code);
void AddWatchCommand(CLI::App& app, int& exit_code);
void AddSweepCommands(CLI::App& app, int& exit_code);
void AddTrialCommands(CLI::App& app, int& exit_code);
void AddWorkerCommands(CLI::App& app, int& exit_code);
void AddTopCommand(CLI::App& app, int& exit_code);
void AddReportCommand(CLI::App& app, int& exit_code);
void AddOpenCommand(CLI::App& app, int& exit_code);
void AddFleetCommand(CLI::App& app, int& exit_code);

}  // namespace loupe::cli
