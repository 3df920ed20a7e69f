#include "worker/executor/trial.h"

#include <torch/version.h>

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
    const DreamBoothInputs& task = Timed("prepare", [&]() -> const DreamBoothInputs& { return Prepare(); });
    // Before the method is attached: the untuned base's pictures.
    const auto& base_embeddings = Timed("base", [&]() -> const analysis::FeatureMatrix& {
      return inputs_.BaseEmbeddings(settings_, Prompt(), Seed("sample-latents"), Progress("base"));
    });
    const auto method = MakeTrialMethod();
    Timed("train", [&] { Train(*method, task); });
    const auto images = Timed("sample", [&] { return Sample(); });
    Timed("score", [&] { Score(images, base_embeddings, task.references); });
    HandOverAdapter(*method);

    outcome_.kind = AttemptOutcome::Kind::kSuccess;
    outcome_.train_seconds = seconds_["train"];
    outcome_.total_seconds = SecondsSince(start);
    RecordProvenance(*method, task);
    return std::move(outcome_);
  }

 private:
  uint64_t Seed(std::string_view stream) const { return DeriveSeed(spec_.sweep_seed, spec_.replicate, stream); }
  const std::string& Prompt() const { return settings_.Text("task.instance_prompt"); }

  // Runs a phase and remembers how long it took.
  template <typename Phase>
  std::invoke_result_t<const Phase&> Timed(const char* name, const Phase& phase) {
    struct Stopwatch {
      double& seconds;
      SteadyClock::time_point start = SteadyClock::now();
      ~Stopwatch() { seconds = SecondsSince(start); }
    } stopwatch{seconds_[name]};
    return phase();
  }

  SampleProgress Progress(const char* phase) {
    return [this, phase](int64_t done, int64_t total) {
      if (observer_.ShouldStop()) throw Stopped();
      observer_.OnProgress(phase, done, total);
    };
  }

  const DreamBoothInputs& Prepare() {
    observer_.OnProgress("prepare", 0, 0);
    return inputs_.DreamBooth(settings_, spec_.sweep_seed, Progress("prepare"));
  }

  std::unique_ptr<Method> MakeTrialMethod() {
    try {
      return MakeMethod(TappableBlocksIn(*base_.model.unet), {{settings_, Seed("adapter-init")}}, models_.device());
    } catch (const c10::Error& error) {
      throw UserError(error.what_without_backtrace());
    }
  }

  // Everything that training depends on; a checkpoint of anything else is not used.
  std::string Fingerprint(const DreamBoothInputs& task) const {
    std::string text = fmt::format("train-v1\n{}\n{}\n{}\n{}\n{}\n", base_.sha256, task.subject_sha256,
                                   spec_.sweep_seed, spec_.replicate, TORCH_VERSION);
    for (const auto& [key, value] : settings_.values()) text += fmt::format("{}={}\n", key, value);
    return Sha256Hex(text);
  }

  void Train(Method& method, const DreamBoothInputs& task) {
    std::vector<TrainSlot> slots;
    slots.push_back({MakeDreamBoothSource(task.data, settings_.Integer("budget.batch"),
                                          {Seed("instance-order"), Seed("class-order"), Seed("flips")}),
                     RandomStream(Seed("noise")), RandomStream(Seed("timesteps"))});
    Trainer trainer(base_.model, method, std::move(slots), {OptimizerFrom(settings_)});
    const std::string checkpoint = spec_.checkpoint_folder + "/checkpoint.safetensors";
    const std::string fingerprint = Fingerprint(task);
    const int64_t every = settings_.Integer("train.checkpoint_every"), total = settings_.Integer("budget.steps");
    if (every > 0 && trainer.LoadCheckpoint(checkpoint, fingerprint)) {
      spdlog::info("{}: goes on from step {}", spec_.trial, trainer.steps());
    }
    while (trainer.steps() < total) {
      if (observer_.ShouldStop()) {
        if (every > 0) trainer.SaveCheckpoint(checkpoint, fingerprint);
        throw Stopped();
      }
      const double loss = trainer.Step().losses.front();
      if (!std::isfinite(loss)) {
        throw UserError(fmt::format("the loss is {} at step {}: training diverged; lower train.learning_rate ({}) or "
                                    "method.scale, or set train.clip_norm",
                                    loss, trainer.steps() + 1, settings_.Text("train.learning_rate")));
      }
      observer_.OnMetric("loss", trainer.steps(), loss);
      observer_.OnProgress("train", trainer.steps(), total);
      if (every > 0 && (trainer.steps() % every == 0 || trainer.steps() == total)) {
        trainer.SaveCheckpoint(checkpoint, fingerprint);
      }
    }
  }

  std::vector<Image> Sample() {
    const int64_t count = settings_.Integer("budget.samples");
    const torch::Tensor noise = RandomStream(Seed("sample-latents")).Normal(NoiseShape(base_.model, count));
    return SamplePictures(base_.model, Prompt(), noise, SampleOptionsFrom(settings_), Progress("sample"));
  }

  void Score(const std::vector<Image>& images, const analysis::FeatureMatrix& base_embeddings,
             const ScoreReferences& references) {
    observer_.OnProgress("score", 0, 0);
    const analysis::FeatureMatrix embeddings = inputs_.Embed(settings_, images);
    outcome_.scores = ValueOrThrow(ScorePictures(embeddings, references));
    for (const auto& [name, value] : ValueOrThrow(ScorePictures(base_embeddings, references))) {
      outcome_.scores[name + "_base"] = value;
    }
    const std::string sheet = spec_.scratch_folder + "/samples.png";
    ThrowIfError(WritePng(sheet, MakeSheet(images)));
    HandOver("samples.png", "image/png", sheet);
    HandOverEmbeddings("embeddings", embeddings);
    HandOverEmbeddings("embeddings-base", base_embeddings);
    HandOverEmbeddings("embeddings-subject", references.subject);
    HandOverEmbeddings("embeddings-text", references.class_text);
    if (references.class_set.rows > 0) HandOverEmbeddings("embeddings-class", references.class_set);
  }

  void HandOverEmbeddings(const std::string& stem, const analysis::FeatureMatrix& embeddings) {
    const std::string path = spec_.scratch_folder + "/" + stem + ".npy";
    ThrowIfError(analysis::WriteNpyFile(path, embeddings));
    HandOver(stem + ".npy", "application/x-npy", path);
  }

  void HandOverAdapter(const Method& method) {
    AdapterFile file;
    file.arrays = method.Export(0);
    file.settings = settings_;
    file.sweep_seed = spec_.sweep_seed;
    file.replicate = spec_.replicate;
    file.steps = settings_.Integer("budget.steps");
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

  void RecordProvenance(const Method& method, const DreamBoothInputs& task) {
    auto& record = outcome_.provenance;
    record["loupe"] = LOUPE_VERSION;
    record["torch"] = TORCH_VERSION;
    record["device"] = models_.device().str();
    record["threads"] = fmt::format("{}", at::get_num_threads());
    record["base_sha256"] = base_.sha256;
    record["scorer_sha256"] = models_.Scorer(settings_.Text("scorer")).sha256;
    record["subject_sha256"] = task.subject_sha256;
    record["trainable_parameters"] = fmt::format("{}", method.ParametersPerSlot());
    for (const char* stream : {"adapter-init", "instance-order", "class-order", "flips", "noise", "timesteps",
                               "sample-latents"}) {
      record[fmt::format("seed.{}", stream)] = fmt::format("{}", Seed(stream));
    }
    for (const auto& [phase, seconds] : seconds_) record["seconds." + phase] = fmt::format("{:.3f}", seconds);
  }

  const AttemptSpec& spec_;
  AttemptObserver& observer_;
  ModelStore& models_;
  TrialInputs& inputs_;
  const Settings& settings_;
  LoadedModel<BaseModel>& base_;
  std::map<std::string, double> seconds_;
  AttemptOutcome outcome_;
};

}  // namespace

AttemptOutcome RunTrial(const AttemptSpec& spec, AttemptObserver& observer, ModelStore& models, TrialInputs& inputs) {
  return Trial(spec, observer, models, inputs).Run();
}

}  // namespace loupe::worker
