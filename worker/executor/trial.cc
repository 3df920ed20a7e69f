#include "worker/executor/trial.h"

#include <time.h>
#include <torch/version.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <type_traits>
#include <utility>

#include "common/sha256.h"
#include "common/streams.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"
#include "worker/executor/train_settings.h"
#include "worker/executor/trial_artifacts.h"
#include "worker/executor/trial_training.h"
#include "worker/methods/method_registry.h"
#include "worker/runtime/finite.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker {
namespace {

using SteadyClock = std::chrono::steady_clock;

double SecondsSince(SteadyClock::time_point start) {
  return std::chrono::duration<double>(SteadyClock::now() - start).count();
}

// Of all threads of this process: what a phase costs, also on a machine that others use.
double ProcessCpuSeconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// One attempt's walk through its phases.
class Trial : public TunedModel {
 public:
  Trial(const AttemptSpec& spec, AttemptObserver& observer, ModelStore& models, SharedInputs& inputs, Tasks& tasks)
      : spec_(spec),
        observer_(observer),
        models_(models),
        inputs_(inputs),
        tasks_(tasks),
        settings_(spec.settings),
        seeds_{spec.sweep_seed, spec.replicate},
        loaded_(models_.Base(settings_.Text("base"))),
        train_options_(TrainOptionsFrom(settings_, loaded_.model, models_.device())),
        artifacts_(spec, observer) {}

  AttemptOutcome Run() {
    const auto start = SteadyClock::now();
    // What does not fit is said before anything is computed.
    models_.Scorer(settings_.Text("scorer"));
    inputs_.InceptionOf(settings_);
    inputs_.DinoOf(settings_);
    MakeTrialMethod();
    task_ = Timed("prepare", [&] {
      observer_.OnProgress("prepare", 0, 0);
      return &tasks_.Of(settings_, spec_.sweep_seed, Progress("prepare"));
    });
    SayNotes("pictures", task_->picture_notes());
    SayNotes("prompts", task_->prompt_notes());
    run_ = task_->Begin(settings_, seeds_, inputs_);
    // Before the method is attached: the untuned base's pictures.
    base_features_ = Timed("base", [&] {
      run_->SeeBase(Progress("base"));
      return inputs_.BaseFeatures(settings_, run_->prompts(), budget("samples"), seeds_(Stream::kSampleLatents),
                                  Progress("base"));
    });
    base_scores_ = Scores(base_features_);
    CheckPrimaryScore();
    method_ = MakeTrialMethod();
    Timed("train", [&] { Train(); });
    const auto images =
        Timed("sample", [&] { return Sample(run_->prompts(), Stream::kSampleLatents, budget("samples")); });
    Timed("score", [&] { Score(images); });
    artifacts_.Adapter(*method_, loaded_.sha256);
    CheckScores();

    outcome_.kind = AttemptOutcome::Kind::kSuccess;
    outcome_.train_seconds = seconds_["train"];
    outcome_.total_seconds = SecondsSince(start);
    RecordProvenance();
    return std::move(outcome_);
  }

  // TunedModel: what the task may use while it scores.
  std::vector<Image> Sample(const std::vector<std::string>& prompts, Stream stream, int64_t count) override {
    const torch::Tensor noise = RandomStream(seeds_(stream)).Normal(NoiseShape(loaded_.model, count));
    try {
      return SamplePictures(loaded_.model, prompts, noise, SampleOptionsFrom(settings_), Progress("sample"));
    } catch (const NotFinite& error) {
      // The untuned base has sampled the same before.
      throw DivergedError(settings_, error.what());
    }
  }
  BaseModel& base() override { return loaded_.model; }
  Method& method() override { return *method_; }
  void AddScores(const std::map<std::string, double>& tuned, const std::map<std::string, double>& untuned) override {
    outcome_.scores.insert(tuned.begin(), tuned.end());
    for (const auto& [name, value] : untuned) outcome_.scores[name + "_base"] = value;
  }
  void HandOverFeatures(const std::string& of, const PictureFeatures& features) override {
    artifacts_.Features(of, features);
  }
  void HandOverPicture(const std::string& name, const Image& picture) override { artifacts_.Picture(name, picture); }

 private:
  int64_t budget(const std::string& what) const { return settings_.Integer("budget." + what); }

