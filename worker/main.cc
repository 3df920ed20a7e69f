// `loupe-worker`: trains and scores trials, for a coordinator or by hand.
#include <cstdio>
#include <string_view>

#include "CLI/App.hpp"
#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "fmt/format.h"
#include "worker/commands/commands.h"

#ifdef LOUPE_WITH_PRETRAIN
namespace loupe::worker {
// worker/pretrain/pretrain.h, without its tensors: reads its own command line.
int PretrainMain(int argc, char** argv);
}  // namespace loupe::worker
#endif

int main(int argc, char** argv) {
#ifdef LOUPE_WITH_PRETRAIN
  if (argc > 1 && std::string_view(argv[1]) == "pretrain") return loupe::worker::PretrainMain(argc - 1, argv + 1);
#endif
  CLI::App app{"Loupe's worker: trains and scores trials", "loupe-worker"};
  app.set_version_flag("--version", LOUPE_VERSION);
  app.require_subcommand(1);
  app.footer("Exit codes: 0 done, 1 failed, 2 wrong command line or input.");
  int exit_code = 0;
  loupe::worker::AddRunCommand(app, exit_code);
  loupe::worker::AddTrialCommand(app, exit_code);
  loupe::worker::AddSampleCommand(app, exit_code);
  loupe::worker::AddRenderEmojiCommand(app, exit_code);
#ifdef LOUPE_WITH_PRETRAIN
  app.add_subcommand("pretrain", "Train a base model from a list of emoji (loupe-worker pretrain --help)");
#endif
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
    fmt::print(stderr, "loupe-worker: {}\nRun 'loupe-worker --help' for more.\n", error.what());
    return 2;
  }
  return exit_code;
}
