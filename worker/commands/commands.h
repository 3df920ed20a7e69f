// The sub-commands of loupe-worker. Each adds itself to the command line and leaves its exit code: 0 done, 1 failed, 2
// wrong command line or input (as `loupe` has them).
#pragma once

#include <string_view>

#include "CLI/App.hpp"
#include "absl/status/status.h"

namespace loupe::worker::commands {

// run: takes trials from a coordinator until it is told to end.
void AddRunCommand(CLI::App& app, int& exit_code);
// trial: runs one trial here, without a coordinator.
void AddTrialCommand(CLI::App& app, int& exit_code);
// rank: one of the other processes of a trial on several devices; run and trial start them.
void AddRankCommand(CLI::App& app, int& exit_code);
// sample: pictures from a prompt.
void AddSampleCommand(CLI::App& app, int& exit_code);
// noise-diff: what the identifier changes in the predicted noise.
void AddNoiseDiffCommand(CLI::App& app, int& exit_code);
// export: a tuned base or an adapter in other programs' layouts.
void AddExportCommand(CLI::App& app, int& exit_code);
// convert: a LoRA, embedding or hypernetwork in another program's form.
void AddConvertCommand(CLI::App& app, int& exit_code);
// inspect: what such a file is.
void AddInspectCommand(CLI::App& app, int& exit_code);
// render-emoji: the built-in data as image files.
void AddRenderEmojiCommand(CLI::App& app, int& exit_code);
// render-photographs: photographed things as image files.
void AddRenderPhotographsCommand(CLI::App& app, int& exit_code);
// pretrain: the built-in base and its scorer, from the emoji alone.
void AddPretrainCommand(CLI::App& app, int& exit_code);

// evaluate: how good a base is, on what it was trained on and on what was held out.
void AddEvaluateCommand(CLI::App& app, int& exit_code);
// bench: where a base's time goes, beside what the machine can do.
void AddBenchCommand(CLI::App& app, int& exit_code);

// Prints a failure and returns its exit code; 0 for OK.
int Report(std::string_view command, const absl::Status& status);

}  // namespace loupe::worker::commands
