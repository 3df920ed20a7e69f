// The pictures of a corpus as one tensor.
#pragma once

#include <torch/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/pretrain/corpus.h"

namespace loupe::worker::pretrain {

// Every picture of the corpus, from its files, or drawn from the colour font at `font_path` (empty: Noto Color Emoji
// where Debian puts it): uint8 [corpus.size(), 3, side, side], row i the item of index i. Errors as EmojiRenderer's, or
// the files'.
absl::StatusOr<torch::Tensor> DrawPictures(const std::string& font_path, const Corpus& corpus, int64_t side);

// The rows of `items`, in their order.
torch::Tensor PicturesOf(const torch::Tensor& pictures, const std::vector<data::EmojiItem>& items);

}  // namespace loupe::worker::pretrain
