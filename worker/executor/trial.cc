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
#include "worker/adapters/adapter_file.h"
#include "worker/adapters/method_registry.h"
#include "worker/executor/tensor_conversion.h"
#include "worker/io/image.h"
#include "worker/layers/tappable.h"
#include "worker/score/prediction_difference.h"
#include "worker/train/captioned.h"
#include "worker/train/dreambooth.h"
#include "worker/train/epoch_order.h"
#include "worker/train/trainer.h"
#include "worker/train/user_error.h"

namespace loupe::worker {
namespace {

using SteadyClock = std::chrono::steady_clock;

double SecondsSince(SteadyClock::time_point start) {
  return std::chrono::duration<double>(SteadyClock::now() - start).count();
}

AdamWOptions OptimizerFrom(const Settings& settings) {
  return {.learning_rate = settings.Real("train.learning_rate"),
          .beta1 = settings.Real("train.beta1"),
          .beta2 = settings.Real("train.beta2"),
          .epsilon = settings.Real("train.epsilon"),
          .weight_decay = settings.Real("train.weight_decay"),
          .clip_norm = settings.Real("train.clip_norm")};
}

TrainOptions TrainOptionsFrom(const Settings& settings, const BaseModel& base, torch::Device device) {
  TrainOptions options;
  options.optimizer = OptimizerFrom(settings);
  options.schedule = {.warmup_steps = settings.Integer("train.warmup_steps"),
                      .cosine = settings.Text("train.schedule") == "cosine",
                      .total_steps = settings.Integer("budget.steps")};
  options.accumulation = settings.Integer("train.accumulation");
  options.min_snr_gamma = settings.Real("train.min_snr_gamma");
  options.vlb_weight = settings.Real("train.vlb_weight");
  if (options.vlb_weight > 0 && !base.predicts_variance()) {
    throw UserError(
        fmt::format("train.vlb_weight is {}, but {} predicts no variance; expected 0, or a base whose "
                    "unet/config.json has out_channels twice in_channels",
                    settings.Text("train.vlb_weight"), base.folder));
  }
  options.noise_offset = settings.Real("train.noise_offset");
  options.ema_decay = settings.Real("train.ema_decay");
  options.recompute = settings.Boolean("train.gradient_checkpointing");
  if (settings.Text("train.precision") == "bf16") options.precision = torch::kBFloat16;
  if (settings.Text("train.precision") == "fp16") {
    if (!device.is_cuda()) throw UserError("train.precision fp16 needs a GPU; expected bf16 or float32 on a CPU");
    options.precision = torch::kHalf;
    options.loss_scale = LossScaler::kInitialScale;
  }
  return options;
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
    ChoosePrompts();
    // Before the method is attached: the untuned base's pictures.
    base_features_ = Timed("base", [&] {
      if (prior_samples() > 0) {
        base_prior_features_ = inputs_.BaseFeatures(settings_, {settings_.Text("task.class_prompt")}, prior_samples(),
                                                    Seed("prior-latents"), Progress("base"));
      }
      return inputs_.BaseFeatures(settings_, prompts_, budget("samples"), Seed("sample-latents"), Progress("base"));
    });
    method_ = MakeTrialMethod();
    Timed("train", [&] { Train(); });
    const auto images = Timed("sample", [&] { return Sample(prompts_, "sample-latents", budget("samples")); });
    Timed("score", [&] { Score(images); });
    HandOverAdapter();

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
    std::string text = fmt::format("train-v3\n{}\n{}\n{}\n{}\n{}\n", base_.sha256, task_->data_sha256, spec_.sweep_seed,
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
    const ValidationRows validation = MakeValidationRows();
    while (trainer.steps() < total) {
      if (observer_.ShouldStop()) {
        if (every > 0) trainer.SaveCheckpoint(checkpoint, fingerprint);
        throw Stopped();
      }
      if (!TakeStep(trainer)) continue;
      observer_.OnProgress("train", trainer.steps(), total);
      if (is_due(settings_.Integer("train.validate_every"))) {
        observer_.OnMetric("validation_loss", trainer.steps(), ValidationLoss(base_.model, validation));
      }
      if (is_due(settings_.Integer("score.every")) && trainer.steps() < total) ScoreAlongTheWay(trainer);
      if (is_due(every) || (every > 0 && trainer.steps() == total)) trainer.SaveCheckpoint(checkpoint, fingerprint);
    }
    trainer.SwapAverage();
  }

  // False when the step was skipped for its loss scale: another batch is tried.
  bool TakeStep(Trainer& trainer) {
    const Trainer::StepResult result = trainer.Step();
    const double loss = result.losses.front();
    if (!std::isfinite(loss)) throw Diverged(fmt::format("the loss is {} at step {}", loss, trainer.steps() + 1));
    if (result.skipped) return false;
    if (!std::isfinite(result.gradient_norms.front())) {
      throw Diverged(fmt::format("the gradient is {} at step {}", result.gradient_norms.front(), trainer.steps()));
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
    for (const auto& [name, value] : ValueOrThrow(ScorePictures(features, references_)).values) {
      observer_.OnMetric(name, trainer.steps(), value);
    }
  }

  std::vector<Image> Sample(const std::vector<std::string>& prompts, std::string_view stream, int64_t count) {
    const torch::Tensor noise = RandomStream(Seed(stream)).Normal(NoiseShape(base_.model, count));
    return SamplePictures(base_.model, prompts, noise, SampleOptionsFrom(settings_), Progress("sample"));
  }

  void Score(const std::vector<Image>& images) {
    observer_.OnProgress("score", 0, 0);
    const PictureFeatures features = inputs_.Features(settings_, images);
    const PictureScores scores = ValueOrThrow(ScorePictures(features, references_));
    outcome_.scores = scores.values;
    for (const auto& [name, value] : scores.values) observer_.OnMetric(name, budget("steps"), value);
    for (const auto& [name, warning] : scores.warnings) outcome_.provenance["warning." + name] = warning;
    AddBaseScores(ValueOrThrow(ScorePictures(base_features_, references_)).values);
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
    record["trainable_parameters"] = fmt::format("{}", method_->ParametersPerSlot());
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
