#include "worker/tasks/dreambooth.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "common/sha256.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "worker/data/image_folder.h"
#include "worker/runtime/device_copy.h"
#include "worker/runtime/random_stream.h"
#include "worker/runtime/user_error.h"
#include "worker/sampling/prediction_difference.h"
#include "worker/tasks/epoch_order.h"
#include "worker/tasks/tensor_conversion.h"

namespace loupe::worker::tasks {
namespace {

class DreamBoothSource : public train::BatchSource {
 public:
  DreamBoothSource(std::shared_ptr<const DreamBoothData> data, int64_t batch, const DreamBoothSeeds& seeds)
      : data_(std::move(data)),
        batch_(batch),
        instance_order_(data_->instance.latents.size(0), runtime::RandomStream(seeds.instance_order)),
        class_order_(HasPrior() ? data_->prior.latents.size(0) : 1, runtime::RandomStream(seeds.class_order)),
        flips_(seeds.flips) {}

  int64_t batch_size() const override { return HasPrior() ? 2 * batch_ : batch_; }

  train::Batch Next() override {
    // Drawn for both halves whether or not there is a prior: the subject's flips do not depend on it.
    const torch::Tensor flips = flips_.Uniform({2 * batch_}) < 0.5;
    const double per_row = 1.0 / static_cast<double>(batch_);
    const std::vector<int64_t> instances = instance_order_.Next(batch_);
    train::Batch instance = Pick(data_->instance, instances, flips.narrow(0, 0, batch_), per_row);
    instance.origin = OriginOf(data_.get(), instances, {flips});
    if (!HasPrior()) return instance;
    const std::vector<int64_t> priors = class_order_.Next(batch_);
    const train::Batch prior =
        Pick(data_->prior, priors, flips.narrow(0, batch_, batch_), data_->prior_weight * per_row);
    train::Batch both{torch::cat({instance.latents, prior.latents}), torch::cat({instance.context, prior.context}),
                      torch::cat({instance.weights, prior.weights}), std::move(instance.prompts),
                      std::move(instance.origin) + OriginOf(data_.get(), priors, {})};
    both.prompts.insert(both.prompts.end(), prior.prompts.begin(), prior.prompts.end());
    return both;
  }

  train::TensorMap Save() const override {
    const EpochOrder::State instance = instance_order_.Save(), prior = class_order_.Save();
    return {{"instance_order.generator", instance.generator},
            {"instance_order.rest", instance.rest},
            {"class_order.generator", prior.generator},
            {"class_order.rest", prior.rest},
            {"flips.generator", flips_.State()}};
  }

  void Restore(const train::TensorMap& state) override {
    instance_order_.Restore(
        {train::TakeState(state, "instance_order.generator"), train::TakeState(state, "instance_order.rest")});
    class_order_.Restore(
        {train::TakeState(state, "class_order.generator"), train::TakeState(state, "class_order.rest")});
    flips_.SetState(train::TakeState(state, "flips.generator"));
  }

 private:
  bool HasPrior() const { return data_->prior.latents.defined(); }

  static train::Batch Pick(const CaptionedLatents& from, const std::vector<int64_t>& indices,
                           const torch::Tensor& flips, double weight) {
    const auto device = from.latents.device();
    const auto rows = runtime::CopyTo(device, torch::tensor(indices, torch::kInt64));
    auto latents = from.latents.index_select(0, rows);
    if (from.mirrored.defined()) {
      const auto flip = runtime::CopyTo(device, flips);
      latents = torch::where(flip.view({-1, 1, 1, 1}), from.mirrored.index_select(0, rows), latents);
    }
    const int64_t n = static_cast<int64_t>(indices.size());
    return {latents, base::RowsOf(from.context, n),
            torch::full({n}, weight, torch::TensorOptions(torch::kFloat32).device(device)),
            std::vector<std::string>(indices.size(), from.caption)};
  }

