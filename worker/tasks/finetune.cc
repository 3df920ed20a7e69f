#include "worker/tasks/finetune.h"

#include <utility>

#include "common/sha256.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "worker/data/captioned_folder.h"
#include "worker/runtime/device_copy.h"
#include "worker/runtime/random_stream.h"
#include "worker/runtime/user_error.h"
#include "worker/tasks/epoch_order.h"

namespace loupe::worker::tasks {
namespace {

// [n], shaped to choose between rows of `condition`.
torch::Tensor LikeRows(const torch::Tensor& flags, const base::Condition& condition) {
  std::vector<int64_t> shape(static_cast<size_t>(condition.dim()), 1);
  shape[0] = flags.size(0);
  return flags.view(shape);
}

class CaptionedSource : public train::BatchSource {
 public:
  CaptionedSource(std::shared_ptr<const CaptionedPictures> data, int64_t batch, const CaptionedSeeds& seeds)
      : data_(std::move(data)),
        batch_(batch),
        order_(data_->latents.size(0), runtime::RandomStream(seeds.order)),
        flips_(seeds.flips),
        dropout_(seeds.dropout) {}

  int64_t batch_size() const override { return batch_; }

  train::Batch Next() override {
    const auto device = data_->latents.device();
    const std::vector<int64_t> chosen = order_.Next(batch_);
    const auto rows = runtime::CopyTo(device, torch::tensor(chosen, torch::kInt64));
    const torch::Tensor flips = flips_.Uniform({batch_}) < 0.5;
    const auto flip = runtime::CopyTo(device, flips);
    const torch::Tensor dropped = dropout_.Uniform({batch_}) < data_->caption_dropout;
    const auto drop = runtime::CopyTo(device, dropped);
    auto latents = data_->latents.index_select(0, rows);
    if (data_->mirrored.defined()) {
      latents = torch::where(flip.view({-1, 1, 1, 1}), data_->mirrored.index_select(0, rows), latents);
    }
    const auto captions = data_->contexts.index_select(0, data_->caption_of.index_select(0, rows));
    const auto context = torch::where(LikeRows(drop, captions), data_->empty_context, captions);
    std::vector<std::string> prompts;
    for (size_t i = 0; i < chosen.size() && !data_->captions.empty(); ++i) {
      const bool empty = dropped[static_cast<int64_t>(i)].item<bool>();
      prompts.push_back(empty ? "" : data_->captions[static_cast<size_t>(chosen[i])]);
    }
    const auto weights =
        torch::full({batch_}, 1.0 / static_cast<double>(batch_), torch::TensorOptions(torch::kFloat32).device(device));
    return {latents, context, weights, std::move(prompts), OriginOf(data_.get(), chosen, {flips, dropped})};
  }

  train::TensorMap Save() const override {
    const EpochOrder::State order = order_.Save();
    return {{"order.generator", order.generator},
            {"order.rest", order.rest},
            {"flips.generator", flips_.State()},
            {"dropout.generator", dropout_.State()}};
  }

  void Restore(const train::TensorMap& state) override {
    order_.Restore({train::TakeState(state, "order.generator"), train::TakeState(state, "order.rest")});
    flips_.SetState(train::TakeState(state, "flips.generator"));
    dropout_.SetState(train::TakeState(state, "dropout.generator"));
  }

 private:
  const std::shared_ptr<const CaptionedPictures> data_;
  const int64_t batch_;
  EpochOrder order_;
  runtime::RandomStream flips_;
  runtime::RandomStream dropout_;
};

analysis::metrics::FeatureMatrix Chosen(const analysis::metrics::FeatureMatrix& from,
                                        const std::vector<int64_t>& rows) {
  analysis::metrics::FeatureMatrix taken{static_cast<int64_t>(rows.size()), from.cols, {}};
  for (const int64_t row : rows) {
    const auto values = from.Row(row);
    taken.values.insert(taken.values.end(), values.begin(), values.end());
  }
  return taken;
}

class FinetuneTask : public CaptionedTask {
 public:
  FinetuneTask(const settings::Settings& settings, SharedInputs& inputs, const sampling::SampleProgress& progress) {
    base::BaseModel& base = inputs.Base(settings);
    const data::CaptionedFolder folder = runtime::ValueOrThrow(
        data::ReadCaptionedFolder(settings.Text("task.images"), static_cast<int>(base.image_size())));
    data_sha256_ = Sha256Hex(fmt::format("{}\n{}", folder.pictures.content_hash, fmt::join(folder.captions, "\n")));
    std::vector<std::string> different;
    std::vector<int64_t> caption_of;
    std::map<std::string, int64_t> row_of;
    for (const std::string& caption : folder.captions) {
      const auto [found, is_new] = row_of.emplace(caption, static_cast<int64_t>(different.size()));
      if (is_new) different.push_back(caption);
      caption_of.push_back(found->second);
    }
    picture_notes_ = folder.pictures.notes;
    prompt_notes_ = inputs.CutOffs(settings, different);
    Load(settings, inputs, folder.pictures, folder.captions, different, caption_of, progress);
  }

