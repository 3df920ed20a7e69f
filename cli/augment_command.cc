// `loupe augment SWEEP --trials N`: adds the most informative cells to a sweep that has ended.
//
// They become a sweep of their own: a sweep's trials are numbered by its plan, its run order is fixed when it is
// created, and one that has ended stays ended; none of this is touched. The new sweep has the same seed and replicates,
// so its trials see the random numbers that the first sweep's saw, and `loupe report SWEEP --with NEW` analyses both as
// one design.
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/create_sweep.h"
#include "cli/exit_code.h"
#include "cli/failure.h"
#include "cli/output.h"
#include "cli/plan_view.h"
#include "cli/subset.h"
#include "cli/sweep_name.h"
#include "cli/views.h"
#include "cli/watch.h"
#include "common/ids.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "coordinator/plan_proto/spec_proto.h"
#include "fmt/format.h"
#include "loupe/v1/sweep.grpc.pb.h"
#include "loupe/v1/trial.grpc.pb.h"

namespace loupe::cli {
namespace {

struct AugmentFlags {
  ConnectFlags connect;
  std::string sweep;
  std::vector<std::string> with;
  int64_t trials = 0;
  std::string terms;
  std::string id;
  bool exist_ok = false;
  bool dry_run = false;
  bool watch = false;
  std::string format;
};

absl::StatusOr<coordinator::plan::Plan> EndedSweep(const clients::rpc::Connection& connection,
                                                   const std::string& name) {
  using Stub = v1::SweepService::StubInterface;
  const std::unique_ptr<Stub> stub = v1::SweepService::NewStub(connection.channel());
  v1::GetSweepRequest request;
  request.set_name(name);
  LOUPE_ASSIGN_OR_RETURN(const v1::Sweep sweep, Call(connection, *stub, &Stub::GetSweep, request));
  if (!IsTerminal(sweep.state())) {
    return absl::FailedPreconditionError(fmt::format(
        "{0} is {1}: what it still runs decides what is worth adding; wait until it has ended, or end it with "
        "'loupe stop {0}'",
        LastPart(name), v1::Sweep::State_Name(sweep.state())));
  }
  LOUPE_ASSIGN_OR_RETURN(coordinator::plan::SweepSpec spec, coordinator::plan_proto::StoredSpecFromProto(sweep.spec()));
  return coordinator::plan::Plan::Create(std::move(spec));
}

absl::Status AddOutcomes(const clients::rpc::Connection& connection, const std::string& name,
                         std::vector<CellOutcome>& outcomes) {
  using Stub = v1::TrialService::StubInterface;
  const std::unique_ptr<Stub> stub = v1::TrialService::NewStub(connection.channel());
  v1::ListTrialsRequest request;
  request.set_parent(name);
  request.set_page_size(1000);
  std::map<int64_t, CellOutcome> by_cell;
  LOUPE_RETURN_IF_ERROR(CallForPages(connection, *stub, &Stub::ListTrials, request, [&](const auto& page) {
    for (const v1::Trial& trial : page.trials()) {
      CellOutcome& outcome = by_cell[trial.cell_index()];
      outcome.levels = {trial.cell().begin(), trial.cell().end()};
      outcome.results += trial.state() == v1::Trial::SUCCEEDED;
      outcome.failures += trial.state() == v1::Trial::FAILED || trial.state() == v1::Trial::QUARANTINED;
    }
  }));
  for (auto& [cell, outcome] : by_cell) outcomes.push_back(std::move(outcome));
  return absl::OkStatus();
}

absl::Status CheckSameDesign(const std::string& first, const coordinator::plan::Plan& a, const std::string& second,
                             const coordinator::plan::Plan& b) {
  const auto keys = [](const coordinator::plan::Plan& plan) {
    std::vector<std::string> out;
    for (size_t f = 0; f < plan.factors().size(); ++f) out.push_back(plan.FactorName(f));
    return out;
  };
  if (a.spec().seed == b.spec().seed && a.spec().replicates == b.spec().replicates &&
      a.spec().settings == b.spec().settings && a.spec().defaults == b.spec().defaults && keys(a) == keys(b)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(fmt::format(
      "--with {}: it is no part of the same design as {}: seed, replicates, settings (also those that the files leave "
      "out) and factors must be the same",
      LastPart(second), LastPart(first)));
}

std::string SourceText(const std::string& original, const coordinator::plan::SweepSpec& spec, const std::string& name) {
  const absl::StatusOr<std::string> text = WithSelections(original, spec);
  return fmt::format("# Cells added to {} by 'loupe augment'.\n{}", LastPart(name), text.ok() ? *text : original);
}

int Run(const AugmentFlags& flags) {
  const absl::StatusOr<std::shared_ptr<clients::rpc::Connection>> connection = Connect(flags.connect);
  if (!connection.ok()) return Fail(connection.status());
  std::vector<std::string> together;  // names of what the report is to be made from
  const auto submit = [&]() -> absl::StatusOr<std::pair<v1::Sweep, Addition>> {
    LOUPE_ASSIGN_OR_RETURN(const std::string name, SweepName(flags.sweep));
    LOUPE_ASSIGN_OR_RETURN(const coordinator::plan::Plan source, EndedSweep(**connection, name));
    std::vector<CellOutcome> outcomes;
    LOUPE_RETURN_IF_ERROR(AddOutcomes(**connection, name, outcomes));
    for (const std::string& other : flags.with) {
      LOUPE_ASSIGN_OR_RETURN(const std::string other_name, SweepName(other));
      LOUPE_ASSIGN_OR_RETURN(const coordinator::plan::Plan plan, EndedSweep(**connection, other_name));
      LOUPE_RETURN_IF_ERROR(CheckSameDesign(name, source, other_name, plan));
      LOUPE_RETURN_IF_ERROR(AddOutcomes(**connection, other_name, outcomes));
      together.push_back(LastPart(other_name));
    }
    LOUPE_ASSIGN_OR_RETURN(Addition addition, ChooseAdditional(source, outcomes, flags.trials, flags.terms));
    const std::string title = source.spec().display_name.empty() ? LastPart(name) : source.spec().display_name;
    addition.subset.spec.display_name = fmt::format("{}, augmented", title).substr(0, 200);
    addition.subset.spec.source_text = SourceText(source.spec().source_text, addition.subset.spec, name);
    LOUPE_ASSIGN_OR_RETURN(const SweepId id,
                           SweepId::FromId(flags.id.empty() ? fmt::format("{}-augmented", LastPart(name)) : flags.id));
    LOUPE_ASSIGN_OR_RETURN(const coordinator::plan::Plan plan, coordinator::plan::Plan::Create(addition.subset.spec));
    LOUPE_ASSIGN_OR_RETURN(v1::Sweep sweep, CreateSweep(**connection, id, plan,
                                                        {.exist_ok = flags.exist_ok, .validate_only = flags.dry_run}));
    together.push_back(id.id());
    return std::pair(std::move(sweep), std::move(addition));
  };
  const auto submitted = submit();
  if (!submitted.ok()) return Fail(submitted.status());
  const auto& [sweep, addition] = *submitted;
  for (const std::string& note : addition.notes) fmt::print(stderr, "note: {}\n", Printable(note));
  const std::string id = LastPart(sweep.name());
  std::string text;
  if (flags.format == "json") {
    nlohmann::ordered_json json = {{"sweep", id},
                                   {"submitted", !flags.dry_run},
                                   {"trials", sweep.counts().total()},
                                   {"run_cells", addition.run_cells},
                                   {"method", addition.subset.fraction.method},
                                   {"d_efficiency", addition.subset.fraction.quality.d_efficiency},
                                   {"notes", addition.notes},
                                   {"cell_list", nlohmann::ordered_json::array()}};
    for (const size_t cell : addition.subset.fraction.chosen) {
      json["cell_list"].push_back(addition.all.CellLevels(static_cast<int64_t>(cell)));
    }
    text = JsonText(json);
  } else {
    text = fmt::format("{}: {} trials {}, {} cells beside the {} that have run\n", id, sweep.counts().total(),
                       flags.dry_run ? "would be added" : "added", addition.subset.fraction.chosen.size(),
                       addition.run_cells);
    text += ChosenText(addition.subset.fraction, addition.all.cell_count());
    for (const size_t cell : addition.subset.fraction.chosen) {
      text += CellLine(addition.all, static_cast<int64_t>(cell));
    }
    std::string others;
    for (const std::string& other : together) others += " --with " + other;
    text += fmt::format("\nWhen it has ended: loupe report {}{}\n", LastPart(flags.sweep), others);
  }
  if (const absl::Status written = WriteOutput(text, ""); !written.ok()) return Fail(written);
  if (!flags.watch || flags.dry_run) return kOk;
  return WatchSweep({.connect = flags.connect, .sweep = id});
}

}  // namespace

void AddAugmentCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("augment", "Add the most informative cells to a sweep that has ended");
  const auto flags = std::make_shared<AugmentFlags>();
  command->add_option("sweep", flags->sweep, "The sweep that has ended")->required();
  command->add_option("--trials", flags->trials, "How many trials to add")->required()->check(CLI::PositiveNumber);
  command->add_option("--with", flags->with,
                      "Other sweeps of the same design that count as run (earlier augmentations)");
  command->add_option("--terms", flags->terms,
                      "Model terms that the added cells are to tell more about; default: the main effects");
  command->add_option("--id", flags->id, "Name of the new sweep; default: SWEEP-augmented");
  command->add_flag("--exist-ok", flags->exist_ok, "Go on with a sweep of that name, if it has the same cells");
  command->add_flag("--dry-run", flags->dry_run, "Show what would be added, and submit nothing");
  command->add_flag("--watch", flags->watch, "Then watch it to its end");
  AddFormatOption(*command, flags->format, {"text", "json"});
  AddConnectOptions(*command, flags->connect);
  command->callback([flags, &exit_code] { exit_code = Run(*flags); });
}

}  // namespace loupe::cli
