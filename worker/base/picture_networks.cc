#include "worker/base/picture_networks.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"
#include "worker/models/efficientnet.h"
#include "worker/models/inception.h"
#include "worker/models/vit.h"

namespace loupe::worker::base {
namespace {

template <typename Scorer>
PictureNetwork Seeing(Scorer scorer) {
  return {.embed = [scorer](const std::vector<io::Image>& images) mutable { return scorer.EmbedImages(images); },
          .layers = {}};
}

absl::StatusOr<PictureNetwork> LoadDino(const std::string& path, const std::string&,
                                        const models::LoadOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(auto scorer, models::LoadDinoScorer(path, options));
  return Seeing(std::move(scorer));
}

absl::StatusOr<PictureNetwork> LoadInception(const std::string& path, const std::string& variant,
                                             const models::LoadOptions& options) {
  const auto resize =
      variant == "clean-fid" ? models::InceptionResize::kCleanFid : models::InceptionResize::kPytorchFid;
  LOUPE_ASSIGN_OR_RETURN(auto scorer, models::LoadInceptionScorer(path, resize, options));
  return Seeing(std::move(scorer));
}

absl::StatusOr<PictureNetwork> LoadEfficientNet(const std::string& path, const std::string&,
                                                const models::LoadOptions& options) {
  LOUPE_ASSIGN_OR_RETURN(const auto scorer, models::LoadEfficientNetScorer(path, options));
  PictureNetwork network = Seeing(scorer);
  network.layers = [its = scorer](const std::vector<io::Image>& images) mutable {
    return its.network->Stages(its.preprocessing.Apply(images).to(its.network->parameters().front().options()));
  };
  return network;
}

}  // namespace

const std::vector<PictureNetworkKind>& PictureNetworkKinds() {
  static const std::vector<PictureNetworkKind> kinds = {
      {.name = "dino",
       .score_prefix = "dino_",
       .setting = "score.dino",
       .variant_setting = "",
       .part = models::DinoScorer::kPart,
       .load = LoadDino},
      {.name = "inception",
       .score_prefix = "",
       .setting = "score.inception",
       .is_file = true,
       .variant_setting = "score.inception_resize",
       .part = models::InceptionScorer::kPart,
       .load = LoadInception},
      {.name = "effnet",
       .score_prefix = "effnet_",
       .setting = "score.efficientnet",
       .variant_setting = "",
       .part = models::EfficientNetScorer::kPart,
       .load = LoadEfficientNet},
  };
  return kinds;
}

const PictureNetworkKind& PictureNetworkKindOf(const std::string& name) {
  const auto& kinds = PictureNetworkKinds();
  const auto found =
      std::find_if(kinds.begin(), kinds.end(), [&](const PictureNetworkKind& kind) { return kind.name == name; });
  TORCH_CHECK(found != kinds.end(), "no network '", name, "' sees pictures");
  return *found;
}

}  // namespace loupe::worker::base
