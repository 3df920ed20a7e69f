// `loupe man`: the manual pages of this program and of those beside it.
#include <cstdio>
#include <filesystem>
#include <memory>

#include "cli/child_process.h"
#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/output.h"
#include "cli/run_program.h"
#include "common/atomic_file.h"
#include "common/man_page.h"
#include "common/status_macros.h"
#include "fmt/format.h"

namespace loupe::cli {
namespace {

constexpr char kEnvironment[] =
    "LOUPE_ADDRESS, LOUPE_TOKEN, LOUPE_TOKEN_FILE, LOUPE_CREDENTIALS, LOUPE_CA_FILE, LOUPE_CERT_FILE and LOUPE_KEY_FILE "
    "stand for the options of the connection.\n\n"
    "With NO_COLOR, what is shown on a terminal has no colours; with TERM=dumb, the live views are plain lines.";
constexpr char kExitStatus[] =
    "0 done, 1 failed, 2 wrong command line or input, 3 no coordinator answers, 4 the sweep ended with trials that have "
    "no result, 130 interrupted.";
constexpr char kFiles[] =
    ".loupe/address, .loupe/http_address, .loupe/token and .loupe/credentials are left by 'loupe up' in the working "
    "directory: where its coordinator and its page are, and the token for them.";

// "0.1.0" of "loupe 0.1.0" and what else --version says.
std::string VersionOf(const CLI::App& app) {
  const std::string all = app.version();
  const std::string first = all.substr(0, all.find('\n'));
  return first.substr(first.rfind(' ') + 1);
}

std::string OwnPage(const CLI::App& app) {
  return ManPage(app, {.name = "loupe",
                       .summary = "plans, submits and watches sweeps, and analyses their results",
                       .version = VersionOf(app),
                       .date = ManPageDate(),
                       .sections = {{"EXIT STATUS", kExitStatus},
                                    {"ENVIRONMENT", kEnvironment},
                                    {"FILES", kFiles},
                                    {"SEE ALSO", "loupe-coordinator(1), loupe-worker(1)"}}});
}

absl::StatusOr<std::string> PageOf(const std::string& name) {
  LOUPE_ASSIGN_OR_RETURN(const std::string program, ProgramBeside(name));
  LOUPE_ASSIGN_OR_RETURN(const ProgramEnd end, RunProgram({program, "--man"}));
  if (end.exit_code == 0 && end.output.starts_with(".TH ")) return end.output;
  return absl::FailedPreconditionError(
      fmt::format("'{}' has no manual page; is it of another version?\n{}", program, end.errors));
}

absl::Status WritePages(const CLI::App& app, const std::string& folder) {
  // All of them, or none.
  LOUPE_ASSIGN_OR_RETURN(const std::string coordinator, PageOf("loupe-coordinator"));
  LOUPE_ASSIGN_OR_RETURN(const std::string worker, PageOf("loupe-worker"));
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    return absl::FailedPreconditionError(fmt::format("cannot make the folder '{}': {}", folder, error.message()));
  LOUPE_RETURN_IF_ERROR(WriteFileAtomically(folder + "/loupe.1", OwnPage(app)));
  LOUPE_RETURN_IF_ERROR(WriteFileAtomically(folder + "/loupe-coordinator.1", coordinator));
  LOUPE_RETURN_IF_ERROR(WriteFileAtomically(folder + "/loupe-worker.1", worker));
  return WriteOutput(fmt::format("loupe.1, loupe-coordinator.1 and loupe-worker.1 are in '{}'\n", folder), "");
}

}  // namespace

void AddManCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("man", "Print this program's manual page, or write those of all programs");
  const auto folder = std::make_shared<std::string>();
  command->add_option("--out", *folder, "Folder to write loupe.1, loupe-coordinator.1 and loupe-worker.1 to");
  command->callback([folder, &app, &exit_code] {
    exit_code = Fail(folder->empty() ? WriteBytes(OwnPage(app), "") : WritePages(app, *folder));
  });
}

}  // namespace loupe::cli
