// `loupe`: plans, submits and watches sweeps, and analyses their results.
#include <cstdio>

#include "CLI/App.hpp"
#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "cli/name_hint.h"
#include "fmt/format.h"

namespace {

constexpr char kFooter[] =
    "Exit codes: 0 done, 1 failed, 2 wrong command line or input, 3 no coordinator answers,\n"
    "4 the sweep ended with trials that have no result, 130 interrupted.";

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Loupe: factorial sweeps over parameter-efficient tuning of diffusion models", "loupe"};
  app.set_version_flag("--version", LOUPE_VERSION);
  app.require_subcommand(1);
  app.footer(kFooter);
  int exit_code = loupe::cli::kOk;
  loupe::cli::AddPlanCommand(app, exit_code);
  loupe::cli::AddUpCommand(app, exit_code);
  loupe::cli::AddSubmitCommand(app, exit_code);
  loupe::cli::AddAugmentCommand(app, exit_code);
  loupe::cli::AddWatchCommand(app, exit_code);
  loupe::cli::AddSweepCommands(app, exit_code);
  loupe::cli::AddReportCommand(app, exit_code);
  loupe::cli::AddTrialCommands(app, exit_code);
  loupe::cli::AddWorkerCommands(app, exit_code);
  loupe::cli::AddAnovaCommand(app, exit_code);
  loupe::cli::AddDataCommands(app, exit_code);
  loupe::cli::AddKeysCommand(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
    const std::string hint = loupe::cli::CommandHint(app, argc, argv);
    fmt::print(stderr, "loupe: {}{}\nRun 'loupe {}--help' for more.\n", error.what(), hint,
               app.get_subcommands().empty() ? "" : app.get_subcommands().front()->get_name() + " ");
    return loupe::cli::kBadInput;
  }
  // A full disk or a closed pipe behind stdout is a failure even where the command itself went well.
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    if (exit_code == loupe::cli::kOk) exit_code = loupe::cli::kFailed;
  }
  return exit_code;
}