  // In the log, and beside the result: the sweep's report shows the provenance under "note." to its reader.
  void SayNotes(std::string_view about, const std::vector<std::string>& notes) {
    constexpr size_t kMostInReport = 5;
    std::string text;
    for (size_t i = 0; i < notes.size(); ++i) {
      spdlog::warn("{}: {}", spec_.trial, notes[i]);
      if (i < kMostInReport) text += fmt::format("{}{}", i == 0 ? "" : "; ", notes[i]);
    }
    if (notes.size() > kMostInReport)
      text += fmt::format("; and {} more in the worker's log", notes.size() - kMostInReport);
    if (!text.empty()) outcome_.provenance[fmt::format("note.{}", about)] = text;
  }

  // Scores by the references' networks; an embedding that cannot be compared is one of the scorer's.
  PictureScores Scores(const PictureFeatures& features) const {
    auto scores = ScorePictures(features, run_->references());
    if (!scores.ok()) {
      throw UserError(
          fmt::format("{}: no scores: {}", settings_.Text("scorer"), std::string(scores.status().message())));
    }
    return *std::move(scores);
  }

  // Before anything trains: which scores there will be depends on numbers of pictures alone, and those of the untuned
  // base have been computed from as many. One that is missing is said; that of the sweep ends the attempt.
  void CheckPrimaryScore() {
    const OwnScores own = run_->Announce();
    auto& missing = base_scores_.missing;
    for (const auto& [name, why] : own.missing) missing[name] = why;
    const std::string& primary = settings_.Text("score.primary");
    if (!base_scores_.values.contains(primary) && !own.names.contains(primary)) {
      const auto why = missing.find(primary);
      throw UserError(fmt::format(
          "{}: the sweep's primary score {} cannot be computed, so nothing was trained. {} Give more pictures, or another score.primary",
          settings_.Text("task.images"), primary,
          why == missing.end() ? std::string("This task and these settings do not have it.") : why->second));
    }
    for (const auto& [name, why] : missing) {
      spdlog::warn("{}: {} The trial goes on without it", spec_.trial, why);
      outcome_.provenance["warning." + name] = why;
    }
  }

  // What is handed in is a number, and the sweep's own is there.
  void CheckScores() const {
    for (const auto& [name, value] : outcome_.scores) {
      if (!std::isfinite(value))
        throw UserError(fmt::format("the score {} is {}; expected a finite number", name, value));
    }
    if (!outcome_.scores.contains(settings_.Text("score.primary"))) {
      throw std::logic_error(fmt::format("the primary score {} was not computed", settings_.Text("score.primary")));
    }
  }

  // Runs a phase and remembers how long it took.
  template <typename Phase>
  std::invoke_result_t<const Phase&> Timed(const char* name, const Phase& phase) {
    struct Stopwatch {
      double& seconds;
      double& cpu_seconds;
      SteadyClock::time_point start = SteadyClock::now();
      double cpu_start = ProcessCpuSeconds();
      ~Stopwatch() {
        seconds = SecondsSince(start);
        cpu_seconds = ProcessCpuSeconds() - cpu_start;
      }
    } stopwatch{seconds_[name], cpu_seconds_[name]};
    return phase();
  }

  SampleProgress Progress(const char* phase) {
    return [this, phase](int64_t done, int64_t total) {
      if (observer_.ShouldStop()) throw Stopped();
      observer_.OnProgress(phase, done, total);
    };
  }

  std::unique_ptr<Method> MakeTrialMethod() {
    const BaseModel& base = loaded_.model;
    try {
      return MakeMethod(SitesIn(base.denoiser->network(), &base.conditioner->network()),
                        {{settings_, seeds_(Stream::kAdapterInit)}}, models_.device());
    } catch (const c10::Error& error) {
      throw UserError(error.what_without_backtrace());
    }
  }

  // Everything that training depends on; a checkpoint of anything else is not used.
  std::string Fingerprint() const {
    std::string text = fmt::format("train-v5\n{}\n{}\n{}\n{}\n{}\n", loaded_.sha256, task_->data_sha256(),
                                   spec_.sweep_seed, spec_.replicate, TORCH_VERSION);
    for (const auto& [key, value] : settings_.values()) text += fmt::format("{}={}\n", key, value);
    return Sha256Hex(text);
  }

  // The task's pictures under fixed noise and timesteps, the same for all cells of a replicate.
  ValidationRows MakeValidationRows() const {
    constexpr int64_t kRows = 32;
    const torch::Tensor& all = task_->latents();
    const auto rows = torch::arange(kRows, torch::kInt64).remainder(all.size(0)).to(all.device());
    RandomStream stream(seeds_(Stream::kValidation));
    const auto latents = all.index_select(0, rows);
    const auto noise = stream.Normal(latents.sizes()).to(all.device());
    const auto timesteps =
        stream.Integers(loaded_.model.schedule.config().num_train_timesteps, {kRows}).to(all.device());
    ValidationRows validation{latents, task_->contexts().index_select(0, rows), noise, timesteps, {}};
    if (train_options_.trains_conditioner) {
      const std::vector<std::string> captions = task_->captions();
      for (size_t row = 0; row < kRows; ++row) validation.prompts.push_back(captions[row % captions.size()]);
    }
    return validation;
  }

