#include "worker/pretrain/clip_stage.h"

#include <algorithm>
#include <utility>

#include "common/seed.h"
#include "worker/pretrain/augment.h"
#include "worker/pretrain/step_draws.h"
#include "worker/pretrain/unit_rows.h"

namespace loupe::worker::pretrain {
namespace {

// Mean over rows of the cross-entropy between `targets` (rows sum to 1) and softmax(logits).
torch::Tensor CrossEntropy(const torch::Tensor& targets, const torch::Tensor& logits) {
  return -(targets * logits.log_softmax(1)).sum(1).mean();
}

}  // namespace

torch::Tensor ClipNormalised(const torch::Tensor& unit) {
  static const auto mean = torch::tensor({0.48145466F, 0.4578275F, 0.40821073F}).view({1, 3, 1, 1});
  static const auto deviation = torch::tensor({0.26862954F, 0.26130258F, 0.27577711F}).view({1, 3, 1, 1});
  const auto device = unit.device();
  return ((unit - mean.to(device)) / deviation.to(device)).contiguous(torch::MemoryFormat::ChannelsLast);
}

ClipStage::ClipStage(models::CLIPModel network, const io::ClipTokenizer& tokenizer, std::vector<data::EmojiItem> items,
                     torch::Tensor pictures, int64_t max_length, const ClipStageOptions& options, uint64_t seed,
                     LookFunction look)
    : network_(std::move(network)),
      tokenizer_(tokenizer),
      items_(std::move(items)),
      pictures_(pictures.to(torch::kFloat32) / 255),
      max_length_(max_length),
      options_(options),
      seed_(seed),
      look_(std::move(look)),
      descriptor_(pictures_, network_->named_parameters()["visual_projection.weight"].size(0)) {
  const int64_t n = pictures_.size(0);
  const auto described = descriptor_.Describe(pictures_);
  neighbours_ = std::get<1>(torch::mm(described, described.t()).topk(std::min(options_.neighbours, n), 1));
  auto likeness = WordLikeness(items_);
  likeness_ = torch::from_blob(likeness.data(), {n, n}).clone().to(pictures_.device());
}

torch::Tensor ClipStage::CaptionIds(int64_t step, const torch::Tensor& batch) const {
  const auto rows = batch.cpu();
  std::mt19937_64 random(DeriveSeed(seed_, step, "pretrain/clip/captions"));
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < rows.size(0); ++i) {
    const data::EmojiItem& item = items_[static_cast<size_t>(rows[i].item<int64_t>())];
    const auto row = tokenizer_.Encode(DrawCaption(item, /*keywords_alone=*/true, random), max_length_);
    ids.insert(ids.end(), row.begin(), row.end());
  }
  const auto table = torch::tensor(ids).view({rows.size(0), max_length_});
  // The tower is causal and read at the first end token: what follows the longest caption's changes nothing.
  const auto ends = table.eq(tokenizer_.eos_id()).to(torch::kInt).argmax(1);
  return table.slice(1, 0, ends.max().item<int64_t>() + 1).contiguous().to(batch.device());
}

torch::Tensor ClipStage::Loss(int64_t step, std::map<std::string, torch::Tensor>& parts) {
  auto random = StepGenerator(seed_, step, "clip/changes");
  const int64_t half = options_.batch / 2;
  const torch::Device device = pictures_.device();
  const auto rows = BatchRows(seed_, "clip", step, half, pictures_.size(0)).to(device);
  const auto which = torch::randint(0, neighbours_.size(1), {half}, random, torch::kInt64).to(device);
  const auto partners = neighbours_.index({rows, which});

  // Mild changes where a caption must still fit, strong ones where only the shape is learned.
  auto mild = RandomColours(pictures_.index_select(0, rows), /*strong=*/0.3, random);
  mild = RandomAffine(mild, /*angle=*/0.17, /*scale=*/0.12, /*shift=*/0.08, random);
  auto strong = pictures_.index_select(0, partners);
  const auto donors = strong.index_select(0, torch::randperm(half, random, torch::kInt64).to(device));
  strong = TransplantMiddles(strong, donors, /*share=*/0.5, random);
  strong = EraseRectangles(strong, /*share=*/0.4, random);
  strong = RandomColours(strong, /*strong=*/0.6, random);
  strong = RandomAffine(strong, /*angle=*/0.44, /*scale=*/0.3, /*shift=*/0.2, random);
  strong = RandomBlur(strong, /*share=*/0.3, random);

  const auto views = torch::cat({mild, strong}).clamp(0, 1);
  const auto embeds = UnitRows(network_->ImageFeatures(ClipNormalised(views)));
  const auto described = descriptor_.Describe(views);
  const auto target = torch::mm(described, described.t());
  const auto weight = (1 + options_.near_weight * target.clamp_min(0)) * (1 - torch::eye(target.size(0), device));
  const auto shape = (weight * (torch::mm(embeds, embeds.t()) - target).square()).sum() / weight.sum();

  const auto aim = (1 - (embeds * described).sum(1)).mean();

  const auto texts = UnitRows(network_->TextFeatures(CaptionIds(step, rows)));
  const auto likeness = likeness_.index_select(0, rows).index_select(1, rows);
  const auto wanted =
      (1 - options_.soft_share) * torch::eye(half, device) + options_.soft_share * (likeness / 0.1).softmax(1);
  const auto logits = network_->logit_scale.exp().clamp_max(80) * torch::mm(embeds.slice(0, 0, half), texts.t());
  const auto text = 0.5 * (CrossEntropy(wanted, logits) + CrossEntropy(wanted.t(), logits.t()));

  parts["shape"] = shape.detach();
  parts["aim"] = aim.detach();
  parts["text"] = text.detach();
  return options_.aim_weight * aim + options_.shape_weight * shape + options_.text_weight * text;
}

}  // namespace loupe::worker::pretrain
