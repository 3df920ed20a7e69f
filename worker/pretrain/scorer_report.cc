#include "worker/pretrain/scorer_report.h"

#include <torch/utils.h>

#include <map>

#include "fmt/format.h"
#include "worker/pretrain/clip_stage.h"
#include "worker/pretrain/unit_rows.h"

namespace loupe::worker::pretrain {

torch::Tensor EmbedPictures(models::CLIPModel& clip, const torch::Tensor& pictures) {
  torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> parts;
  for (const auto& some : pictures.split(128)) {
    parts.push_back(UnitRows(clip->ImageFeatures(ClipNormalised(some.to(torch::kFloat32) / 255))));
  }
  return torch::cat(parts);
}

std::vector<FamilyMargin> FamilyMargins(models::CLIPModel& clip, const Corpus& corpus, const torch::Tensor& pictures) {
  const auto embeds = EmbedPictures(clip, pictures).cpu();
  std::map<std::string, std::vector<int64_t>> families;
  for (const data::EmojiItem& item : corpus.held_out) {
    if (item.held_out != kHeldOutPair) families[item.held_out].push_back(item.index);
  }

  std::vector<FamilyMargin> margins;
  for (const auto& [family, members] : families) {
    const auto n = static_cast<double>(members.size());
    const auto rows = torch::tensor(members);
    const auto cosines = torch::mm(embeds.index_select(0, rows), embeds.t());
    FamilyMargin margin{.family = family, .nearest = "", .to_nearest = -2, .nearest_other = "", .to_nearest_other = -2};
    margin.within = n < 2 ? 1.0 : (cosines.index_select(1, rows).sum().item<double>() - n) / (n * (n - 1));
    const auto means = cosines.mean(0);
    const auto offer = [&](const data::EmojiItem& item) {
      const double cosine = means[item.index].item<double>();
      if (cosine > margin.to_nearest) margin.nearest = item.name, margin.to_nearest = cosine;
      if (item.name == family + " face") return;
      if (cosine > margin.to_nearest_other) margin.nearest_other = item.name, margin.to_nearest_other = cosine;
    };
    for (const data::EmojiItem& item : corpus.training) offer(item);
    for (const data::EmojiItem& item : corpus.held_out) {
      if (item.held_out != family) offer(item);
    }
    margins.push_back(std::move(margin));
  }
  return margins;
}

NameRetrieval RetrieveNames(models::CLIPModel& clip, const io::ClipTokenizer& tokenizer, const Corpus& corpus,
                            const torch::Tensor& pictures, int64_t max_length) {
  torch::NoGradGuard no_grad;
  std::vector<int64_t> rows, ids;
  for (const data::EmojiItem& item : corpus.training) {
    rows.push_back(item.index);
    const auto row = tokenizer.Encode(MainCaption(item), max_length);
    ids.insert(ids.end(), row.begin(), row.end());
  }
  const auto n = static_cast<int64_t>(rows.size());
  std::vector<torch::Tensor> texts;
  for (const auto& some : torch::tensor(ids).view({n, max_length}).to(pictures.device()).split(256)) {
    texts.push_back(UnitRows(clip->TextFeatures(some)));
  }
  const auto images = EmbedPictures(clip, pictures.index_select(0, torch::tensor(rows).to(pictures.device())));
  const auto best = std::get<1>(torch::mm(images, torch::cat(texts).t()).cpu().topk(std::min<int64_t>(5, n), 1));
  const auto hits = best == torch::arange(n).unsqueeze(1);
  return {hits.select(1, 0).to(torch::kFloat64).mean().item<double>(),
          hits.any(1).to(torch::kFloat64).mean().item<double>()};
}

std::string DescribeScorer(models::CLIPModel& clip, const io::ClipTokenizer& tokenizer, const Corpus& corpus,
                           const torch::Tensor& pictures, int64_t max_length) {
  const NameRetrieval names = RetrieveNames(clip, tokenizer, corpus, pictures, max_length);
  std::string text = fmt::format("names top-1 {:.3f}, top-5 {:.3f}", names.top1, names.top5);
  for (const FamilyMargin& m : FamilyMargins(clip, corpus, pictures)) {
    text += fmt::format("; {}: within {:.3f}, '{}' {:.3f} (margin {:+.3f}), of any '{}' {:.3f} ({:+.3f})", m.family,
                        m.within, m.nearest_other, m.to_nearest_other, m.margin_without_twin(), m.nearest, m.to_nearest,
                        m.margin());
  }
  return text;
}

}  // namespace loupe::worker::pretrain
