#include "worker/executor/trial.h"

#include <torch/version.h>

#include <cmath>
#include <stdexcept>
#include <utility>

#include "common/logging.h"
#include "common/process_use.h"
#include "common/score_table.h"
#include "common/sha256.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "worker/executor/attached_adapter.h"
#include "worker/executor/train_settings.h"
#include "worker/methods/method_registry.h"
#include "worker/methods/tuned_file.h"
#include "worker/runtime/finite.h"
#include "worker/runtime/numerics.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker::executor {
namespace {

using SteadyClock = std::chrono::steady_clock;

double SecondsSince(SteadyClock::time_point start) {
  return std::chrono::duration<double>(SteadyClock::now() - start).count();
}

AttemptSpec WithSettings(AttemptSpec spec, const settings::Settings& settings) {
  spec.settings = settings;
  return spec;
}

}  // namespace

Trial::PhaseTime::PhaseTime(std::vector<Trial*> trials, const char* phase)
    : trials_(std::move(trials)), phase_(phase), cpu_start_(ProcessCpuSeconds()) {}

Trial::PhaseTime::~PhaseTime() {
  const auto share = static_cast<double>(trials_.size());
  for (Trial* trial : trials_) {
    trial->seconds_[phase_] += SecondsSince(start_) / share;
    trial->cpu_seconds_[phase_] += (ProcessCpuSeconds() - cpu_start_) / share;
  }
}

Trial::Trial(const HeardAttempt& heard, base::ModelStore& models, tasks::SharedInputs& inputs, tasks::Tasks& tasks,
             WorkMeter& meter, std::function<void()> on_progress)
    : observer_(*heard.observer),
      meter_(meter),
      on_progress_(std::move(on_progress)),
      identified_(tasks::PutInIdentifier(heard.spec.settings, inputs, Progress("prepare"))),
      spec_(WithSettings(heard.spec, identified_.settings)),
      models_(models),
      inputs_(inputs),
      tasks_(tasks),
      settings_(spec_.settings),
      seeds_{spec_.sweep_seed, spec_.replicate},
      loaded_(models_.Base(settings_)),
      train_options_(TrainOptionsFrom(settings_, loaded_.model, models_.device())),
      artifacts_(spec_, observer_) {}

Trial::~Trial() {
  if (pictures_ != nullptr) inputs_.SetHelp(nullptr);
}

methods::SlotOptions Trial::method_options() const { return {settings_, seeds_(Stream::kAdapterInit)}; }

void Trial::Prepare() {
  // What does not fit is said before anything is computed.
  models_.Scorer(settings_.Text("scorer"));
  for (const base::PictureNetworkKind& kind : base::PictureNetworkKinds()) models_.Network(kind, settings_);
  CheckMethod();
  {
    const PhaseTime time({this}, "prepare");
    observer_.OnProgress("prepare", 0, 0);
    task_ = &tasks_.Of(settings_, spec_.sweep_seed, Progress("prepare"));
  }
  if (team_ != nullptr) team_->Announce({.kind = RankCommand::Kind::kPrepare});
  SayNotes("identifier", identified_.notes);
  SayNotes("pictures", task_->picture_notes());
  SayNotes("prompts", task_->prompt_notes());
  run_ = task_->Begin(settings_, seeds_, inputs_);
  {
    const PhaseTime time({this}, "base");
    run_->SeeBase(Progress("base"));
    const uint64_t noise = seeds_(Stream::kSampleLatents);
    base_features_ = inputs_.BaseFeatures(settings_, run_->prompts(), budget("samples"), noise, Progress("base"));
    base_sheet_ = sampling::MakeSheet(
        inputs_.BasePictures(settings_, run_->prompts(), budget("samples"), noise, Progress("base")));
  }
  base_scores_ = Scores(base_features_);
  CheckPrimaryScore();
}

void Trial::Join(train::Trainer& trainer) {
  ranks::RankGroup* const ranks = team_ == nullptr ? nullptr : &team_->group();
  const PhaseTime time({this}, "train");
  if (ranks != nullptr) team_->Announce({.kind = RankCommand::Kind::kJoin});
  const size_t slot = trainer.Join(MakeSlot(ranks));
  validation_.emplace(MakeValidationRows());
  training_.emplace(TrialTraining::Parts{spec_, observer_, Fingerprint()}, trainer, slot);
  if (ranks != nullptr) ranks->FromLeader(std::to_string(training_->steps()));
}

void Trial::Take(const train::SlotStep& step, double seconds, double cpu_seconds) {
  const PhaseTime time({this}, "train");
  training_->Take(step);
  seconds_["train"] += seconds;
  cpu_seconds_["train"] += cpu_seconds;
}

