// `loupe plan FILE`: what a sweep file would run, what can be learned from it, and how long it takes. Changes nothing.
#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "cli/commands.h"
#include "cli/connect.h"
#include "cli/cost_estimate.h"
#include "cli/failure.h"
#include "cli/output.h"
#include "cli/plan_view.h"
#include "cli/prompt_notes.h"
#include "cli/subset.h"
#include "cli/sweep_input.h"
#include "cli/trial_history.h"
#include "cli/views.h"
#include "common/status_macros.h"
#include "coordinator/plan/plan_summary.h"
#include "coordinator/plan_proto/spec_proto.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "loupe/v1/sweep.grpc.pb.h"

namespace loupe::cli {
namespace {

// A coordinator that is there answers in milliseconds; a plan must not wait for one that is not.
constexpr absl::Duration kHistoryPatience = absl::Seconds(2);

struct PlanFlags {
  ConnectFlags connect;
  std::string file;
  std::string terms;
  int workers = 0;  // 0: those that are up, or 1
  std::string device = "cpu";
  int threads = 0;
  double gflops = 0;
  double seconds_per_trial = 0;
  bool no_history = false;
  bool list_cells = false;
  int64_t trials = 0;
  std::string write;
  PowerQuestion question;
  double sigma = 0;
  std::string format;
};

// Speed of one worker: as given, or what the device is assumed to reach.
double GflopsPerWorker(const PlanFlags& flags, int workers) {
  if (flags.gflops > 0) return flags.gflops;
  if (flags.device == "gpu") return kGpuGflops;
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const int threads = flags.threads > 0 ? flags.threads : std::max(1, cores / workers);
  return kCpuGflopsPerCore * threads;
}

// What the coordinator remembers; nullopt when it is not wanted, does not answer, or will not say.
std::optional<TrialHistory> History(const coordinator::plan::Plan& plan, const PlanFlags& flags) {
  if (flags.no_history || flags.seconds_per_trial > 0 || flags.gflops > 0) return std::nullopt;
  const absl::StatusOr<std::shared_ptr<clients::rpc::Connection>> connection = Connect(flags.connect);
  if (!connection.ok()) return std::nullopt;
  absl::StatusOr<TrialHistory> history = ReadTrialHistory(**connection, plan, kHistoryPatience);
  if (!history.ok()) return std::nullopt;
  return *history;
}

// Which trials none of the workers that are connected could run, where a coordinator is there to say so.
std::vector<std::string> WaitingNotes(const coordinator::plan::Plan& plan, const PlanFlags& flags) {
  if (flags.no_history) return {};
  const absl::StatusOr<std::shared_ptr<clients::rpc::Connection>> connection = Connect(flags.connect);
  if (!connection.ok()) return {};
  v1::CreateSweepRequest request;
  *request.mutable_spec() = coordinator::plan_proto::SpecToProto(plan.spec());
  request.set_validate_only(true);
  grpc::ClientContext context;
  (*connection)->Prepare(context, kHistoryPatience);
  v1::CreateSweepResponse response;
  const grpc::Status status =
      v1::SweepService::NewStub((*connection)->channel())->CreateSweep(&context, request, &response);
  if (!status.ok()) return {};
  std::vector<std::string> notes;
  for (const v1::WaitingTrials& waiting : response.plan().waiting())
    notes.push_back(fmt::format("now {}", WaitingText(waiting)));
  return notes;
}

// Where workers that are up could compute in 16 bits what the sweep computes in 32.
std::optional<std::string> PrecisionNote(const coordinator::plan::Plan& plan, const TrialHistory& history) {
  constexpr const char* kPrecisions[] = {"train.precision", "sample.precision"};
  std::vector<std::string> exact;
  for (const char* key : kPrecisions) {
    const bool varies = std::any_of(plan.spec().factors.begin(), plan.spec().factors.end(),
                                    [&](const auto& factor) { return factor.key == key; });
    if (!varies && plan.CellSettings(0).Text(key) == "float32") exact.emplace_back(key);
  }
  if (history.bf16_workers == 0 || exact.empty()) return std::nullopt;
  return fmt::format(
      "{} of the {} workers that are up {} units for products in bf16, and the sweep computes in float32: {}: bf16 "
      "takes less time there, and gives other scores than float32 (docs/trial.md has how far)",
      history.bf16_workers, history.workers, history.bf16_workers == 1 ? "has" : "have", fmt::join(exact, " and "));
}

// nullopt, and a note, where nothing is known of the base.
std::optional<TimeEstimate> EstimateSweep(const coordinator::plan::Plan& plan, const PlanFlags& flags,
                                          std::vector<std::string>& notes) {
  const std::optional<TrialHistory> history = History(plan, flags);
  if (history.has_value()) {
    if (std::optional<std::string> note = PrecisionNote(plan, *history)) notes.push_back(*std::move(note));
  }
  TimeEstimate estimate;
  estimate.workers = flags.workers > 0                           ? flags.workers
                     : history.has_value() && history->slots > 0 ? static_cast<int>(history->slots)
                                                                 : 1;
  if (flags.seconds_per_trial > 0) {
    estimate.seconds_per_trial = flags.seconds_per_trial;
    estimate.basis = "the seconds per trial that were given";
  } else if (history.has_value() && history->trials > 0) {
    const double passes = MeanNetworkPasses(plan);
    estimate.seconds_per_trial = passes * history->seconds_per_pass;
    estimate.basis = fmt::format(
        "{} trial{} of {} sweep{} that the coordinator has of this base took {:.3g} ms per pass of the U-Net (median); "
        "a "
        "trial here makes {:.4g} passes",
        history->trials, history->trials == 1 ? "" : "s", history->sweeps, history->sweeps == 1 ? "" : "s",
        1000 * history->seconds_per_pass, passes);
  } else {
    const absl::StatusOr<TrialCost> cost = EstimateTrialCost(plan, GflopsPerWorker(flags, estimate.workers));
    if (!cost.ok()) {
      notes.push_back(
          fmt::format("no time estimate: {}; give --seconds-per-trial", std::string(cost.status().message())));
      return std::nullopt;
    }
    estimate.seconds_per_trial = cost->seconds;
    estimate.basis = cost->basis;
    if (history.has_value()) estimate.basis += "; the coordinator has no trial of this base yet";
  }
  // The last round of trials may leave workers without work.
  estimate.seconds = std::ceil(static_cast<double>(plan.trial_count()) / estimate.workers) * estimate.seconds_per_trial;
  return estimate;
}

// Narrows `input` to the cells that are chosen for --trials.
absl::StatusOr<analysis::stats::Fraction> Narrow(const PlanFlags& flags, SweepInput& input) {
  LOUPE_ASSIGN_OR_RETURN(Subset subset, ChooseSubset(input.plan, flags.trials, flags.terms));
  LOUPE_ASSIGN_OR_RETURN(input.plan, coordinator::plan::Plan::Create(subset.spec));
  return std::move(subset.fraction);
}

absl::Status WriteChosen(const PlanFlags& flags, const SweepInput& input, const PlanView& view) {
  if (flags.write.ends_with(".csv")) return WriteOutput(PlanCsv(view), flags.write);
  if (!view.subset.has_value()) {
    return absl::InvalidArgumentError(
        "--write of a sweep file needs --trials: without it every cell is run already; a name "
        "that ends in .csv gets the list of cells");
  }
  LOUPE_ASSIGN_OR_RETURN(const std::string text, WithSelections(input.file.spec.source_text, input.plan.spec()));
  return WriteBytes(text, flags.write);
}

absl::Status Run(const PlanFlags& flags) {
  LOUPE_ASSIGN_OR_RETURN(SweepInput input, ReadSweepInput(flags.file));
  PlanView view{.sweep_id = input.file.sweep_id,
                .question = flags.question,
                .candidate_cells = input.plan.cell_count(),
                .list_cells = flags.list_cells};
  if (flags.sigma > 0) view.sigma = flags.sigma;
  if (flags.trials > 0) {
    LOUPE_ASSIGN_OR_RETURN(view.subset, Narrow(flags, input));
  }
  view.plan = &input.plan;
  LOUPE_ASSIGN_OR_RETURN(view.outlook, coordinator::plan::Outlook(input.plan, flags.terms));
  for (std::string& note : MissingPathNotes(input.plan)) view.outlook.notes.push_back(std::move(note));
  for (std::string& note : PromptNotes(input.plan)) view.outlook.notes.push_back(std::move(note));
  for (std::string& note : WaitingNotes(input.plan, flags)) view.outlook.notes.push_back(std::move(note));
  view.estimate = EstimateSweep(input.plan, flags, view.outlook.notes);
  if (!flags.write.empty()) {
    LOUPE_RETURN_IF_ERROR(WriteChosen(flags, input, view));
    fmt::print(stderr, "{} cells written to {}\n", input.plan.cell_count(), flags.write);
  }
  return WriteOutput(flags.format == "json"  ? PlanJson(view)
                     : flags.format == "csv" ? PlanCsv(view)
                                             : PlanText(view),
                     "");
}

void AddPowerOptions(CLI::App& command, PlanFlags& flags) {
  constexpr char kGroup[] = "Power";
  command.add_option("--effect", flags.question.effect, "Cohen's f to find (0.1 small, 0.25 medium, 0.4 large)")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--power", flags.question.power, "Probability with which an effect is to be found")
      ->check(CLI::Range(0.1, 0.9999))
      ->capture_default_str()
      ->group(kGroup);
  command.add_option("--alpha", flags.question.alpha, "Level of the F tests")
      ->check(CLI::Range(1e-6, 0.09))
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option(
          "--sigma", flags.sigma,
          "Standard deviation of one trial's score (root of the residual mean square of an earlier report): gives "
          "differences in the score's units")
      ->check(CLI::PositiveNumber)
      ->group(kGroup);
}

void AddTimeOptions(CLI::App& command, PlanFlags& flags) {
  constexpr char kGroup[] = "Time estimate";
  command
      .add_option("--workers", flags.workers, "Workers that will share the trials; default: those that are up, or 1")
      ->check(CLI::Range(1, 100000))
      ->group(kGroup);
  command.add_option("--device", flags.device, "What a worker runs on")
      ->check(CLI::IsMember({"cpu", "gpu"}))
      ->capture_default_str()
      ->group(kGroup);
  command
      .add_option("--threads", flags.threads,
                  "Cores of a CPU worker; default: this machine's, shared between the workers")
      ->check(CLI::Range(1, 1024))
      ->group(kGroup);
  command.add_option("--gflops", flags.gflops, "Sustained speed of one worker, instead of history or the assumed one")
      ->check(CLI::PositiveNumber)
      ->group(kGroup);
  command
      .add_option("--seconds-per-trial", flags.seconds_per_trial, "Measured time of a trial, instead of an estimate")
      ->check(CLI::PositiveNumber)
      ->group(kGroup);
  command.add_flag("--no-history", flags.no_history, "Do not ask the coordinator how long earlier trials took")
      ->group(kGroup);
}

}  // namespace

void AddPlanCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "plan", "Dry run: cells, trials, degrees of freedom, what is confounded, power, time; or a subset of the cells");
  const auto flags = std::make_shared<PlanFlags>();
  command->add_option("file", flags->file, "Sweep file (docs/sweep-file.md); '-' reads standard input")->required();
  command->add_option("--terms", flags->terms,
                      "Model terms to look at, such as 'input*output + scale'; default: the main effects");
  command
      ->add_option("--trials", flags->trials,
                   "Choose so many trials instead of all: the most informative cells for --terms")
      ->check(CLI::PositiveNumber);
  command->add_option(
      "--write", flags->write,
      "With --trials: the sweep file with the chosen cells, ready to submit; FILE.csv: the list of cells "
      "with their run order");
  command->add_flag("--list-cells", flags->list_cells, "Print every cell");
  AddPowerOptions(*command, *flags);
  AddTimeOptions(*command, *flags);
  AddFormatOption(*command, flags->format, {"text", "json", "csv"});
  AddConnectOptions(*command, flags->connect);
  command->callback([flags, &exit_code] { exit_code = Fail(Run(*flags)); });
}

}  // namespace loupe::cli
