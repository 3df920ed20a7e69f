#include "worker/base/clip_unet.h"

#include <algorithm>
#include <utility>

#include "worker/io/prompt_length.h"
#include "worker/nn/tuning_sites.h"

namespace loupe::worker {
namespace {

class UNetDenoiser : public Denoiser {
 public:
  explicit UNetDenoiser(UNet2DConditionModel unet) : unet_(std::move(unet)) {}

  torch::Tensor Forward(const torch::Tensor& x_t, const torch::Tensor& timesteps, const Condition& condition,
                        ContextCache* cache) override {
    return unet_(x_t, timesteps, condition, cache);
  }
  std::vector<int64_t> Shape() const override {
    const UNet2DConditionConfig& config = unet_->config();
    return {config.in_channels, config.sample_size, config.sample_size};
  }
  bool PredictsVariance() const override { return unet_->config().out_channels > unet_->config().in_channels; }
  torch::nn::Module& network() override { return *unet_; }
  std::string name() const override { return "UNet"; }

 private:
  UNet2DConditionModel unet_;
};

class ClipConditioner : public Conditioner {
 public:
  ClipConditioner(CLIPTextModel text_encoder, ClipTokenizer tokenizer)
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
    const auto read_to = [&](size_t end, const ClipTokenizer& tokenizer) {
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
    return worker::DescribeCutOff(tokenizer_, prompt, length());
  }
  PromptSite* prompts() override { return &prompts_; }
  torch::nn::Module& network() override { return *text_encoder_; }
  std::string name() const override { return "text encoder"; }

 private:
  int64_t length() const { return std::min(tokenizer_.max_length(), text_encoder_->config().max_positions); }

  CLIPTextModel text_encoder_;
  const ClipTokenizer tokenizer_;
  PromptSite prompts_;
};

}  // namespace

torch::Tensor TokeniseTo(const ClipTokenizer& tokenizer, const std::vector<std::string>& prompts, int64_t length) {
  auto ids = torch::empty({static_cast<int64_t>(prompts.size()), length}, torch::kInt64);
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto row = tokenizer.Encode(prompts[i], length);
    std::copy(row.begin(), row.end(), ids.mutable_data_ptr<int64_t>() + static_cast<int64_t>(i) * length);
  }
  return ids;
}

std::shared_ptr<Denoiser> MakeUNetDenoiser(UNet2DConditionModel unet) {
  return std::make_shared<UNetDenoiser>(std::move(unet));
}

std::shared_ptr<Conditioner> MakeClipConditioner(CLIPTextModel text_encoder, ClipTokenizer tokenizer) {
  return std::make_shared<ClipConditioner>(std::move(text_encoder), std::move(tokenizer));
}

}  // namespace loupe::worker
