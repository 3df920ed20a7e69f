#include "worker/base/clip_unet.h"

#include <algorithm>
#include <utility>

#include "worker/io/prompt_length.h"
#include "worker/nn/tuning_sites.h"

namespace loupe::worker::base {
namespace {

// Rows of a condition that hold a vector of this width.
int64_t RowsFor(int64_t pooled_width, int64_t width) { return (pooled_width + width - 1) / width; }

// Stable Diffusion XL's six numbers: the picture's size, where it was cut from (its corner), the size that is wanted.
// [1, 6], int64; written on the device itself, as a copy from the CPU would wait for it.
torch::Tensor SizeIds(int64_t height, int64_t width, torch::Device device) {
  torch::Tensor ids = torch::zeros({1, 6}, torch::TensorOptions(torch::kInt64).device(device));
  for (const int64_t place : {0, 4}) {
    ids.select(1, place).fill_(height);
    ids.select(1, place + 1).fill_(width);
  }
  return ids;
}

class UNetDenoiser : public Denoiser {
 public:
  UNetDenoiser(models::UNet2DConditionModel unet, int64_t downscale) : unet_(std::move(unet)), downscale_(downscale) {}

  torch::Tensor Forward(const torch::Tensor& x_t, const torch::Tensor& timesteps, const Condition& condition,
                        nn::ContextCache* cache) override {
    const int64_t pooled_width = unet_->config().pooled_width;
    if (pooled_width == 0) return unet_(x_t, timesteps, condition, cache);
    const int64_t rows = RowsFor(pooled_width, condition.size(2)), tokens = condition.size(1) - rows;
    const int64_t height = x_t.size(2) * downscale_, width = x_t.size(3) * downscale_;
    const models::AddedCondition added = {condition.narrow(1, tokens, rows).flatten(1).narrow(1, 0, pooled_width),
                                          SizeIds(height, width, x_t.device())};
    return unet_(x_t, timesteps, condition.narrow(1, 0, tokens), cache, added);
  }
  std::vector<int64_t> Shape() const override {
    const models::UNet2DConditionConfig& config = unet_->config();
    return {config.in_channels, config.sample_size, config.sample_size};
  }
  bool PredictsVariance() const override { return unet_->config().out_channels > unet_->config().in_channels; }
  bool LooksAtConditionLate() const override { return true; }
  torch::nn::Module& network() override { return *unet_; }
  std::string name() const override { return "UNet"; }

 private:
  models::UNet2DConditionModel unet_;
  const int64_t downscale_;
};

class ClipConditioner : public Conditioner {
 public:
  ClipConditioner(models::CLIPTextModel text_encoder, io::ClipTokenizer tokenizer)
      : text_encoder_(std::move(text_encoder)), tokenizer_(std::move(tokenizer)) {
    prompts_.tokenizer = &tokenizer_;
  }

  Condition Encode(const std::vector<std::string>& prompts) override {
    return text_encoder_(Ids(prompts).to(text_encoder_->parameters().front().device()));
  }
  torch::Tensor Ids(const std::vector<std::string>& prompts) const override {
    const auto& readers = prompts_.slot.entries();
    if (readers.empty()) return TokeniseTo(tokenizer_, prompts, length());
    // Each trial's rows by its method's tokenizer.
    const auto total = static_cast<size_t>(readers.front().range.total);
    TORCH_CHECK(prompts.size() % total == 0, "a pack of ", total, " trials cannot share ", prompts.size(), " prompts");
    const size_t batch = prompts.size() / total;
    std::vector<torch::Tensor> rows;
    size_t next = 0;  // of the pack's slots
    const auto read_to = [&](size_t end, const io::ClipTokenizer& tokenizer) {
      if (end == next) return;
      const auto at = [&](size_t slot) { return prompts.begin() + static_cast<std::ptrdiff_t>(slot * batch); };
      rows.push_back(TokeniseTo(tokenizer, {at(next), at(end)}, length()));
      next = end;
    };
    for (const auto& reader : readers) {
      read_to(static_cast<size_t>(reader.range.first), tokenizer_);
      read_to(static_cast<size_t>(reader.range.end()), *reader.part);
    }
    read_to(total, tokenizer_);
    return torch::cat(rows);
  }
  std::string DescribeCutOff(const std::string& prompt) const override {
    return io::DescribeCutOff(tokenizer_, prompt, length());
  }
  nn::PromptSite* prompts() override { return &prompts_; }
  torch::nn::Module& network() override { return *text_encoder_; }
  std::string name() const override { return "text encoder"; }