  void Train() {
    std::vector<TrainSlot> slots;
    slots.push_back({run_->MakeSource(budget("batch")), RandomStream(seeds_(Stream::kNoise)),
                     RandomStream(seeds_(Stream::kTimesteps)), train_options_});
    Trainer trainer(loaded_.model, *method_, std::move(slots));
    const auto score = [this](int64_t step) { ScoreAlongTheWay(step); };
    TrainToTheEnd({spec_, observer_, loaded_.model, Fingerprint(), MakeValidationRows(), score}, trainer);
  }

  // A point of every score's curve. Nothing of it is drawn from training's streams.
  void ScoreAlongTheWay(int64_t step) {
    const auto images = Sample(run_->prompts(), Stream::kSampleLatents, budget("samples"));
    for (const auto& [name, value] : Scores(inputs_.Features(settings_, images)).values) {
      observer_.OnMetric(name, step, value);
    }
  }

  void Score(const std::vector<Image>& images) {
    observer_.OnProgress("score", 0, 0);
    const PictureFeatures features = inputs_.Features(settings_, images);
    const PictureScores scores = Scores(features);
    for (const auto& [name, value] : scores.values) observer_.OnMetric(name, budget("steps"), value);
    for (const auto& [name, warning] : scores.warnings) outcome_.provenance["warning." + name] = warning;
    AddScores(scores.values, base_scores_.values);
    run_->Score(*this);
    const ScoreReferences& references = run_->references();
    artifacts_.Picture("samples.png", MakeSheet(images));
    artifacts_.Features("", features);
    artifacts_.Features("-base", base_features_);
    artifacts_.Features("-subject", references.subject);
    artifacts_.Features("-own", references.own_pictures);
    artifacts_.Embeddings("embeddings-text", references.texts);
    artifacts_.Embeddings("embeddings-class", references.class_set);
  }

  void RecordProvenance() {
    auto& record = outcome_.provenance;
    record["loupe"] = LOUPE_VERSION;
    record["torch"] = TORCH_VERSION;
    record["device"] = models_.device().str();
    record["threads"] = fmt::format("{}", at::get_num_threads());
    record["base_sha256"] = loaded_.sha256;
    record["scorer_sha256"] = models_.Scorer(settings_.Text("scorer")).sha256;
    if (const auto* inception = inputs_.InceptionOf(settings_)) record["inception_sha256"] = inception->sha256;
    if (const auto* dino = inputs_.DinoOf(settings_)) record["dino_sha256"] = dino->sha256;
    record["data_sha256"] = task_->data_sha256();
    record["trainable_parameters"] = fmt::format("{}", method_->ParametersOf(0));
    for (const StreamEntry& entry : kStreams) {
      record[fmt::format("seed.{}", entry.name)] = fmt::format("{}", seeds_(entry.stream));
    }
    for (const auto& [phase, seconds] : seconds_) record["seconds." + phase] = fmt::format("{:.3f}", seconds);
    for (const auto& [phase, seconds] : cpu_seconds_) record["cpu_seconds." + phase] = fmt::format("{:.3f}", seconds);
  }

  const AttemptSpec& spec_;
  AttemptObserver& observer_;
  ModelStore& models_;
  SharedInputs& inputs_;
  Tasks& tasks_;
  const Settings& settings_;
  const TrialSeeds seeds_;
  LoadedModel<BaseModel>& loaded_;
  const TrainOptions train_options_;
  const TrialArtifacts artifacts_;
  const Task* task_ = nullptr;  // kept by tasks_
  std::unique_ptr<TaskRun> run_;
  PictureFeatures base_features_;
  PictureScores base_scores_;
  std::unique_ptr<Method> method_;
  std::map<std::string, double> seconds_;      // by phase
  std::map<std::string, double> cpu_seconds_;  // by phase
  AttemptOutcome outcome_;
};

}  // namespace

AttemptOutcome RunTrial(const AttemptSpec& spec, AttemptObserver& observer, ModelStore& models, SharedInputs& inputs,
                        Tasks& tasks) {
  return Trial(spec, observer, models, inputs, tasks).Run();
}

}  // namespace loupe::worker