  const std::shared_ptr<const DreamBoothData> data_;
  const int64_t batch_;
  EpochOrder instance_order_;
  EpochOrder class_order_;
  runtime::RandomStream flips_;
};

// Of shape, type and bytes.
std::string DigestOf(const torch::Tensor& values) {
  const torch::Tensor here = values.cpu().contiguous();
  Sha256 digest;
  digest.Update(fmt::format("{} {}\n", c10::toString(here.scalar_type()),
                            fmt::join(here.sizes().begin(), here.sizes().end(), " ")));
  digest.Update({static_cast<const char*>(here.const_data_ptr()), here.nbytes()});
  return digest.FinishHex();
}

CaptionedLatents Encode(SharedInputs& inputs, const settings::Settings& settings,
                        const std::vector<io::Image>& pictures, const std::string& caption,
                        const sampling::SampleProgress& progress) {
  const EncodedPictures encoded = inputs.Latents(settings, pictures, progress);
  return {encoded.latents, encoded.mirrored, inputs.Contexts(settings, {caption}), caption};
}

class DreamBoothTask : public Task {
 public:
  DreamBoothTask(const settings::Settings& settings, uint64_t sweep_seed, SharedInputs& inputs,
                 const sampling::SampleProgress& progress) {
    base::BaseModel& base = inputs.Base(settings);
    const data::ImageFolder subject =
        runtime::ValueOrThrow(data::ReadImageFolder(settings.Text("task.images"), static_cast<int>(base.image_size())));
    const std::string &instance_prompt = settings.Text("task.instance_prompt"),
                      &class_prompt = settings.Text("task.class_prompt");
    data_sha256_ = subject.content_hash;
    picture_notes_ = subject.notes;
    MakePicturesSheet(subject.images);
    prompt_notes_ = inputs.CutOffs(settings, {instance_prompt, class_prompt});
    auto data = std::make_shared<DreamBoothData>();
    data->prior_weight = settings.Real("task.prior_weight");
    data->instance = Encode(inputs, settings, subject.images, instance_prompt, progress);
    references_.subject = inputs.DataFeatures(settings, subject, progress);
    references_.texts = inputs.EmbedTexts(settings, {class_prompt});
    const int64_t count = settings.Integer("task.class_images");
    if (count > 0) {
      const uint64_t seed = TrialSeeds{sweep_seed}(Stream::kClassPictures);
      const std::vector<io::Image> pictures = inputs.SampledPictures(settings, class_prompt, count, seed, progress);
      data->prior = Encode(inputs, settings, pictures, class_prompt, progress);
      references_.class_set = inputs.Embed(settings, pictures);
    }
    data_ = std::move(data);
  }

  const torch::Tensor& latents() const override { return data_->instance.latents; }
  std::vector<std::string> captions() const override {
    return std::vector<std::string>(static_cast<size_t>(latents().size(0)), data_->instance.caption);
  }
  base::Condition contexts() const override { return base::RowsOf(data_->instance.context, latents().size(0)); }

  std::unique_ptr<TaskRun> Begin(const settings::Settings& settings, const TrialSeeds& seeds,
                                 SharedInputs& inputs) const override;

  const std::shared_ptr<const DreamBoothData>& data() const { return data_; }
  const score::ScoreReferences& references() const { return references_; }

 private:
  std::shared_ptr<const DreamBoothData> data_;
  score::ScoreReferences references_;
};

class DreamBoothRun : public TaskRun {
 public:
  DreamBoothRun(const DreamBoothTask& task, const settings::Settings& settings, const TrialSeeds& seeds,
                SharedInputs& inputs)
      : data_(task.data()), settings_(settings), seeds_(seeds), inputs_(inputs) {
    prompts_ = {data_->instance.caption};
    references_ = task.references();
  }

  std::unique_ptr<train::BatchSource> MakeSource(int64_t batch) const override {
    return MakeDreamBoothSource(data_, batch,
                                {seeds_(Stream::kInstanceOrder), seeds_(Stream::kClassOrder), seeds_(Stream::kFlips)});
  }

  void SeeBase(const sampling::SampleProgress& progress) override {
    if (prior_samples() > 0) {
      base_features_ =
          inputs_.BaseFeatures(settings_, class_prompts(), prior_samples(), seeds_(Stream::kPriorLatents), progress);
    }
    if (HasClassPictures()) SeeBaseDifference(progress);
  }

  OwnScores Announce() const override {
    OwnScores scores;
    const int64_t asked = settings_.Integer("score.prior_samples");
    for (const std::string name : {"clip_pres", "clip_div", "dino_pres", "dino_div"}) {
      if (name.starts_with("dino") && !settings_.Has("score.dino")) continue;
      if (prior_samples() > 0) scores.names.insert(name);
      if (asked == 1) {
        scores.missing[name] = fmt::format("{} needs a score.prior_samples of 2 or more, but it is 1.", name);
      }
    }
    if (HasClassPictures()) scores.names.insert("noise_difference");
    return scores;
  }

  Wanted Wants() const override {
    Wanted wanted;
    if (prior_samples() > 0) wanted.pictures = {class_prompts(), Stream::kPriorLatents, prior_samples()};
    if (HasClassPictures()) wanted.difference = DifferenceOrder();
    return wanted;
  }

