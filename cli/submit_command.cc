// `loupe submit FILE`.
#include <memory>
#include <string>

#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/exit_code.h"
#include "cli/failure.h"
#include "cli/output.h"
#include "cli/sweep_input.h"
#include "cli/views.h"
#include "cli/watch.h"
#include "common/ids.h"
#include "common/random_source.h"
#include "common/status_macros.h"
#include "coordinator/plan_proto/spec_proto.h"
#include "fmt/format.h"
#include "loupe/v1/sweep.grpc.pb.h"

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

// The stored sweep of that id, if it plans the same trials as `plan`; ALREADY_EXISTS, with what to do, if it does not.
absl::StatusOr<v1::Sweep> SameSweep(const Connection& connection, v1::SweepService::StubInterface& stub,
                                    const SweepId& id, const coordinator::Plan& plan) {
  v1::GetSweepRequest request;
  request.set_name(id.name());
  LOUPE_ASSIGN_OR_RETURN(v1::Sweep sweep, Call(connection, stub, &v1::SweepService::StubInterface::GetSweep, request));
  LOUPE_ASSIGN_OR_RETURN(coordinator::SweepSpec stored, coordinator::SpecFromProto(sweep.spec()));
  coordinator::SweepSpec wanted = plan.spec();
  stored.source_text.clear();
  wanted.source_text.clear();
  if (stored == wanted) return sweep;
  return absl::AlreadyExistsError(fmt::format(
      "there is a sweep '{0}' already, from another file; give this one another name (--id), or remove that one with "
      "'loupe delete {0}'",
      id.id()));
}

void PrintPlanNotes(const v1::PlanSummary& plan) {
  for (const std::string& note : plan.notes()) fmt::print(stderr, "note: {}\n", note);
}

absl::StatusOr<v1::Sweep> Submit(const SubmitFlags& flags, const Connection& connection) {
  LOUPE_ASSIGN_OR_RETURN(const SweepInput input, ReadSweepInput(flags.file));
  LOUPE_ASSIGN_OR_RETURN(const SweepId id, SweepId::FromId(flags.id.empty() ? input.file.sweep_id : flags.id));
  const auto stub = v1::SweepService::NewStub(connection.channel());
  v1::CreateSweepRequest request;
  request.set_sweep_id(id.id());
  *request.mutable_spec() = coordinator::SpecToProto(input.plan.spec());
  request.set_request_id(ToUuid4(SystemRandom().NextToken()));
  request.set_validate_only(flags.dry_run);
  absl::StatusOr<v1::CreateSweepResponse> response =
      Call(connection, static_cast<v1::SweepService::StubInterface&>(*stub),
           &v1::SweepService::StubInterface::CreateSweep, request);
  if (response.status().code() == absl::StatusCode::kAlreadyExists) {
    LOUPE_ASSIGN_OR_RETURN(v1::Sweep same, SameSweep(connection, *stub, id, input.plan));
    if (flags.exist_ok) return same;
    return absl::AlreadyExistsError(fmt::format(
        "the sweep '{0}' has been submitted already; see 'loupe status {0}', or give --exist-ok to go on with it",
        id.id()));
  }
  if (!response.ok()) return coordinator::LocateInFile(response.status(), input.file);
  PrintPlanNotes(response->plan());
  if (!flags.dry_run) return response->sweep();
  v1::Sweep planned;
  planned.set_name(id.name());
  planned.set_cell_count(response->plan().cells());
  planned.mutable_counts()->set_total(response->plan().trials());
  return planned;
}

int Run(const SubmitFlags& flags) {
  const absl::StatusOr<std::shared_ptr<Connection>> connection = Connect(flags.connect);
  if (!connection.ok()) return Fail(connection.status());
  const absl::StatusOr<v1::Sweep> sweep = Submit(flags, **connection);
  if (!sweep.ok()) return Fail(sweep.status());
  const std::string id = LastPart(sweep->name());
  const std::string text =
      flags.format == "json" ? SweepJson(*sweep).dump(2) + "\n"
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
