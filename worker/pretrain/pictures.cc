#include "worker/pretrain/pictures.h"

#include <cstring>

#include "common/status_macros.h"
#include "worker/data/emoji_renderer.h"

namespace loupe::worker::pretrain {
namespace {

absl::Status Fill(const data::EmojiRenderer& renderer, const std::vector<data::EmojiItem>& items,
                  torch::Tensor& pixels) {
  for (const data::EmojiItem& item : items) {
    LOUPE_ASSIGN_OR_RETURN(const io::Image image, renderer.Render(item.code_points, static_cast<int>(pixels.size(1))));
    std::memcpy(pixels[item.index].data_ptr(), image.rgb.data(), image.rgb.size());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<torch::Tensor> DrawPictures(const std::string& font_path, const Corpus& corpus, int64_t side) {
  if (!corpus.files.empty()) {
    auto pixels = torch::empty({corpus.size(), side, side, 3}, torch::kUInt8);
    for (size_t i = 0; i < corpus.files.size(); ++i) {
      LOUPE_ASSIGN_OR_RETURN(io::Image image, io::ReadImage(corpus.files[i], io::Alpha::kOverWhite));
      if (image.width != side || image.height != side) image = io::ResizeAndCrop(image, static_cast<int>(side));
      std::memcpy(pixels[static_cast<int64_t>(i)].data_ptr(), image.rgb.data(), image.rgb.size());
    }
    return pixels.permute({0, 3, 1, 2}).contiguous();
  }
  LOUPE_ASSIGN_OR_RETURN(
      const auto renderer,
      data::EmojiRenderer::Create(font_path.empty() ? std::string(data::kNotoColorEmojiPath) : font_path));
  auto pixels = torch::empty({corpus.size(), side, side, 3}, torch::kUInt8);
  LOUPE_RETURN_IF_ERROR(Fill(*renderer, corpus.training, pixels));
  LOUPE_RETURN_IF_ERROR(Fill(*renderer, corpus.held_out, pixels));
  return pixels.permute({0, 3, 1, 2}).contiguous();
}

torch::Tensor PicturesOf(const torch::Tensor& pictures, const std::vector<data::EmojiItem>& items) {
  std::vector<int64_t> rows;
  for (const data::EmojiItem& item : items) rows.push_back(item.index);
  return pictures.index_select(0, torch::tensor(rows).to(pictures.device()));
}

}  // namespace loupe::worker::pretrain
