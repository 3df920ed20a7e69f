// `loupe submit FILE`.
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/create_sweep.h"
#include "cli/exit_code.h"
#include "cli/failure.h"
#include "cli/output.h"
#include "cli/sweep_input.h"
#include "cli/views.h"
#include "cli/watch.h"
#include "common/ids.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "loupe/v1/sweep.pb.h"

namespace loupe::cli {
namespace {

struct SubmitFlags {
  ConnectFlags connect;
  std::string file;
  std::string id;
  bool exist_ok = false;
  bool dry_run = false;
  bool watch = false;
  std::string format;
};

absl::StatusOr<v1::Sweep> Submit(const SubmitFlags& flags, const clients::rpc::Connection& connection) {
  LOUPE_ASSIGN_OR_RETURN(const SweepInput input, ReadSweepInput(flags.file));
  LOUPE_ASSIGN_OR_RETURN(const SweepId id, SweepId::FromId(flags.id.empty() ? input.file.sweep_id : flags.id));
  absl::StatusOr<v1::Sweep> sweep =
      CreateSweep(connection, id, input.plan, {.exist_ok = flags.exist_ok, .validate_only = flags.dry_run});
  if (!sweep.ok()) return coordinator::plan::LocateInFile(sweep.status(), input.file);
  return sweep;
}

int Run(const SubmitFlags& flags) {
  const absl::StatusOr<std::shared_ptr<clients::rpc::Connection>> connection = Connect(flags.connect);
  if (!connection.ok()) return Fail(connection.status());
  const absl::StatusOr<v1::Sweep> sweep = Submit(flags, **connection);
  if (!sweep.ok()) return Fail(sweep.status());
  const std::string id = LastPart(sweep->name());
  const std::string text =
      flags.format == "json" ? JsonText(SweepJson(*sweep))
      : flags.dry_run ? fmt::format("{}: {} trials would be run; nothing was submitted\n", id, sweep->counts().total())
                      : fmt::format("{}: {} trials, {} of them done; see 'loupe watch {}'\n", id,
                                    sweep->counts().total(), EndedTrials(sweep->counts()), id);
  if (const absl::Status written = WriteOutput(text, ""); !written.ok()) return Fail(written);
  if (!flags.watch || flags.dry_run) return kOk;
  return WatchSweep({.connect = flags.connect, .sweep = id});
}

}  // namespace

void AddSubmitCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("submit", "Hand a sweep to the coordinator");
  const auto flags = std::make_shared<SubmitFlags>();
  command->add_option("file", flags->file, "Sweep file (docs/sweep-file.md); '-' reads standard input")->required();
  command->add_option("--id", flags->id, "Name of the sweep, instead of the file's");
  command->add_flag("--exist-ok", flags->exist_ok, "Go on with a sweep of that name, if it has the same design");
  command->add_flag("--dry-run", flags->dry_run, "Let the coordinator check it, and submit nothing");
  command->add_flag("--watch", flags->watch, "Then watch it to its end");
  AddFormatOption(*command, flags->format, {"text", "json"});
  AddConnectOptions(*command, flags->connect);
  command->callback([flags, &exit_code] { exit_code = Run(*flags); });
}

}  // namespace loupe::cli
