// `loupe keys`: the reference of the sweep file, from the program's own tables.
#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/output.h"
#include "cli/sweep_file_reference.h"

namespace loupe::cli {

void AddKeysCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("keys", "Print every key of a sweep file, its values and default (Markdown)");
  command->callback([&exit_code] { exit_code = Fail(WriteOutput(SweepFileReference(), "")); });
}

}  // namespace loupe::cli
