#include "worker/tasks/captioned.h"

#include <utility>

#include "worker/runtime/random_stream.h"
#include "worker/tasks/epoch_order.h"

namespace loupe::worker {
namespace {

class CaptionedSource : public BatchSource {
 public:
  CaptionedSource(std::shared_ptr<const CaptionedPictures> data, int64_t batch, const CaptionedSeeds& seeds)
      : data_(std::move(data)),
        batch_(batch),
        order_(data_->latents.size(0), RandomStream(seeds.order)),
        flips_(seeds.flips),
        dropout_(seeds.dropout) {}

  int64_t batch_size() const override { return batch_; }

  Batch Next() override {
    const auto device = data_->latents.device();
    const auto rows = torch::tensor(order_.Next(batch_), torch::kInt64).to(device);
    const auto flip = (flips_.Uniform({batch_}) < 0.5).to(device);
    const auto drop = (dropout_.Uniform({batch_}) < data_->caption_dropout).to(device);
    auto latents = data_->latents.index_select(0, rows);
    if (data_->mirrored.defined()) {
      latents = torch::where(flip.view({-1, 1, 1, 1}), data_->mirrored.index_select(0, rows), latents);
    }
    const auto captions = data_->contexts.index_select(0, data_->caption_of.index_select(0, rows));
    const auto context = torch::where(drop.view({-1, 1, 1}), data_->empty_context, captions);
    return {
        latents, context,
        torch::full({batch_}, 1.0 / static_cast<double>(batch_), torch::TensorOptions(torch::kFloat32).device(device))};
  }

  TensorMap Save() const override {
    const EpochOrder::State order = order_.Save();
    return {{"order.generator", order.generator},
            {"order.rest", order.rest},
            {"flips.generator", flips_.State()},
            {"dropout.generator", dropout_.State()}};
  }

  void Restore(const TensorMap& state) override {
    order_.Restore({TakeState(state, "order.generator"), TakeState(state, "order.rest")});
    flips_.SetState(TakeState(state, "flips.generator"));
    dropout_.SetState(TakeState(state, "dropout.generator"));
  }

 private:
  const std::shared_ptr<const CaptionedPictures> data_;
  const int64_t batch_;
  EpochOrder order_;
  RandomStream flips_;
  RandomStream dropout_;
};

}  // namespace

std::unique_ptr<BatchSource> MakeCaptionedSource(std::shared_ptr<const CaptionedPictures> data, int64_t batch,
                                                 const CaptionedSeeds& seeds) {
  return std::make_unique<CaptionedSource>(std::move(data), batch, seeds);
}

}  // namespace loupe::worker
