// Commands on submitted sweeps: sweeps, status, pause, resume, stop, cancel, retry, delete.
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "analysis/report/text_table.h"
#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/failure.h"
#include "cli/output.h"
#include "cli/progress_view.h"
#include "cli/running_attempts.h"
#include "cli/sweep_name.h"
#include "cli/time_text.h"
#include "cli/views.h"
#include "common/random_source.h"
#include "common/settings/settings.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "loupe/v1/sweep.grpc.pb.h"

namespace loupe::cli {
namespace {

using SweepStub = v1::SweepService::StubInterface;

struct SweepFlags {
  ConnectFlags connect;
  std::string sweep;
  std::string format;
  bool force = false;
  bool failed = false, quarantined = false, cancelled = false;
  std::vector<std::string> cell;
};

std::string LeftText(const v1::Sweep& sweep) {
  return sweep.has_estimated_time_left() ? TimeText(Seconds(sweep.estimated_time_left())) : "";
}

// `packs`: as PacksText has it.
std::string SweepText(const v1::Sweep& sweep, const std::string& packs = "") {
  const v1::TrialCounts& counts = sweep.counts();
  std::string text = fmt::format("{}: {}{}\n", LastPart(sweep.name()), v1::Sweep::State_Name(sweep.state()),
                                 sweep.state_reason().empty() ? "" : fmt::format(" ({})", sweep.state_reason()));
  if (!sweep.spec().display_name().empty()) text += fmt::format("  {}\n", sweep.spec().display_name());
  text += fmt::format("  {} cells × {} replicates = {} trials\n", sweep.cell_count(), sweep.spec().replicates(),
                      counts.total());
  text += fmt::format("  queued {}, running {}{}, succeeded {}, failed {}, quarantined {}, cancelled {}\n",
                      counts.queued(), counts.running(), packs, counts.succeeded(), counts.failed(),
                      counts.quarantined(), counts.cancelled());
  for (const v1::WaitingTrials& waiting : sweep.waiting()) text += fmt::format("  {}\n", WaitingText(waiting));
  if (const std::string left = LeftText(sweep); !left.empty() && !IsTerminal(sweep.state())) {
    text += fmt::format("  about {} left\n", left);
  }
  return text;
}

absl::Status PrintSweep(const v1::Sweep& sweep, const std::string& format) {
  return WriteOutput(format == "json" ? JsonText(SweepJson(sweep)) : SweepText(sweep), "");
}

absl::StatusOr<std::vector<v1::Sweep>> AllSweeps(const clients::rpc::Connection& connection) {
  const auto stub = v1::SweepService::NewStub(connection.channel());
  std::vector<v1::Sweep> sweeps;
  LOUPE_RETURN_IF_ERROR(CallForPages(connection, static_cast<SweepStub&>(*stub), &SweepStub::ListSweeps,
                                     v1::ListSweepsRequest(), [&](v1::ListSweepsResponse& page) {
                                       for (v1::Sweep& sweep : *page.mutable_sweeps())
                                         sweeps.push_back(std::move(sweep));
                                     }));
  return sweeps;
}

absl::Status ListSweeps(const SweepFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<clients::rpc::Connection> connection, Connect(flags.connect));
  LOUPE_ASSIGN_OR_RETURN(const std::vector<v1::Sweep> sweeps, AllSweeps(*connection));
  if (flags.format == "json") {
    nlohmann::ordered_json json;
    json["sweeps"] = nlohmann::ordered_json::array();
    for (const v1::Sweep& sweep : sweeps) json["sweeps"].push_back(SweepJson(sweep));
    return WriteOutput(JsonText(json), "");
  }
  if (sweeps.empty()) return WriteOutput("no sweeps yet; submit one with 'loupe submit FILE'\n", "");
  analysis::report::TextTable table({"sweep", "state", "trials", "done", "running", "failed", "left"},
                                    /*left_columns=*/2);
  for (const v1::Sweep& sweep : sweeps) {
    const v1::TrialCounts& counts = sweep.counts();
    table.Add({LastPart(sweep.name()), v1::Sweep::State_Name(sweep.state()), fmt::format("{}", counts.total()),
               fmt::format("{}", EndedTrials(counts)), fmt::format("{}", counts.running()),
               fmt::format("{}", counts.failed() + counts.quarantined()),
               IsTerminal(sweep.state()) ? "" : LeftText(sweep)});
  }
  return WriteOutput(table.Text(), "");
}

absl::Status ShowStatus(const SweepFlags& flags) {
  if (flags.sweep.empty()) return ListSweeps(flags);
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<clients::rpc::Connection> connection, Connect(flags.connect));
  const auto stub = v1::SweepService::NewStub(connection->channel());
  v1::GetSweepRequest request;
  LOUPE_ASSIGN_OR_RETURN(*request.mutable_name(), SweepName(flags.sweep));
  LOUPE_ASSIGN_OR_RETURN(const v1::Sweep sweep,
                         Call(*connection, static_cast<SweepStub&>(*stub), &SweepStub::GetSweep, request));
  if (flags.format == "json" || sweep.counts().running() == 0) return PrintSweep(sweep, flags.format);
  LOUPE_ASSIGN_OR_RETURN(const auto running, RunningAttemptsOf(*connection, sweep.name()));
  return WriteOutput(SweepText(sweep, PacksText(running)), "");
}

using SweepVerb = grpc::Status (SweepStub::*)(grpc::ClientContext*, const v1::SweepVerbRequest&, v1::Sweep*);

