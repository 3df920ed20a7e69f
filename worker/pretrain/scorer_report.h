// How good the CLIP model is as a judge, measured on real pictures.
#pragma once

#include <torch/types.h>

#include <string>
#include <vector>

#include "worker/io/clip_tokenizer.h"
#include "worker/models/clip.h"
#include "worker/pretrain/corpus.h"

namespace loupe::worker::pretrain {

// One held-out family (the nine cat faces) among all pictures, by cosine of image embeddings.
struct FamilyMargin {
  std::string family;
  double within = 0;    // mean cosine over pairs of different members
  std::string nearest;  // the picture outside the family with the highest mean cosine to its members
  double to_nearest = 0;
  std::string nearest_other;  // the same without the family's training twin (below)
  double to_nearest_other = 0;

  double margin() const { return within - to_nearest; }
  double margin_without_twin() const { return within - to_nearest_other; }
};

// `pictures`: uint8 [N, 3, S, S], by EmojiItem::index, held-out ones included. A family's twin is the training emoji of
// the same animal's face, "<family> face": as the family's plain middle it can lie nearer to the members on average
// than they lie to each other under any honest embedding, so both margins are told.
std::vector<FamilyMargin> FamilyMargins(models::CLIPModel& clip, const Corpus& corpus, const torch::Tensor& pictures);

// Image → name over the training pictures: shares of pictures whose own name is the first, and among the first five.
struct NameRetrieval {
  double top1 = 0;
  double top5 = 0;
};
NameRetrieval RetrieveNames(models::CLIPModel& clip, const io::ClipTokenizer& tokenizer, const Corpus& corpus,
                            const torch::Tensor& pictures, int64_t max_length);

// One line of all that.
std::string DescribeScorer(models::CLIPModel& clip, const io::ClipTokenizer& tokenizer, const Corpus& corpus,
                           const torch::Tensor& pictures, int64_t max_length);

// Image embeddings of uint8 pictures, rows of length 1.
torch::Tensor EmbedPictures(models::CLIPModel& clip, const torch::Tensor& pictures);

}  // namespace loupe::worker::pretrain
