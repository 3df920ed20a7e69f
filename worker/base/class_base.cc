#include "worker/base/class_base.h"

#include <utility>

#include "fmt/format.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker::base {
namespace {

torch::Tensor ClassesOf(const Condition& condition, const torch::Tensor& x_t) {
  TORCH_CHECK(condition.scalar_type() == torch::kInt64 && condition.dim() == 2 && condition.size(1) == 1,
              "a class-conditional base is told classes, int64 [N, 1]");
  return condition.select(1, 0).to(x_t.device());
}

class DiTDenoiser : public Denoiser {
 public:
  DiTDenoiser(models::DiTTransformer2DModel dit, nn::PositionScaling positions)
      : dit_(std::move(dit)), positions_(positions) {}

  torch::Tensor Forward(const torch::Tensor& x_t, const torch::Tensor& timesteps, const Condition& condition,
                        nn::ContextCache* /*cache*/) override {
    return dit_(x_t, timesteps, ClassesOf(condition, x_t), positions_);
  }
  std::vector<int64_t> Shape() const override {
    const models::DiTConfig& config = dit_->config();
    return {config.in_channels, config.sample_size, config.sample_size};
  }
  bool PredictsVariance() const override { return dit_->config().out_channels > dit_->config().in_channels; }
  torch::nn::Module& network() override { return *dit_; }
  std::string name() const override { return "DiT"; }

 private:
  models::DiTTransformer2DModel dit_;
  const nn::PositionScaling positions_;
};

class DiffuSSMDenoiser : public Denoiser {
 public:
  DiffuSSMDenoiser(models::DiffuSSMModel ssm, nn::PositionScaling positions)
      : ssm_(std::move(ssm)), positions_(positions) {}

  torch::Tensor Forward(const torch::Tensor& x_t, const torch::Tensor& timesteps, const Condition& condition,
                        nn::ContextCache* /*cache*/) override {
    return ssm_(x_t, timesteps, ClassesOf(condition, x_t), positions_);
  }
  std::vector<int64_t> Shape() const override {
    const models::DiffuSSMConfig& config = ssm_->config();
    return {config.in_channels, config.sample_size, config.sample_size};
  }
  bool PredictsVariance() const override { return ssm_->config().out_channels > ssm_->config().in_channels; }
  torch::nn::Module& network() override { return *ssm_; }
  std::string name() const override { return "DiffuSSM"; }

 private:
  models::DiffuSSMModel ssm_;
  const nn::PositionScaling positions_;
};

class ClassConditioner : public Conditioner {
 public:
  ClassConditioner(io::ClassNames names, std::string folder) : names_(std::move(names)), folder_(std::move(folder)) {}

  Condition Encode(const std::vector<std::string>& prompts) override { return Ids(prompts); }

  torch::Tensor Ids(const std::vector<std::string>& prompts) const override {
    std::vector<int64_t> ids;
    for (const std::string& prompt : prompts) {
      const auto found = names_.Find(prompt);
      if (!found.ok()) throw runtime::UserError(fmt::format("{}: {}", folder_, std::string(found.status().message())));
      ids.push_back(*found);
    }
    return torch::tensor(ids, torch::kInt64).view({-1, 1});
  }
  std::string DescribeCutOff(const std::string& /*prompt*/) const override { return ""; }
  torch::nn::Module& network() override { return nothing_; }
  std::string name() const override { return "table of classes"; }

 private:
  const io::ClassNames names_;
  const std::string folder_;
  torch::nn::Module nothing_;
};

}  // namespace

std::shared_ptr<Denoiser> MakeDiTDenoiser(models::DiTTransformer2DModel dit, nn::PositionScaling positions) {
  return std::make_shared<DiTDenoiser>(std::move(dit), positions);
}

std::shared_ptr<Denoiser> MakeDiffuSSMDenoiser(models::DiffuSSMModel ssm, nn::PositionScaling positions) {
  return std::make_shared<DiffuSSMDenoiser>(std::move(ssm), positions);
}

std::shared_ptr<Conditioner> MakeClassConditioner(io::ClassNames names, const std::string& folder) {
  return std::make_shared<ClassConditioner>(std::move(names), folder);
}

}  // namespace loupe::worker::base
