// `loupe plan FILE`: what a sweep file would run, what can be learned from it, and how long it takes. Touches nothing.
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "analysis/report/text_table.h"
#include "cli/commands.h"
#include "cli/cost_estimate.h"
#include "cli/failure.h"
#include "cli/output.h"
#include "cli/sweep_input.h"
#include "cli/time_text.h"
#include "common/status_macros.h"
#include "coordinator/plan/plan_summary.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace loupe::cli {
namespace {

struct PlanFlags {
  std::string file;
  std::string terms;
  int workers = 1;
  std::string device = "cpu";
  int threads = 0;
  double gflops = 0;
  double seconds_per_trial = 0;
  bool list_cells = false;
  std::string format;
};

struct Estimate {
  double seconds_per_trial = 0;
  double seconds = 0;
  std::string basis;
};

// Speed of one worker: as given, or what the device is assumed to reach.
double GflopsPerWorker(const PlanFlags& flags) {
  if (flags.gflops > 0) return flags.gflops;
  if (flags.device == "gpu") return kGpuGflops;
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const int threads = flags.threads > 0 ? flags.threads : std::max(1, cores / flags.workers);
  return kCpuGflopsPerCore * threads;
}

// nullopt, and a note, where nothing is known of the base.
std::optional<Estimate> EstimateSweep(const coordinator::Plan& plan, const PlanFlags& flags,
                                      std::vector<std::string>& notes) {
  TrialCost cost{.seconds = flags.seconds_per_trial, .basis = "the seconds per trial that were given"};
  if (flags.seconds_per_trial == 0) {
    const absl::StatusOr<TrialCost> estimated = EstimateTrialCost(plan, GflopsPerWorker(flags));
    if (!estimated.ok()) {
      notes.push_back(
          fmt::format("no time estimate: {}; give --seconds-per-trial", std::string(estimated.status().message())));
      return std::nullopt;
    }
    cost = *estimated;
  }
  // The last round of trials may leave workers without work.
  const double rounds = std::ceil(static_cast<double>(plan.trial_count()) / flags.workers);
  return Estimate{.seconds_per_trial = cost.seconds, .seconds = rounds * cost.seconds, .basis = cost.basis};
}

std::string PlanText(const SweepInput& input, const coordinator::PlanOutlook& outlook,
                     const std::optional<Estimate>& estimate, const PlanFlags& flags) {
  const coordinator::Plan& plan = input.plan;
  std::string text = fmt::format("{}: {} cells × {} replicate{} = {} trials\n", input.file.sweep_id, plan.cell_count(),
                                 plan.spec().replicates, plan.spec().replicates == 1 ? "" : "s", plan.trial_count());
  if (outlook.has_terms) {
    analysis::TextTable table({"term", "levels", "df", "aliased df"});
    for (const coordinator::TermOutlook& term : outlook.terms) {
      table.Add({term.term, fmt::format("{}", term.levels), fmt::format("{}", term.df),
                 fmt::format("{}", term.aliased_df())});
    }
    if (outlook.block_df > 0)
      table.Add(
          {"replicate (block)", fmt::format("{}", outlook.block_df + 1), fmt::format("{}", outlook.block_df), ""});
    table.Add({"residual", "", fmt::format("{}", outlook.residual_df), ""});
    text += "\n" + table.Text();
  }
  std::vector<std::string> notes;
  for (const coordinator::TermOutlook& term : outlook.terms) {
    if (!term.note.empty()) notes.push_back(fmt::format("{}: {}", term.term, term.note));
  }
  notes.insert(notes.end(), outlook.notes.begin(), outlook.notes.end());
  if (!notes.empty()) text += "\nNotes\n";
  for (const std::string& note : notes) text += analysis::WrapText(note, 98, "  - ", "    ");
  if (estimate.has_value()) {
    text += fmt::format("\nEstimated time: {} on {} worker{} ({} per trial)\n", TimeText(estimate->seconds),
                        flags.workers, flags.workers == 1 ? "" : "s", TimeText(estimate->seconds_per_trial));
    text += analysis::WrapText("Basis: " + estimate->basis + ".", 98, "  ", "  ");
  }
  if (flags.list_cells) {
    text += "\nCells\n";
    for (int64_t cell = 0; cell < plan.cell_count(); ++cell) {
      text += fmt::format("  {}:", cell);
      for (size_t f = 0; f < plan.factors().size(); ++f) {
        text += fmt::format(" {}={}", plan.FactorName(f), plan.factors()[f].levels[plan.LevelIndex(cell, f)]);
      }
      text += "\n";
    }
  }
  return text;
}

std::string PlanJson(const SweepInput& input, const coordinator::PlanOutlook& outlook,
                     const std::optional<Estimate>& estimate, const PlanFlags& flags) {
  const coordinator::Plan& plan = input.plan;
  nlohmann::ordered_json json;
  json["sweep"] = input.file.sweep_id;
  json["cells"] = plan.cell_count();
  json["replicates"] = plan.spec().replicates;
  json["trials"] = plan.trial_count();
  json["factors"] = nlohmann::ordered_json::array();
  for (size_t f = 0; f < plan.factors().size(); ++f) {
    json["factors"].push_back(
        {{"name", plan.FactorName(f)}, {"key", plan.factors()[f].key}, {"levels", plan.factors()[f].levels}});
  }
  json["terms"] = nlohmann::ordered_json::array();
  for (const coordinator::TermOutlook& term : outlook.terms) {
    json["terms"].push_back({{"term", term.term},
                             {"levels", term.levels},
                             {"df", term.df},
                             {"nominal_df", term.nominal_df},
                             {"aliased_df", term.aliased_df()},
                             {"note", term.note}});
  }
  if (outlook.has_terms) {
    json["block_df"] = outlook.block_df;
    json["residual_df"] = outlook.residual_df;
  } else {
    json["block_df"] = nullptr;
    json["residual_df"] = nullptr;
  }
  json["notes"] = outlook.notes;
  json["estimate"] = nullptr;
  if (estimate.has_value()) {
    json["estimate"] = {{"seconds", estimate->seconds},
                        {"seconds_per_trial", estimate->seconds_per_trial},
                        {"workers", flags.workers},
                        {"basis", estimate->basis}};
  }
  if (flags.list_cells) {
    json["cell_list"] = nlohmann::ordered_json::array();
    for (int64_t cell = 0; cell < plan.cell_count(); ++cell) json["cell_list"].push_back(plan.CellLevels(cell));
  }
  return json.dump(2) + "\n";
}

absl::Status Run(const PlanFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(const SweepInput input, ReadSweepInput(flags.file));
  LOUPE_ASSIGN_OR_RETURN(coordinator::PlanOutlook outlook, coordinator::Outlook(input.plan, flags.terms));
  for (std::string& note : MissingPathNotes(input.plan)) outlook.notes.push_back(std::move(note));
  const std::optional<Estimate> estimate = EstimateSweep(input.plan, flags, outlook.notes);
  const std::string text =
      flags.format == "json" ? PlanJson(input, outlook, estimate, flags) : PlanText(input, outlook, estimate, flags);
  return WriteOutput(text, "");
}

}  // namespace

