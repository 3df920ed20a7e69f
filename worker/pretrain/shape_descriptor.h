// A fixed description of a small picture by shape first and colour second: what the image tower is taught to agree
// with.
//
// A tower trained on 1,346 captions alone learns the cheapest cue, which is colour. This descriptor knows no names, but
// two pictures of one outline are near in it whatever is drawn inside, so its cosines are a teacher for the geometry of
// the tower's embeddings: the tower learns them on changed pictures without end, and applies them to pictures it never
// saw.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace loupe::worker::pretrain {

// Four blocks, each centred and scaled to mean square 1 over a set of pictures, then joined:
//   the silhouette (a soft threshold of the darkest ink), averages of 4×4 pixels;
//   edges of the brightness: √magnitude by eight orientations (a soft histogram, as in Dalal & Triggs 2005), 8-pixel
//   cells; edges of the silhouette, likewise; the colours, averages of 4×4 pixels.
// and projected onto their first principal axes, as many as the tower's embedding has numbers.
// Immutable; thread-safe.
class ShapeDescriptor {
 public:
  // Centre, scale and axes from `pictures`: [N, 3, H, W], float32 in [0, 1], H and W multiples of 8. With N <
  // dimensions the last columns are zero.
  ShapeDescriptor(const torch::Tensor& pictures, int64_t dimensions);

  // [N, dimensions], rows of length 1. Cosines between rows are about 0 on average and 1 for equal pictures.
  torch::Tensor Describe(const torch::Tensor& pictures) const;

 private:
  torch::Tensor Joined(const torch::Tensor& pictures) const;

  std::vector<torch::Tensor> means_;
  std::vector<double> scales_;
  torch::Tensor axes_;  // [d, dimensions]
};

}  // namespace loupe::worker::pretrain