AttemptOutcome Trial::Score(methods::Method& method, const Looks& looks) {
  method_ = &method;
  {
    const PhaseTime time({this}, "score");
    ComputeScores(looks);
  }
  // A file's values are where they came from; that it is still the same is part of the result.
  if (!settings_.Has("method.path")) {
    artifacts_.Adapter(method, loaded_.sha256);
  } else if (runtime::ValueOrThrow(methods::DigestOfTunedFile(settings_.Text("method.path"))) !=
             outcome_.provenance["method_sha256"]) {
    throw std::runtime_error(fmt::format("{}: it changed while the trial ran", settings_.Text("method.path")));
  }
  CheckScores();

  outcome_.kind = AttemptOutcome::Kind::kSuccess;
  outcome_.train_seconds = seconds_["train"];
  outcome_.stopped_at_step = training_->stopped_at();
  outcome_.total_seconds = SecondsSince(start_);
  RecordProvenance();
  method_ = nullptr;
  return std::move(outcome_);
}

void Trial::AddScores(const std::map<std::string, double>& tuned, const std::map<std::string, double>& untuned) {
  outcome_.scores.insert(tuned.begin(), tuned.end());
  for (const auto& [name, value] : untuned) outcome_.scores[UntunedScoreName(name)] = value;
}

// In the log, and beside the result: the sweep's report shows the provenance under "note." to its reader.
void Trial::SayNotes(std::string_view about, const std::vector<std::string>& notes) {
  constexpr size_t kMostInReport = 5;
  std::string text;
  for (size_t i = 0; i < notes.size(); ++i) {
    LogWarning("{}: {}", spec_.trial, notes[i]);
    if (i < kMostInReport) text += fmt::format("{}{}", i == 0 ? "" : "; ", notes[i]);
  }
  if (notes.size() > kMostInReport)
    text += fmt::format("; and {} more in the worker's log", notes.size() - kMostInReport);
  if (!text.empty()) outcome_.provenance[fmt::format("note.{}", about)] = text;
}

// Scores by the references' networks; an embedding that cannot be compared is one of the scorer's.
score::PictureScores Trial::Scores(const score::PictureFeatures& features) const {
  auto scores = score::ScorePictures(features, run_->references());
  if (!scores.ok()) {
    throw runtime::UserError(
        fmt::format("{}: no scores: {}", settings_.Text("scorer"), std::string(scores.status().message())));
  }
  return *std::move(scores);
}

// Before anything trains: which scores there will be depends on numbers of pictures alone, and those of the untuned
// base have been computed from as many. One that is missing is said; that of the sweep ends the attempt.
void Trial::CheckPrimaryScore() {
  const tasks::OwnScores own = run_->Announce();
  auto& missing = base_scores_.missing;
  for (const auto& [name, why] : own.missing) missing[name] = why;
  const std::string& primary = settings_.Text("score.primary");
  if (!base_scores_.values.contains(primary) && !own.names.contains(primary)) {
    const auto why = missing.find(primary);
    throw runtime::UserError(fmt::format(
        "{}: the sweep's primary score {} cannot be computed, so nothing was trained. {} Give more pictures, or another score.primary",
        settings_.Text("task.images"), primary,
        why == missing.end() ? std::string("This task and these settings do not have it.") : why->second));
  }
  for (const auto& [name, why] : missing) {
    LogWarning("{}: {} The trial goes on without it", spec_.trial, why);
    outcome_.provenance["warning." + name] = why;
  }
}

// What is handed in is a number, and the sweep's own is there.
void Trial::CheckScores() const {
  for (const auto& [name, value] : outcome_.scores) {
    if (!std::isfinite(value))
      throw runtime::UserError(fmt::format("the score {} is {}; expected a finite number", name, value));
  }
  if (!outcome_.scores.contains(settings_.Text("score.primary"))) {
    throw std::logic_error(fmt::format("the primary score {} was not computed", settings_.Text("score.primary")));
  }
}

sampling::SampleProgress Trial::Progress(const char* phase) {
  return [this, phase](int64_t done, int64_t total) {
    if (observer_.ShouldStop()) throw runtime::Stopped();
    observer_.OnProgress(phase, done, total);
    on_progress_();
  };
}

// By making it, on a base that has none attached. Of a file, what it was is known from then on.
void Trial::CheckMethod() {
  if (settings_.Has("method.path")) {
    outcome_.provenance["method_sha256"] =
        runtime::ValueOrThrow(methods::DigestOfTunedFile(settings_.Text("method.path")));
  }
  try {
    methods::MakeMethod(SitesOf(loaded_.model), {method_options()}, models_.device());
  } catch (const c10::Error& error) {
    throw runtime::UserError(error.what_without_backtrace());
  }
}