void AddPlanCommand(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("plan", "Dry run: cells, trials, degrees of freedom, what is confounded, time");
  const auto flags = std::make_shared<PlanFlags>();
  command->add_option("file", flags->file, "Sweep file (docs/sweep-file.md); '-' reads standard input")->required();
  command->add_option("--terms", flags->terms,
                      "Model terms to look at, such as 'input*output + scale'; default: the main effects");
  command->add_option("--workers", flags->workers, "Workers that will share the trials, for the time estimate")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command->add_option("--device", flags->device, "What a worker runs on, for the time estimate")
      ->check(CLI::IsMember({"cpu", "gpu"}))
      ->capture_default_str();
  command
      ->add_option("--threads", flags->threads,
                   "Cores of a CPU worker; default: this machine's, shared between the workers")
      ->check(CLI::Range(1, 1024));
  command->add_option("--gflops", flags->gflops, "Sustained speed of one worker, instead of the assumed one")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--seconds-per-trial", flags->seconds_per_trial, "Measured time of a trial, instead of an estimate")
      ->check(CLI::PositiveNumber);
  command->add_flag("--list-cells", flags->list_cells, "Print every cell");
  AddFormatOption(*command, flags->format, {"text", "json"});
  command->callback([flags, &exit_code] { exit_code = Fail(Run(*flags)); });
}

}  // namespace loupe::cli
