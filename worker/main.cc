// `loupe-worker`: trains and scores trials, for a coordinator or by hand.
#include <cstdio>
#include <string_view>

#include "CLI/App.hpp"
#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "common/man_page.h"
#include "fmt/format.h"
#include "worker/commands/commands.h"

int main(int argc, char** argv) {
  CLI::App app{"Loupe's worker: trains and scores trials", "loupe-worker"};
  app.set_version_flag("--version",
                       "loupe-worker " LOUPE_VERSION "\nbuild: " LOUPE_BUILD "\nLibTorch: " LOUPE_LIBTORCH);
  app.require_subcommand(1);
  app.footer("Exit codes: 0 done, 1 failed, 2 wrong command line or input.");
  int exit_code = 0;
  loupe::worker::commands::AddRunCommand(app, exit_code);
  loupe::worker::commands::AddTrialCommand(app, exit_code);
  loupe::worker::commands::AddRankCommand(app, exit_code);
  loupe::worker::commands::AddSampleCommand(app, exit_code);
  loupe::worker::commands::AddNoiseDiffCommand(app, exit_code);
  loupe::worker::commands::AddExportCommand(app, exit_code);
  loupe::worker::commands::AddConvertCommand(app, exit_code);
  loupe::worker::commands::AddInspectCommand(app, exit_code);
  loupe::worker::commands::AddRenderEmojiCommand(app, exit_code);
  loupe::worker::commands::AddRenderPhotographsCommand(app, exit_code);
  loupe::worker::commands::AddPretrainCommand(app, exit_code);
  loupe::worker::commands::AddEvaluateCommand(app, exit_code);
  loupe::worker::commands::AddBenchCommand(app, exit_code);
  if (loupe::PrintedManPage(argc, argv, app,
                            {.name = "loupe-worker",
                             .summary = "trains and scores trials, for a coordinator or by hand",
                             .version = LOUPE_VERSION,
                             .date = "",
                             .sections = {{"EXIT STATUS", "0 done, 1 failed, 2 wrong command line or input."},
                                          {"SEE ALSO", "loupe(1), loupe-coordinator(1)"}}})) {
    return 0;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
    fmt::print(stderr, "loupe-worker: {}\nRun 'loupe-worker --help' for more.\n", error.what());
    return 2;
  }
  return exit_code;
}
