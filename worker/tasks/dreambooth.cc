#include "worker/tasks/dreambooth.h"

#include <vector>

#include "worker/runtime/random_stream.h"
#include "worker/tasks/epoch_order.h"

namespace loupe::worker {
namespace {

class DreamBoothSource : public BatchSource {
 public:
  DreamBoothSource(std::shared_ptr<const DreamBoothData> data, int64_t batch, const DreamBoothSeeds& seeds)
      : data_(std::move(data)),
        batch_(batch),
        instance_order_(data_->instance.latents.size(0), RandomStream(seeds.instance_order)),
        class_order_(HasPrior() ? data_->prior.latents.size(0) : 1, RandomStream(seeds.class_order)),
        flips_(seeds.flips) {}

  int64_t batch_size() const override { return HasPrior() ? 2 * batch_ : batch_; }

  Batch Next() override {
    // Drawn for both halves whether or not there is a prior: the subject's flips do not depend on it.
    const torch::Tensor flips = flips_.Uniform({2 * batch_}) < 0.5;
    const double per_row = 1.0 / static_cast<double>(batch_);
    Batch instance = Pick(data_->instance, instance_order_.Next(batch_), flips.narrow(0, 0, batch_), per_row);
    if (!HasPrior()) return instance;
    const Batch prior =
        Pick(data_->prior, class_order_.Next(batch_), flips.narrow(0, batch_, batch_), data_->prior_weight * per_row);
    return {torch::cat({instance.latents, prior.latents}), torch::cat({instance.context, prior.context}),
            torch::cat({instance.weights, prior.weights})};
  }

  TensorMap Save() const override {
    const EpochOrder::State instance = instance_order_.Save(), prior = class_order_.Save();
    return {{"instance_order.generator", instance.generator},
            {"instance_order.rest", instance.rest},
            {"class_order.generator", prior.generator},
            {"class_order.rest", prior.rest},
            {"flips.generator", flips_.State()}};
  }

  void Restore(const TensorMap& state) override {
    instance_order_.Restore({TakeState(state, "instance_order.generator"), TakeState(state, "instance_order.rest")});
    class_order_.Restore({TakeState(state, "class_order.generator"), TakeState(state, "class_order.rest")});
    flips_.SetState(TakeState(state, "flips.generator"));
  }

 private:
  bool HasPrior() const { return data_->prior.latents.defined(); }

  static Batch Pick(const EncodedPictures& pictures, const std::vector<int64_t>& indices, const torch::Tensor& flips,
                    double weight) {
    const auto device = pictures.latents.device();
    const auto rows = torch::tensor(indices, torch::kInt64).to(device);
    auto latents = pictures.latents.index_select(0, rows);
    if (pictures.mirrored.defined()) {
      latents = torch::where(flips.to(device).view({-1, 1, 1, 1}), pictures.mirrored.index_select(0, rows), latents);
    }
    const int64_t n = static_cast<int64_t>(indices.size());
    return {latents, pictures.context.expand({n, -1, -1}),
            torch::full({n}, weight, torch::TensorOptions(torch::kFloat32).device(device))};
  }

  const std::shared_ptr<const DreamBoothData> data_;
  const int64_t batch_;
  EpochOrder instance_order_;
  EpochOrder class_order_;
  RandomStream flips_;
};

}  // namespace

const torch::Tensor& TakeState(const TensorMap& state, const std::string& name) {
  const auto found = state.find(name);
  TORCH_CHECK(found != state.end(), "the checkpoint has no array '", name, "'");
  return found->second;
}

std::unique_ptr<BatchSource> MakeDreamBoothSource(std::shared_ptr<const DreamBoothData> data, int64_t batch,
                                                  const DreamBoothSeeds& seeds) {
  return std::make_unique<DreamBoothSource>(std::move(data), batch, seeds);
}

}  // namespace loupe::worker