  std::unique_ptr<TaskRun> Begin(const settings::Settings& settings, const TrialSeeds& seeds,
                                 SharedInputs& inputs) const override;
};

class FinetuneRun : public CaptionedRun {
 public:
  FinetuneRun(const FinetuneTask& task, const settings::Settings& settings, const TrialSeeds& seeds,
              SharedInputs& inputs)
      : CaptionedRun(task, seeds) {
    const std::vector<int64_t> chosen = ChoosePrompts(settings);
    references_.subject = task.subject();
    references_.own_pictures.clip = Chosen(references_.subject.clip, chosen);
    for (const auto& [network, rows] : references_.subject.others) {
      if (score::ComparesMatched(network)) references_.own_pictures.others[network] = Chosen(rows, chosen);
    }
    references_.texts = inputs.EmbedTexts(settings, prompts_);
  }
};

std::unique_ptr<TaskRun> FinetuneTask::Begin(const settings::Settings& settings, const TrialSeeds& seeds,
                                             SharedInputs& inputs) const {
  return std::make_unique<FinetuneRun>(*this, settings, seeds, inputs);
}

}  // namespace

std::unique_ptr<train::BatchSource> MakeCaptionedSource(std::shared_ptr<const CaptionedPictures> data, int64_t batch,
                                                        const CaptionedSeeds& seeds) {
  return std::make_unique<CaptionedSource>(std::move(data), batch, seeds);
}

void CaptionedTask::Load(const settings::Settings& settings, SharedInputs& inputs, const data::ImageFolder& pictures,
                         std::vector<std::string> captions, const std::vector<std::string>& prompts,
                         const std::vector<int64_t>& rows, const sampling::SampleProgress& progress) {
  MakePicturesSheet(pictures.images);
  auto data = std::make_shared<CaptionedPictures>();
  const EncodedPictures encoded = inputs.Latents(settings, pictures.images, progress);
  data->latents = encoded.latents;
  data->mirrored = encoded.mirrored;
  data->captions = std::move(captions);
  data->contexts = inputs.Contexts(settings, prompts);
  data->caption_of = torch::tensor(rows, torch::kInt64).to(data->contexts.device());
  data->empty_context = inputs.Contexts(settings, {""});
  data->caption_dropout = settings.Real("task.caption_dropout");
  subject_ = inputs.DataFeatures(settings, pictures, progress);
  data_ = std::move(data);
}

std::unique_ptr<train::BatchSource> CaptionedRun::MakeSource(int64_t batch) const {
  return MakeCaptionedSource(data_, batch,
                             {seeds_(Stream::kInstanceOrder), seeds_(Stream::kFlips), seeds_(Stream::kCaptionDropout)});
}

std::vector<int64_t> CaptionedRun::ChoosePrompts(const settings::Settings& settings) {
  EpochOrder order(static_cast<int64_t>(data_->captions.size()),
                   runtime::RandomStream(seeds_(Stream::kSampleCaptions)));
  std::vector<int64_t> chosen = order.Next(settings.Integer("budget.samples"));
  for (const int64_t index : chosen) prompts_.push_back(data_->captions[static_cast<size_t>(index)]);
  return chosen;
}

std::unique_ptr<const Task> MakeFinetuneTask(const settings::Settings& settings, uint64_t /*sweep_seed*/,
                                             SharedInputs& inputs, const sampling::SampleProgress& progress) {
  return std::make_unique<FinetuneTask>(settings, inputs, progress);
}

}  // namespace loupe::worker::tasks