 private:
  int64_t length() const { return std::min(tokenizer_.max_length(), text_encoder_->config().max_positions); }

  models::CLIPTextModel text_encoder_;
  const io::ClipTokenizer tokenizer_;
  nn::PromptSite prompts_;
};

class TwoTowerConditioner : public Conditioner {
 public:
  TwoTowerConditioner(TextTower first, TextTower second, bool zero_empty)
      : first_(std::move(first)), second_(std::move(second)), zero_empty_(zero_empty) {}

  Condition Encode(const std::vector<std::string>& prompts) override {
    const auto device = first_.network->parameters().front().device();
    const auto ids = IdsOf(first_, prompts);
    const auto left = first_.network->ForwardPenultimate(ids.to(device));
    const auto right = second_.network->ForwardPenultimate(IdsOf(second_, prompts).to(device));
    const auto hidden = torch::cat({left.hidden, right.hidden}, 2);
    const int64_t n = hidden.size(0), width = hidden.size(2), rows = RowsFor(right.pooled.size(1), width);
    const auto pooled = torch::constant_pad_nd(right.pooled, {0, rows * width - right.pooled.size(1)});
    torch::Tensor all = torch::cat({hidden, pooled.view({n, rows, width})}, 1);
    if (!zero_empty_) return all;
    // By what is read of them, so that prompts with the same ids have the same encoding.
    const auto empty = ids.eq(IdsOf(first_, {""})).all(1).view({n, 1, 1}).to(device);
    return torch::where(empty, torch::zeros_like(all), all);
  }
  torch::Tensor Ids(const std::vector<std::string>& prompts) const override {
    return torch::cat({IdsOf(first_, prompts), IdsOf(second_, prompts)}, 1);
  }
  std::string DescribeCutOff(const std::string& prompt) const override {
    return io::DescribeCutOff(first_.tokenizer, prompt, LengthOf(first_));
  }
  torch::nn::Module& network() override { return nothing_; }
  std::string name() const override { return "text encoder"; }

 private:
  static int64_t LengthOf(const TextTower& tower) {
    return std::min(tower.tokenizer.max_length(), tower.network->config().max_positions);
  }
  static torch::Tensor IdsOf(const TextTower& tower, const std::vector<std::string>& prompts) {
    return TokeniseTo(tower.tokenizer, prompts, LengthOf(tower));
  }

  TextTower first_, second_;
  const bool zero_empty_;
  torch::nn::Module nothing_;
};

}  // namespace

torch::Tensor TokeniseTo(const io::ClipTokenizer& tokenizer, const std::vector<std::string>& prompts, int64_t length) {
  auto ids = torch::empty({static_cast<int64_t>(prompts.size()), length}, torch::kInt64);
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto row = tokenizer.Encode(prompts[i], length);
    std::copy(row.begin(), row.end(), ids.mutable_data_ptr<int64_t>() + static_cast<int64_t>(i) * length);
  }
  return ids;
}

std::shared_ptr<Denoiser> MakeUNetDenoiser(models::UNet2DConditionModel unet, int64_t downscale) {
  return std::make_shared<UNetDenoiser>(std::move(unet), downscale);
}

std::shared_ptr<Conditioner> MakeClipConditioner(models::CLIPTextModel text_encoder, io::ClipTokenizer tokenizer) {
  return std::make_shared<ClipConditioner>(std::move(text_encoder), std::move(tokenizer));
}

std::shared_ptr<Conditioner> MakeTwoTowerConditioner(TextTower first, TextTower second, bool zero_empty) {
  return std::make_shared<TwoTowerConditioner>(std::move(first), std::move(second), zero_empty);
}

}  // namespace loupe::worker::base