// Everything that training depends on; a checkpoint of anything else is not used. How many ranks share the work is no
// part of it: a trial may go on with more of them, or fewer.
std::string Trial::Fingerprint() const {
  std::string text = fmt::format("train-v5\n{}\n{}\n{}\n{}\n{}\n", loaded_.sha256, task_->data_sha256(),
                                 spec_.sweep_seed, spec_.replicate, TORCH_VERSION);
  for (const auto& [key, value] : settings_.values()) {
    if (key != "train.devices") text += fmt::format("{}={}\n", key, value);
  }
  return Sha256Hex(text);
}

// The task's pictures under fixed noise and timesteps, the same for all cells of a replicate.
train::ValidationRows Trial::MakeValidationRows() const {
  constexpr int64_t kRows = 32;
  const torch::Tensor& all = task_->latents();
  const auto rows = torch::arange(kRows, torch::kInt64).remainder(all.size(0)).to(all.device());
  runtime::RandomStream stream(seeds_(Stream::kValidation));
  const auto latents = all.index_select(0, rows);
  const auto noise = stream.Normal(latents.sizes()).to(all.device());
  const auto timesteps = stream.Integers(loaded_.model.schedule.config().num_train_timesteps, {kRows}).to(all.device());
  train::ValidationRows validation{latents, task_->contexts().index_select(0, rows), noise, timesteps, {}};
  if (train_options_.trains_conditioner) {
    const std::vector<std::string> captions = task_->captions();
    for (size_t row = 0; row < kRows; ++row) validation.prompts.push_back(captions[row % captions.size()]);
  }
  return validation;
}

void Trial::ComputeScores(const Looks& looks) {
  observer_.OnProgress("score", 0, 0);
  const score::PictureScores scores = Scores(looks.features);
  for (const auto& [name, value] : scores.values) observer_.OnMetric(name, training_->steps(), value);
  for (const auto& [name, warning] : scores.warnings) outcome_.provenance["warning." + name] = warning;
  AddScores(scores.values, base_scores_.values);
  run_->Score(looks.own, *this);
  const score::ScoreReferences& references = run_->references();
  artifacts_.Picture("samples.png", sampling::MakeSheet(looks.pictures));
  artifacts_.Picture("samples-base.png", base_sheet_);
  artifacts_.Picture("subject.png", task_->pictures_sheet());
  artifacts_.Features("", looks.features);
  artifacts_.Features("-base", base_features_);
  artifacts_.Features("-subject", references.subject);
  artifacts_.Features("-own", references.own_pictures);
  artifacts_.Embeddings("embeddings-text", references.texts);
  artifacts_.Embeddings("embeddings-class", references.class_set);
}

void Trial::RecordProvenance() {
  auto& record = outcome_.provenance;
  record["loupe"] = LOUPE_VERSION;
  record["torch"] = TORCH_VERSION;
  record["device"] = models_.device().str();
  record["numerics"] = runtime::NumericsOf(models_.device());
  if (!pass_widths_.empty() && *pass_widths_.rbegin() > 1) {
    record["numerics"] += fmt::format(", passes of {} trials", fmt::join(pass_widths_, " and "));
  }
  record["threads"] = fmt::format("{}", at::get_num_threads());
  record["base_sha256"] = loaded_.sha256;
  record["scorer_sha256"] = models_.Scorer(settings_.Text("scorer")).sha256;
  for (const base::PictureNetworkKind& kind : base::PictureNetworkKinds()) {
    if (const auto* network = models_.Network(kind, settings_)) record[kind.name + "_sha256"] = network->sha256;
  }
  record["pack"] = fmt::format("{}", largest_pack_);
  if (HasRanks(settings_)) record["ranks"] = settings_.Text("train.devices");
  record["data_sha256"] = task_->data_sha256();
  if (!identified_.word.empty()) {
    record["identifier"] = identified_.word;
    // An input of the sweep, as files are: trials with different words are not compared.
    record["identifier_sha256"] = Sha256Hex(identified_.word);
  }
  record["trainable_parameters"] = fmt::format("{}", method_->ParametersOf(0));
  for (const StreamEntry& entry : kStreams) {
    record[fmt::format("seed.{}", entry.name)] = fmt::format("{}", seeds_(entry.stream));
  }
  for (const auto& [phase, seconds] : seconds_) record["seconds." + phase] = fmt::format("{:.3f}", seconds);
  for (const auto& [phase, seconds] : cpu_seconds_) record["cpu_seconds." + phase] = fmt::format("{:.3f}", seconds);
}

}  // namespace loupe::worker::executor
