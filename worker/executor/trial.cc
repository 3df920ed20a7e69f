#include "worker/executor/trial.h"

#include <time.h>
#include <torch/version.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <type_traits>
#include <utility>

#include "analysis/metrics/cosine_similarity.h"
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

TrainOptions TrainOptionsFrom(const Settings& settings, torch::Device device) {
  TrainOptions options;
  options.optimizer = OptimizerFrom(settings);
  options.schedule = {.warmup_steps = settings.Integer("train.warmup_steps"),
                      .cosine = settings.Text("train.schedule") == "cosine",
                      .total_steps = settings.Integer("budget.steps")};
  options.accumulation = settings.Integer("train.accumulation");
  options.min_snr_gamma = settings.Real("train.min_snr_gamma");
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

// One attempt's walk through its phases.
class Trial {
 public:
  Trial(const AttemptSpec& spec, AttemptObserver& observer, ModelStore& models, TrialInputs& inputs)
      : spec_(spec),
        observer_(observer),
        models_(models),
        inputs_(inputs),
        settings_(spec.settings),
        base_(models.Base(settings_.Text("base"))) {}

  AttemptOutcome Run() {
    const auto start = SteadyClock::now();
    task_ = Timed("prepare", [&] {
      observer_.OnProgress("prepare", 0, 0);
      return &inputs_.Task(settings_, spec_.sweep_seed, Progress("prepare"));
    });
    ChoosePrompts();
    // Before the method is attached: the untuned base's pictures.
    base_features_ = Timed("base", [&] {
      return &inputs_.BaseFeatures(settings_, prompts_, Seed("sample-latents"), Progress("base"));
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

  // DreamBooth samples the subject's prompt; fine-tuning, captions of the data set in an order of the replicate's own.
  void ChoosePrompts() {
    references_ = task_->references;
    if (IsDreamBooth()) {
      prompts_ = {settings_.Text("task.instance_prompt")};
      return;
    }
    EpochOrder order(static_cast<int64_t>(task_->captions.size()), RandomStream(Seed("sample-captions")));
    analysis::FeatureMatrix& own = references_.own_pictures;
    own.cols = references_.subject.cols;
    for (const int64_t index : order.Next(budget("samples"))) {
      prompts_.push_back(task_->captions[static_cast<size_t>(index)]);
      const auto row = references_.subject.Row(index);
      own.values.insert(own.values.end(), row.begin(), row.end());
      ++own.rows;
    }
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
    std::string text = fmt::format("train-v2\n{}\n{}\n{}\n{}\n{}\n", base_.sha256, task_->data_sha256,
                                   spec_.sweep_seed, spec_.replicate, TORCH_VERSION);
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
    Trainer trainer(base_.model, *method_, std::move(slots), TrainOptionsFrom(settings_, models_.device()));
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
    if (!std::isfinite(loss)) {
      throw UserError(fmt::format("the loss is {} at step {}: training diverged; lower train.learning_rate ({}) or "
                                  "method.scale, or set train.clip_norm",
                                  loss, trainer.steps() + 1, settings_.Text("train.learning_rate")));
    }
    if (result.skipped) return false;
    observer_.OnMetric("loss", trainer.steps(), loss);
    return true;
  }

  // A point of every score's curve. Nothing of it is drawn from training's streams.
  void ScoreAlongTheWay(Trainer& trainer) {
    trainer.SwapAverage();
    const auto images = Sample(prompts_, "sample-latents", budget("samples"));
    trainer.SwapAverage();
    const PictureFeatures features = inputs_.Features(settings_, images);
    for (const auto& [name, value] : ValueOrThrow(ScorePictures(features.clip, references_, features.inception))) {
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
    outcome_.scores = ValueOrThrow(ScorePictures(features.clip, references_, features.inception));
    for (const auto& [name, value] : outcome_.scores) observer_.OnMetric(name, budget("steps"), value);
    for (const auto& [name, value] : ValueOrThrow(ScorePictures(base_features_->clip, references_, base_features_->inception))) {
      outcome_.scores[name + "_base"] = value;
    }
    if (IsDreamBooth()) ScorePriorPreservation();
    const std::string sheet = spec_.scratch_folder + "/samples.png";
    ThrowIfError(WritePng(sheet, MakeSheet(images)));
    HandOver("samples.png", "image/png", sheet);
    HandOverEmbeddings("embeddings", features.clip);
    HandOverEmbeddings("embeddings-base", base_features_->clip);
    if (features.inception.rows > 0) {
      HandOverEmbeddings("inception", features.inception);
      HandOverEmbeddings("inception-base", base_features_->inception);
      HandOverEmbeddings("inception-subject", references_.inception_subject);
    }
    HandOverEmbeddings("embeddings-subject", references_.subject);
    HandOverEmbeddings("embeddings-text", references_.texts);
    if (references_.class_set.rows > 0) HandOverEmbeddings("embeddings-class", references_.class_set);
    if (references_.own_pictures.rows > 0) HandOverEmbeddings("embeddings-own", references_.own_pictures);
  }

  // What the tuned model still makes of the class, and how far it hears the identifier.
  void ScorePriorPreservation() {
    const int64_t count = settings_.Integer("score.prior_samples");
    if (count >= 2) {
      const auto images = Sample({settings_.Text("task.class_prompt")}, "prior-latents", count);
      const analysis::FeatureMatrix embeddings = inputs_.Embed(settings_, images);
      outcome_.scores["clip_pres"] = ValueOrThrow(analysis::MeanPairwiseCosine(embeddings, references_.subject));
      outcome_.scores["clip_div"] = 1 - ValueOrThrow(analysis::MeanCosineWithin(embeddings));
      HandOverEmbeddings("embeddings-prior", embeddings);
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

  void HandOverEmbeddings(const std::string& stem, const analysis::FeatureMatrix& embeddings) {
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
    record["data_sha256"] = task_->data_sha256;
    record["trainable_parameters"] = fmt::format("{}", method_->ParametersPerSlot());
    for (const char* stream : {"adapter-init", "instance-order", "class-order", "flips", "noise", "timesteps",
                               "sample-latents", "caption-dropout", "sample-captions", "validation"}) {
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
  const TaskInputs* task_ = nullptr;                            // kept by inputs_
  const PictureFeatures* base_features_ = nullptr;  // kept by inputs_
  std::vector<std::string> prompts_;                           // one, or one per sample
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
