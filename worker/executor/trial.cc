#include "worker/executor/trial.h"

#include <time.h>
#include <torch/version.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <type_traits>
#include <utility>

#include "analysis/metrics/npy_file.h"
#include "common/seed.h"
#include "common/sha256.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"
#include "worker/executor/tensor_conversion.h"
#include "worker/executor/train_settings.h"
#include "worker/io/image.h"
#include "worker/methods/files/adapter_file.h"
#include "worker/methods/method_registry.h"
#include "worker/nn/tappable.h"
#include "worker/runtime/finite.h"
#include "worker/runtime/user_error.h"
#include "worker/sampling/prediction_difference.h"
#include "worker/tasks/captioned.h"
#include "worker/tasks/dreambooth.h"
#include "worker/tasks/epoch_order.h"
#include "worker/train/trainer.h"

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

// A running error of fewer steps is the luck of the draw.
constexpr int64_t kErrorSteps = 20;
// How much more than the first step's error is a rise: large initial values of an adapter may make a network that is
// wrong from the start, which is a result and no divergence.
constexpr double kRise = 1.25;

analysis::FeatureMatrix RowsOf(const analysis::FeatureMatrix& from, const std::vector<int64_t>& rows) {
  analysis::FeatureMatrix taken{static_cast<int64_t>(rows.size()), from.cols, {}};
  for (const int64_t row : rows) {
    const auto values = from.Row(row);
    taken.values.insert(taken.values.end(), values.begin(), values.end());
  }
  return taken;
}

// One attempt's walk through its phases.
class Trial {
 public:
  Trial(const AttemptSpec& spec, AttemptObserver& observer, ModelStore& models, TrialInputs& inputs)
      : spec_(spec),
        observer_(observer),
        models_(models),
        inputs_(inputs),
        settings_(spec.settings),
        base_(models.Base(settings_.Text("base"))),
        train_options_(TrainOptionsFrom(settings_, base_.model, models.device())) {}

  AttemptOutcome Run() {
    const auto start = SteadyClock::now();
    // What does not fit is said before anything is computed.
    models_.Scorer(settings_.Text("scorer"));
    inputs_.InceptionOf(settings_);
    inputs_.DinoOf(settings_);
    MakeTrialMethod();
    task_ = Timed("prepare", [&] {
      observer_.OnProgress("prepare", 0, 0);
      return &inputs_.Task(settings_, spec_.sweep_seed, Progress("prepare"));
    });
    SayNotes("pictures", task_->picture_notes);
    SayNotes("prompts", task_->prompt_notes);
    ChoosePrompts();
    // Before the method is attached: the untuned base's pictures.
    base_features_ = Timed("base", [&] {
      if (prior_samples() > 0) {
        base_prior_features_ = inputs_.BaseFeatures(settings_, {settings_.Text("task.class_prompt")}, prior_samples(),
                                                    Seed("prior-latents"), Progress("base"));
      }
      return inputs_.BaseFeatures(settings_, prompts_, budget("samples"), Seed("sample-latents"), Progress("base"));
    });
    base_scores_ = Scores(base_features_);
    CheckPrimaryScore();
    method_ = MakeTrialMethod();
    Timed("train", [&] { Train(); });
    const auto images = Timed("sample", [&] { return Sample(prompts_, "sample-latents", budget("samples")); });
    Timed("score", [&] { Score(images); });
    HandOverAdapter();
    CheckScores();

    outcome_.kind = AttemptOutcome::Kind::kSuccess;
    outcome_.train_seconds = seconds_["train"];
    outcome_.total_seconds = SecondsSince(start);
    RecordProvenance();
    return std::move(outcome_);
  }

 private:
  uint64_t Seed(std::string_view stream) const { return DeriveSeed(spec_.sweep_seed, spec_.replicate, stream); }
  int64_t budget(const std::string& what) const { return settings_.Integer("budget." + what); }
  bool IsDreamBooth() const { return task_->dreambooth != nullptr; }
  // Pictures of the class prompt to score; a single one has no diversity and counts as none.
  int64_t prior_samples() const {
    const int64_t count = IsDreamBooth() ? settings_.Integer("score.prior_samples") : 0;
    return count >= 2 ? count : 0;
  }

