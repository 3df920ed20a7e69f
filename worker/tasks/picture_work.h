// The costly work on pictures, sampling and embedding, in a form that several processes can share out
// (executor/rank_shares.h). A picture's and an embedding's last bits depend on those that are computed together with
// it, so that whole parts of one size are what is shared: the results are those of one process, byte for byte.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "worker/io/image.h"
#include "worker/sampling/picture_sampler.h"

namespace loupe::worker::tasks {

// The first `count` of `drawn` pictures: noise is drawn for all of these.
struct PictureOrder {
  std::vector<std::string> prompts;  // one, or `count`
  uint64_t noise_seed = 0;
  int64_t drawn = 0;
  int64_t count = 0;
};

// The scorer among the networks that see pictures; the others are those of base::PictureNetworkKinds(), by name.
inline constexpr char kScorerNetwork[] = "clip";

// Does what SharedInputs is asked for, with more than this process.
class PictureHelp {
 public:
  virtual ~PictureHelp() = default;
  virtual std::vector<io::Image> Sample(const PictureOrder& order, const sampling::SampleProgress& progress) = 0;
  // float32 [n, features] on the CPU, a row for each picture. They are of one size, one at least.
  virtual torch::Tensor Embed(const std::string& network, const std::vector<io::Image>& images) = 0;
};

}  // namespace loupe::worker::tasks