absl::Status RunVerb(const SweepFlags& flags, SweepVerb verb) {
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<clients::rpc::Connection> connection, Connect(flags.connect));
  const auto stub = v1::SweepService::NewStub(connection->channel());
  v1::SweepVerbRequest request;
  LOUPE_ASSIGN_OR_RETURN(*request.mutable_name(), SweepName(flags.sweep));
  request.set_request_id(ToUuid4(SystemRandom().NextToken()));
  LOUPE_ASSIGN_OR_RETURN(const v1::Sweep sweep, Call(*connection, static_cast<SweepStub&>(*stub), verb, request));
  return PrintSweep(sweep, flags.format);
}

absl::Status RetryTrials(const SweepFlags& flags) {
  v1::RetryTrialsRequest request;
  LOUPE_ASSIGN_OR_RETURN(*request.mutable_name(), SweepName(flags.sweep));
  request.set_failed(flags.failed);
  request.set_quarantined(flags.quarantined);
  request.set_cancelled(flags.cancelled);
  request.set_request_id(ToUuid4(SystemRandom().NextToken()));
  for (const std::string& text : flags.cell) {
    const std::pair<std::string, std::string> level = absl::StrSplit(text, absl::MaxSplits('=', 1));
    if (level.first.empty() || level.second.empty()) {
      return absl::InvalidArgumentError(fmt::format("--cell '{}': expected factor=level, such as scale=4", text));
    }
    (*request.mutable_cell())[level.first] = level.second;
  }
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<clients::rpc::Connection> connection, Connect(flags.connect));
  const auto stub = v1::SweepService::NewStub(connection->channel());
  LOUPE_ASSIGN_OR_RETURN(const v1::RetryTrialsResponse response,
                         Call(*connection, static_cast<SweepStub&>(*stub), &SweepStub::RetryTrials, request));
  if (flags.format == "json") {
    nlohmann::ordered_json json;
    json["retried"] = response.retried();
    json["sweep"] = SweepJson(response.sweep());
    return WriteOutput(JsonText(json), "");
  }
  return WriteOutput(fmt::format("{} trial{} queued again\n", response.retried(), response.retried() == 1 ? "" : "s") +
                         SweepText(response.sweep()),
                     "");
}

absl::Status DeleteSweep(const SweepFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const std::shared_ptr<clients::rpc::Connection> connection, Connect(flags.connect));
  const auto stub = v1::SweepService::NewStub(connection->channel());
  v1::DeleteSweepRequest request;
  LOUPE_ASSIGN_OR_RETURN(*request.mutable_name(), SweepName(flags.sweep));
  request.set_force(flags.force);
  LOUPE_RETURN_IF_ERROR(Call(*connection, static_cast<SweepStub&>(*stub), &SweepStub::DeleteSweep, request).status());
  return WriteOutput(fmt::format("{} is deleted\n", LastPart(request.name())), "");
}

// A subcommand with the flags that all of these share.
CLI::App* AddOne(CLI::App& app, int& exit_code, const std::shared_ptr<SweepFlags>& flags, const std::string& name,
                 const std::string& description, bool needs_sweep, std::function<absl::Status(const SweepFlags&)> run) {
  CLI::App* command = app.add_subcommand(name, description);
  if (needs_sweep) command->add_option("sweep", flags->sweep, "The sweep's name")->required();
  AddConnectOptions(*command, flags->connect);
  command->callback([flags, &exit_code, run = std::move(run)] { exit_code = Fail(run(*flags)); });
  return command;
}

void AddVerb(CLI::App& app, int& exit_code, const std::string& name, const std::string& description, SweepVerb verb) {
  const auto flags = std::make_shared<SweepFlags>();
  CLI::App* command =
      AddOne(app, exit_code, flags, name, description, true, [verb](const SweepFlags& f) { return RunVerb(f, verb); });
  AddFormatOption(*command, flags->format, {"text", "json"});
}

}  // namespace

void AddSweepCommands(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<SweepFlags>();
  AddFormatOption(*AddOne(app, exit_code, flags, "sweeps", "List all sweeps", false, &ListSweeps), flags->format,
                  {"text", "json"});

  flags = std::make_shared<SweepFlags>();
  CLI::App* status = AddOne(app, exit_code, flags, "status", "State and counts of a sweep", false, &ShowStatus);
  status->add_option("sweep", flags->sweep, "The sweep's name; without one, all sweeps are listed");
  AddFormatOption(*status, flags->format, {"text", "json"});

  AddVerb(app, exit_code, "pause", "Start no more trials; what runs goes on", &SweepStub::PauseSweep);
  AddVerb(app, exit_code, "resume", "Take up a paused sweep again", &SweepStub::ResumeSweep);
  AddVerb(app, exit_code, "stop", "Let what runs end and count; drop what is queued", &SweepStub::StopSweep);
  AddVerb(app, exit_code, "cancel", "End what runs at once; drop what is queued", &SweepStub::CancelSweep);

  flags = std::make_shared<SweepFlags>();
  CLI::App* retry =
      AddOne(app, exit_code, flags, "retry",
             "Queue trials without a result again; default: failed and quarantined ones", true, &RetryTrials);
  retry->add_flag("--failed", flags->failed, "Trials that failed");
  retry->add_flag("--quarantined", flags->quarantined, "Trials set aside because workers died of them");
  retry->add_flag("--cancelled", flags->cancelled, "Trials that were cancelled");
  retry->add_option("--cell", flags->cell, "Only trials of cells with this level, such as scale=4; may be repeated");
  AddFormatOption(*retry, flags->format, {"text", "json"});

  flags = std::make_shared<SweepFlags>();
  AddOne(app, exit_code, flags, "delete", "Remove a sweep, its trials and its results", true, &DeleteSweep)
      ->add_flag("--force", flags->force, "Cancel it first where it still runs");
}

}  // namespace loupe::cli
