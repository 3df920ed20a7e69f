// The networks that see pictures for scores beside the scorer: a further one is a line of the table.
#pragma once

#include <torch/types.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/io/image.h"
#include "worker/models/weights.h"

namespace loupe::worker::base {

// What scores, caches and evaluations know of such a network. Copies share it.
struct PictureNetwork {
  // [N, d], float32, CPU, not normalised; without gradients. Throws NotFinite when a value is none.
  std::function<torch::Tensor(const std::vector<io::Image>&)> embed;
  // Per layer [N, positions, channels]; empty where it has none to tell.
  std::function<std::vector<torch::Tensor>(const std::vector<io::Image>&)> layers;
};

struct PictureNetworkKind {
  // Of its arrays, its files and its line in the provenance: "dino".
  std::string name;
  // Before the names of its scores: "dino_". Empty: they are named as commonly published, "fid" and "kid".
  std::string score_prefix;
  // The setting with its folder or file: "score.dino".
  std::string setting;
  bool is_file = false;
  // The setting that says how it is to look; empty where there is but one way.
  std::string variant_setting;
  // Pictures that go through it together.
  int64_t part = 0;
  // Errors name the file, and what of it is missing, not understood or does not fit.
  std::function<absl::StatusOr<PictureNetwork>(const std::string& path, const std::string& variant,
                                               const models::LoadOptions&)>
      load;
};

const std::vector<PictureNetworkKind>& PictureNetworkKinds();
// Of a name that is in the table.
const PictureNetworkKind& PictureNetworkKindOf(const std::string& name);

}  // namespace loupe::worker::base
