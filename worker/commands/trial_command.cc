#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "common/logging.h"
#include "common/settings/settings.h"
#include "common/status_macros.h"
#include "common/text.h"
#include "fmt/format.h"
#include "worker/commands/commands.h"
#include "worker/commands/step_flags.h"
#include "worker/executor/trial_executor.h"

namespace loupe::worker::commands {
namespace {

namespace fs = std::filesystem;

struct TrialFlags {
  std::vector<std::string> settings;
  uint64_t seed = 0;
  int64_t replicate = 0;
  std::string out = "trial";
  std::string data_folder;
  executor::TrialExecutorOptions executor;
  std::string step_file;
  std::string log_level = "warn";
};

// Prints progress on a terminal and copies artifacts to a folder; the curves go into its metrics.csv as they come, in
// the form of `loupe metrics`.
class LocalObserver : public executor::AttemptObserver {
 public:
  explicit LocalObserver(std::string out) : out_(std::move(out)), terminal_(::isatty(STDERR_FILENO) != 0) {}

  void OnProgress(std::string_view phase, int64_t step, int64_t total_steps) override {
    if (phase != phase_) {
      if (!phase_.empty()) EndLine();
      phase_ = phase;
      // In a file a warning of the phase follows, which has a line of its own.
      fmt::print(stderr, "{}{}", phase_, terminal_ ? "" : "\n");
    }
    if (terminal_ && total_steps > 0) fmt::print(stderr, "\r{} {}/{}  loss {:.4f} ", phase_, step, total_steps, loss_);
  }
  // Of the phase that is shown on a terminal.
  void EndLine() const {
    if (terminal_) fmt::print(stderr, "\n");
  }
  void OnMetric(std::string_view metric, int64_t step, double value) override {
    if (metric == "loss") loss_ = value;
    if (!metrics_.is_open()) {
      metrics_.open(out_ + "/metrics.csv");
      metrics_ << "metric,step,value\n";
    }
    metrics_ << fmt::format("{},{},{}\n", metric, step, value) << std::flush;
  }
  absl::Status OnArtifact(std::string_view name, std::string_view /*media_type*/, const std::string& path) override {
    std::error_code error;
    fs::copy_file(path, fs::path(out_) / name, fs::copy_options::overwrite_existing, error);
    if (error) return absl::InternalError(fmt::format("{}/{}: cannot be written ({})", out_, name, error.message()));
    return absl::OkStatus();
  }
  bool ShouldStop() const override { return false; }

 private:
  const std::string out_;
  const bool terminal_;
  std::ofstream metrics_;
  std::string phase_;
  double loss_ = 0;
};

absl::StatusOr<settings::Settings> ParseSettings(const std::vector<std::string>& assignments) {
  std::map<std::string, std::string> values;
  for (const std::string& assignment : assignments) {
    const size_t equals = assignment.find('=');
    if (equals == std::string::npos) {
      return absl::InvalidArgumentError(fmt::format("'{}': expected key=value", assignment));
    }
    LOUPE_ASSIGN_OR_RETURN(const std::string key, settings::ResolveSettingKey(assignment.substr(0, equals)));
    values[key] = assignment.substr(equals + 1);
  }
  return settings::Settings::Create(values);
}

absl::Status MakeFolder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error) return absl::OkStatus();
  return absl::PermissionDeniedError(fmt::format("{}: cannot be made ({})", folder, error.message()));
}

absl::Status RunTrialHere(TrialFlags flags) {
  LOUPE_RETURN_IF_ERROR(InitLogging("loupe-worker", flags.log_level));
  LOUPE_ASSIGN_OR_RETURN(const bool served, ServeInStep(flags.step_file, flags.executor));
  if (served) return absl::OkStatus();
  executor::AttemptSpec spec;
  LOUPE_ASSIGN_OR_RETURN(spec.settings, ParseSettings(flags.settings));
  spec.trial = "sweeps/local/trials/0";
  spec.sweep_seed = flags.seed;
  spec.replicate = flags.replicate;
  const std::string data = flags.data_folder.empty() ? flags.out : flags.data_folder;
  spec.scratch_folder = flags.out + "/scratch";
  spec.checkpoint_folder = flags.out + "/checkpoint";
  for (const std::string& folder : {flags.out, spec.scratch_folder, spec.checkpoint_folder}) {
    LOUPE_RETURN_IF_ERROR(MakeFolder(folder));
  }
  flags.executor.cache_folder = data + "/cache";
  LOUPE_ASSIGN_OR_RETURN(const auto executor, executor::MakeTrialExecutor(flags.executor));
  LocalObserver observer(flags.out);
  const executor::AttemptOutcome outcome = executor->Run(spec, observer);
  fs::remove_all(spec.scratch_folder);
  observer.EndLine();
  if (outcome.kind != executor::AttemptOutcome::Kind::kSuccess) {
    if (outcome.failure_class == executor::FailureClass::kUserError)
      return absl::InvalidArgumentError(outcome.failure_message);
    return absl::InternalError(outcome.failure_message);
  }
  for (const auto& [name, value] : outcome.scores) fmt::print("{:<22} {:.6f}\n", name, value);
  for (const auto& [name, value] : outcome.provenance) fmt::print("{:<22} {}\n", Printable(name), Printable(value));
  fmt::print("{:<22} {:.3f}\n{:<22} {}\n", "seconds", outcome.total_seconds, "files", flags.out);
  return absl::OkStatus();
}

}  // namespace

void AddTrialCommand(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("trial", "Run one trial here, without a coordinator");
  const auto flags = std::make_shared<TrialFlags>();
  command->add_option("--settings", flags->settings, "key=value …, as in a sweep file (short names are understood)")
      ->required();
  command->add_option("--seed", flags->seed, "The sweep's seed")->capture_default_str();
  command->add_option("--replicate", flags->replicate, "Replicate")->capture_default_str();
  command->add_option("--out", flags->out, "Folder for samples, embeddings, adapter, curves, checkpoint")
      ->capture_default_str();
  command->add_option("--data", flags->data_folder, "Folder for caches (default: --out)");
  command
      ->add_option("--device", flags->executor.device,
                   "auto, cpu, cuda or cuda:N; several, as cuda:0,cuda:1, for trials with train.devices")
      ->capture_default_str();
  command->add_option("--threads", flags->executor.threads, "CPU threads; 0: all cores")->check(CLI::NonNegativeNumber);
  AddGraphsOption(*command, flags->executor.graphs);
  AddStepOption(*command, flags->step_file);
  command->add_option("--log-level", flags->log_level, "trace, debug, info, warn, error or off")->capture_default_str();
  command->callback([flags, &exit_code] { exit_code = Report("trial", RunTrialHere(*flags)); });
}

}  // namespace loupe::worker::commands