  void Score(const Seen& seen, Findings& findings) override {
    if (prior_samples() > 0) {
      findings.AddScores(runtime::ValueOrThrow(score::ScorePriorPreservation(seen.features, references_)),
                         runtime::ValueOrThrow(score::ScorePriorPreservation(base_features_, references_)));
      findings.HandOverFeatures("-prior", seen.features);
      findings.HandOverFeatures("-prior-base", base_features_);
    }
    if (HasClassPictures()) ScoreNoiseDifference(seen.difference, findings);
  }

 private:
  // Pictures of the class prompt to score; a single one has no diversity and counts as none.
  int64_t prior_samples() const {
    const int64_t count = settings_.Integer("score.prior_samples");
    return count >= 2 ? count : 0;
  }
  bool HasClassPictures() const { return data_->prior.latents.defined(); }
  std::vector<std::string> class_prompts() const { return {settings_.Text("task.class_prompt")}; }

  // How the untuned base tells the prompts apart, and the pictures on which it does: the same for all trials of a
  // replicate.
  void SeeBaseDifference(const sampling::SampleProgress& progress) {
    base::BaseModel& base = inputs_.Base(settings_);
    const auto make = [&]() -> train::TensorMap {
      const torch::Tensor difference = sampling::PredictionDifference(base, DifferenceOrder());
      const auto shown = data_->prior.latents.narrow(0, 0, difference.size(1));
      // The mean as it lies here: a copy from a file may lie otherwise, and be summed in another order.
      return {{"difference", difference},
              {"mean", difference.abs().mean().to(torch::kDouble).reshape({1})},
              {"pictures", TensorFromImages(base::ImagesFromPictures(base.DecodeLatents(shown)))}};
    };
    const std::string key = fmt::format(
        "noise-difference-v2\n{}\n{}\n{}\n{}\n{}", inputs_.BaseDigest(settings_),
        DigestOf(base.conditioner->Ids({settings_.Text("task.instance_prompt"), settings_.Text("task.class_prompt")})),
        DigestOf(data_->prior.latents), seeds_(Stream::kNoiseDifference), base.size_note);
    train::TensorMap kept = inputs_.Kept("noise-difference", key, make, progress);
    base_difference_ = kept.at("difference");
    base_difference_mean_ = kept.at("mean").item<double>();
    shown_ = ImagesFromTensor(kept.at("pictures"));
  }

  void ScoreNoiseDifference(const torch::Tensor& tuned, Findings& findings) const {
    findings.AddScores({{"noise_difference", tuned.abs().mean().item<double>()}},
                       {{"noise_difference", base_difference_mean_}});
    const double scale = std::max(sampling::DifferenceScale(tuned), sampling::DifferenceScale(base_difference_));
    findings.HandOverPicture("noise-difference.png",
                             sampling::DifferenceSheet(shown_, {tuned, base_difference_}, scale));
  }

  sampling::DifferenceOrder DifferenceOrder() const {
    return {data_->prior.latents, seeds_(Stream::kNoiseDifference), settings_.Text("task.instance_prompt"),
            settings_.Text("task.class_prompt")};
  }

  const std::shared_ptr<const DreamBoothData> data_;
  const settings::Settings& settings_;
  const TrialSeeds seeds_;
  SharedInputs& inputs_;
  score::PictureFeatures base_features_;
  torch::Tensor base_difference_;  // [3, m, C, h, w], CPU; undefined without class pictures
  double base_difference_mean_ = 0;
  std::vector<io::Image> shown_;  // m
};

std::unique_ptr<TaskRun> DreamBoothTask::Begin(const settings::Settings& settings, const TrialSeeds& seeds,
                                               SharedInputs& inputs) const {
  return std::make_unique<DreamBoothRun>(*this, settings, seeds, inputs);
}

}  // namespace

std::unique_ptr<train::BatchSource> MakeDreamBoothSource(std::shared_ptr<const DreamBoothData> data, int64_t batch,
                                                         const DreamBoothSeeds& seeds) {
  return std::make_unique<DreamBoothSource>(std::move(data), batch, seeds);
}

std::unique_ptr<const Task> MakeDreamBoothTask(const settings::Settings& settings, uint64_t sweep_seed,
                                               SharedInputs& inputs, const sampling::SampleProgress& progress) {
  return std::make_unique<DreamBoothTask>(settings, sweep_seed, inputs, progress);
}

}  // namespace loupe::worker::tasks