  // DreamBooth samples the subject's prompt; fine-tuning, captions of the data set in an order of the replicate's own.
  void ChoosePrompts() {
    references_ = task_->references;
    if (IsDreamBooth()) {
      prompts_ = {settings_.Text("task.instance_prompt")};
      return;
    }
    EpochOrder order(static_cast<int64_t>(task_->captions.size()), RandomStream(Seed("sample-captions")));
    const std::vector<int64_t> chosen = order.Next(budget("samples"));
    for (const int64_t index : chosen) prompts_.push_back(task_->captions[static_cast<size_t>(index)]);
    references_.own_pictures.clip = RowsOf(references_.subject.clip, chosen);
    if (references_.subject.dino.rows > 0) references_.own_pictures.dino = RowsOf(references_.subject.dino, chosen);
    references_.texts = inputs_.EmbedTexts(settings_, prompts_);
  }

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
    auto scores = ScorePictures(features, references_);
    if (!scores.ok()) {
      throw UserError(
          fmt::format("{}: no scores: {}", settings_.Text("scorer"), std::string(scores.status().message())));
    }
    return *std::move(scores);
  }

  // Before anything trains: which scores there will be depends on numbers of pictures alone, and those of the untuned
  // base have been computed from as many. One that is missing is said; that of the sweep ends the attempt.
  void CheckPrimaryScore() {
    auto& missing = base_scores_.missing;
    if (IsDreamBooth() && settings_.Integer("score.prior_samples") == 1) {
      for (const std::string name : {"clip_pres", "clip_div", "dino_pres", "dino_div"}) {
        if (name.starts_with("dino") && !settings_.Has("score.dino")) continue;
        missing[name] = fmt::format("{} needs a score.prior_samples of 2 or more, but it is 1.", name);
      }
    }
    const std::string& primary = settings_.Text("score.primary");
    bool available = base_scores_.values.contains(primary);
    if (primary.ends_with("_pres") || primary.ends_with("_div")) {
      available = prior_samples() > 0 && (!primary.starts_with("dino") || settings_.Has("score.dino"));
    }
    if (primary == "noise_difference") available = IsDreamBooth() && task_->dreambooth->prior.latents.defined();
    if (!available) {
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
    try {
      return MakeMethod(TappableBlocksIn(*base_.model.unet), {{settings_, Seed("adapter-init")}}, models_.device());
    } catch (const c10::Error& error) {
      throw UserError(error.what_without_backtrace());
    }
  }

  // Everything that training depends on; a checkpoint of anything else is not used.
  std::string Fingerprint() const {
    std::string text = fmt::format("train-v4\n{}\n{}\n{}\n{}\n{}\n", base_.sha256, task_->data_sha256, spec_.sweep_seed,
                                   spec_.replicate, TORCH_VERSION);
    for (const auto& [key, value] : settings_.values()) text += fmt::format("{}={}\n", key, value);
    return Sha256Hex(text);
  }

  std::unique_ptr<BatchSource> MakeSource() const {
    if (IsDreamBooth()) {
      return MakeDreamBoothSource(task_->dreambooth, budget("batch"),
                                  {Seed("instance-order"), Seed("class-order"), Seed("flips")});
    }
    return MakeCaptionedSource(task_->captioned, budget("batch"),
                               {Seed("instance-order"), Seed("flips"), Seed("caption-dropout")});
  }

  // The task's pictures under fixed noise and timesteps, the same for all cells of a replicate.
  ValidationRows MakeValidationRows() const {
    constexpr int64_t kRows = 32;
    const torch::Tensor& all = task_->latents();
    const auto rows = torch::arange(kRows, torch::kInt64).remainder(all.size(0)).to(all.device());
    RandomStream stream(Seed("validation"));
    const auto latents = all.index_select(0, rows);
    const auto noise = stream.Normal(latents.sizes()).to(all.device());
    const auto timesteps = stream.Integers(base_.model.schedule.config().num_train_timesteps, {kRows}).to(all.device());
    return {latents, task_->contexts().index_select(0, rows), noise, timesteps};
  }

  void Train() {
    std::vector<TrainSlot> slots;
    slots.push_back({MakeSource(), RandomStream(Seed("noise")), RandomStream(Seed("timesteps"))});
    Trainer trainer(base_.model, *method_, std::move(slots), train_options_);
    const std::string checkpoint = spec_.checkpoint_folder + "/checkpoint.safetensors";
    const std::string fingerprint = Fingerprint();
    const int64_t every = settings_.Integer("train.checkpoint_every"), total = budget("steps");
    const auto is_due = [&](int64_t period) { return period > 0 && trainer.steps() % period == 0; };
    if (every > 0 && trainer.LoadCheckpoint(checkpoint, fingerprint)) {
      spdlog::info("{}: goes on from step {}", spec_.trial, trainer.steps());
    }
    const auto save = [&] {
      CheckTrained(trainer);
      trainer.SaveCheckpoint(checkpoint, fingerprint);
    };
    const ValidationRows validation = MakeValidationRows();
    while (trainer.steps() < total) {
      if (observer_.ShouldStop()) {
        if (every > 0) save();
        throw Stopped();
      }
      if (!TakeStep(trainer)) continue;
      observer_.OnProgress("train", trainer.steps(), total);
      if (is_due(settings_.Integer("train.validate_every"))) {
        const double loss = ValidationLoss(base_.model, validation);
        if (!std::isfinite(loss))
          throw Diverged(fmt::format("the validation loss is {} after step {}", loss, trainer.steps()));
        observer_.OnMetric("validation_loss", trainer.steps(), loss);
      }
      if (is_due(settings_.Integer("score.every")) && trainer.steps() < total) ScoreAlongTheWay(trainer);
      if (is_due(every) || (every > 0 && trainer.steps() == total)) save();
    }
    CheckTrained(trainer);
    trainer.SwapAverage();
  }

  // A last step may leave what no loss has seen yet.
  void CheckTrained(const Trainer& trainer) const {
    const std::string found = trainer.DescribeNotFinite();
    if (!found.empty()) throw Diverged(fmt::format("after step {} {}", trainer.steps(), found));
  }

  // False when the step was skipped for its loss scale: another batch is tried.
  bool TakeStep(Trainer& trainer) {
    const Trainer::StepResult result = trainer.Step();
    const double loss = result.losses.front();
    if (!std::isfinite(loss)) {
      if (!result.cause.empty()) throw UserError(result.cause);
      throw NotFiniteAt(trainer.steps() + 1, fmt::format("the loss is {}", loss));
    }
    if (result.skipped) return false;
    if (!std::isfinite(result.gradient_norms.front())) {
      throw NotFiniteAt(trainer.steps(), fmt::format("the gradient is {}", result.gradient_norms.front()));
    }
    const double error = result.running_errors.front(), limit = settings_.Real("train.max_error");
    if (limit > 0 && trainer.steps() >= kErrorSteps && error > limit && error > kRise * result.first_errors.front()) {
      throw Diverged(fmt::format(
          "the squared error of the {} steps up to {} is {:.3g} times that of predicting nothing, and "
          "was {:.3g} times that at the start (train.max_error: {})",
          kErrorSteps, trainer.steps(), error, result.first_errors.front(), settings_.Text("train.max_error")));
    }
    observer_.OnMetric("loss", trainer.steps(), loss);
    return true;
  }

  // At the first step nothing has been trained: no learning rate is to blame.
  UserError NotFiniteAt(int64_t step, const std::string& what) const {
    const std::string how = fmt::format("{} at step {}", what, step);
    if (step > 1) return Diverged(how);
    return UserError(
        fmt::format("{}, before anything was trained: the adapter's initial values are too large for this base; lower "
                    "method.scale, set method.init to zero, or train.precision to float32",
                    how));
  }

  UserError Diverged(const std::string& how) const {
    return UserError(
        fmt::format("{}: training diverged; lower train.learning_rate ({}) or method.scale, or set "
                    "train.clip_norm",
                    how, settings_.Text("train.learning_rate")));
  }

  // A point of every score's curve. Nothing of it is drawn from training's streams.
  void ScoreAlongTheWay(Trainer& trainer) {
    trainer.SwapAverage();
    const auto images = Sample(prompts_, "sample-latents", budget("samples"));
    trainer.SwapAverage();
    const PictureFeatures features = inputs_.Features(settings_, images);
    for (const auto& [name, value] : Scores(features).values) {
      observer_.OnMetric(name, trainer.steps(), value);
    }
  }

  std::vector<Image> Sample(const std::vector<std::string>& prompts, std::string_view stream, int64_t count) {
    const torch::Tensor noise = RandomStream(Seed(stream)).Normal(NoiseShape(base_.model, count));
    try {
      return SamplePictures(base_.model, prompts, noise, SampleOptionsFrom(settings_), Progress("sample"));
    } catch (const NotFinite& error) {
      // The untuned base has sampled the same before.
      throw Diverged(error.what());
    }
  }

  void Score(const std::vector<Image>& images) {
    observer_.OnProgress("score", 0, 0);
    const PictureFeatures features = inputs_.Features(settings_, images);
    const PictureScores scores = Scores(features);
    outcome_.scores = scores.values;
    for (const auto& [name, value] : scores.values) observer_.OnMetric(name, budget("steps"), value);
    for (const auto& [name, warning] : scores.warnings) outcome_.provenance["warning." + name] = warning;
    AddBaseScores(base_scores_.values);
    if (IsDreamBooth()) ScorePriorPreservation();
    const std::string sheet = spec_.scratch_folder + "/samples.png";
    ThrowIfError(WritePng(sheet, MakeSheet(images)));
    HandOver("samples.png", "image/png", sheet);
    HandOverFeatures("", features);
    HandOverFeatures("-base", base_features_);
    HandOverFeatures("-subject", references_.subject);
    HandOverFeatures("-own", references_.own_pictures);
    HandOverEmbeddings("embeddings-text", references_.texts);
    HandOverEmbeddings("embeddings-class", references_.class_set);
  }

  void AddBaseScores(const std::map<std::string, double>& scores) {
    for (const auto& [name, value] : scores) outcome_.scores[name + "_base"] = value;
  }

  // What the tuned model still makes of the class, and how far it hears the identifier.
  void ScorePriorPreservation() {
    if (prior_samples() > 0) {
      const auto images = Sample({settings_.Text("task.class_prompt")}, "prior-latents", prior_samples());
      const PictureFeatures features = inputs_.Features(settings_, images);
      outcome_.scores.merge(ValueOrThrow(worker::ScorePriorPreservation(features, references_)));
      AddBaseScores(ValueOrThrow(worker::ScorePriorPreservation(base_prior_features_, references_)));
      HandOverFeatures("-prior", features);
      HandOverFeatures("-prior-base", base_prior_features_);
    }
    if (task_->dreambooth->prior.latents.defined()) ScoreNoiseDifference();
  }

  void ScoreNoiseDifference() {
    const torch::Tensor tuned = NoiseDifference();
    outcome_.scores["noise_difference"] = tuned.abs().mean().item<double>();
    const MethodDisabled off(method_.get());
    const torch::Tensor untuned = NoiseDifference();
    outcome_.scores["noise_difference_base"] = untuned.abs().mean().item<double>();
    const auto shown = task_->dreambooth->prior.latents.narrow(0, 0, tuned.size(1));
    const std::string path = spec_.scratch_folder + "/noise-difference.png";
    ThrowIfError(WritePng(path, DifferenceSheet(ImagesFromPictures(base_.model.DecodeLatents(shown)), {tuned, untuned},
                                                std::max(DifferenceScale(tuned), DifferenceScale(untuned)))));
    HandOver("noise-difference.png", "image/png", path);
  }

  torch::Tensor NoiseDifference() const {
    return PredictionDifference(base_.model, task_->dreambooth->prior.latents, Seed("noise-difference"),
                                settings_.Text("task.instance_prompt"), settings_.Text("task.class_prompt"));
  }

  // `of`: which pictures ("-base").
  void HandOverFeatures(const std::string& of, const PictureFeatures& features) {
    HandOverEmbeddings("embeddings" + of, features.clip);
    HandOverEmbeddings("dino" + of, features.dino);
    HandOverEmbeddings("inception" + of, features.inception);
  }

  void HandOverEmbeddings(const std::string& stem, const analysis::FeatureMatrix& embeddings) {
    if (embeddings.rows == 0) return;
    const std::string path = spec_.scratch_folder + "/" + stem + ".npy";
    ThrowIfError(analysis::WriteNpyFile(path, embeddings));
    HandOver(stem + ".npy", "application/x-npy", path);
  }

  void HandOverAdapter() {
    AdapterFile file;
    file.arrays = method_->Export(0);
    file.settings = settings_;
    file.sweep_seed = spec_.sweep_seed;
    file.replicate = spec_.replicate;
    file.steps = budget("steps");
    file.trial = spec_.trial;
    file.base_sha256 = base_.sha256;
    file.cell = spec_.cell;
    file.provenance = {{"torch", TORCH_VERSION}, {"loupe", LOUPE_VERSION}};
    const std::string path = spec_.scratch_folder + "/adapter.safetensors";
    ThrowIfError(WriteAdapterFile(path, file));
    HandOver("adapter.safetensors", "application/x-safetensors", path);
  }

  void HandOver(const std::string& name, const std::string& media_type, const std::string& path) {
    const absl::Status status = observer_.OnArtifact(name, media_type, path);
    if (absl::IsAborted(status)) throw Stopped();
    if (!status.ok()) throw std::runtime_error(std::string(status.message()));
  }

  void RecordProvenance() {
    auto& record = outcome_.provenance;
    record["loupe"] = LOUPE_VERSION;
    record["torch"] = TORCH_VERSION;
    record["device"] = models_.device().str();
    record["threads"] = fmt::format("{}", at::get_num_threads());
    record["base_sha256"] = base_.sha256;
    record["scorer_sha256"] = models_.Scorer(settings_.Text("scorer")).sha256;
    if (const auto* inception = inputs_.InceptionOf(settings_)) record["inception_sha256"] = inception->sha256;
    if (const auto* dino = inputs_.DinoOf(settings_)) record["dino_sha256"] = dino->sha256;
    record["data_sha256"] = task_->data_sha256;
    record["trainable_parameters"] = fmt::format("{}", method_->ParametersOf(0));
    for (const char* stream : {"adapter-init", "instance-order", "class-order", "flips", "noise", "timesteps",
                               "sample-latents", "prior-latents", "caption-dropout", "sample-captions", "validation"}) {
      record[fmt::format("seed.{}", stream)] = fmt::format("{}", Seed(stream));
    }
    for (const auto& [phase, seconds] : seconds_) record["seconds." + phase] = fmt::format("{:.3f}", seconds);
    for (const auto& [phase, seconds] : cpu_seconds_) record["cpu_seconds." + phase] = fmt::format("{:.3f}", seconds);
  }

  const AttemptSpec& spec_;
  AttemptObserver& observer_;
  ModelStore& models_;
  TrialInputs& inputs_;
  const Settings& settings_;
  LoadedModel<BaseModel>& base_;
  const TrainOptions train_options_;
  const TaskInputs* task_ = nullptr;  // kept by inputs_
  PictureFeatures base_features_, base_prior_features_;
  PictureScores base_scores_;
  std::vector<std::string> prompts_;  // one, or one per sample
  ScoreReferences references_;
  std::unique_ptr<Method> method_;
  std::map<std::string, double> seconds_;      // by phase
  std::map<std::string, double> cpu_seconds_;  // by phase
  AttemptOutcome outcome_;
};

}  // namespace

AttemptOutcome RunTrial(const AttemptSpec& spec, AttemptObserver& observer, ModelStore& models, TrialInputs& inputs) {
  return Trial(spec, observer, models, inputs).Run();
}

}  // namespace loupe::worker
