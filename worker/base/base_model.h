// A base: the frozen, pretrained latent diffusion model that trials tune, loaded from a diffusers folder: of Stable
// Diffusion's layout (unet/, vae/, text_encoder/, tokenizer/, scheduler/; XL: and text_encoder_2/, tokenizer_2/), DiT's
// (transformer/, vae/, scheduler/) or DiffuSSM's (ssm/, vae/, scheduler/). And a scorer: a CLIPModel's folder.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/base/denoiser.h"
#include "worker/diffusion/noise_schedule.h"
#include "worker/io/base_folder.h"
#include "worker/io/clip_tokenizer.h"
#include "worker/io/image.h"
#include "worker/models/autoencoder_kl.h"
#include "worker/models/clip.h"
#include "worker/models/diffussm.h"
#include "worker/models/dit.h"
#include "worker/models/picture_preprocessing.h"
#include "worker/models/unet_2d_condition.h"
#include "worker/models/weights.h"

namespace loupe::worker::runtime {
class Recorder;  // recorded_call.h
}  // namespace loupe::worker::runtime

namespace loupe::worker::base {

// Everything in evaluation mode and with requires_grad off. Forward passes from several threads are fine as long as
// nobody attaches a method at the same time. Copies share the networks.
struct BaseModel {
  std::string folder;
  // What training and sampling know of the networks.
  std::shared_ptr<Denoiser> denoiser;
  std::shared_ptr<Conditioner> conditioner;
  // The same networks for those who must know which they are: files of weights, folding. One of the denoisers is there,
  // and the (first) text encoder with a UNet.
  io::BaseKind kind = io::BaseKind::kUNet;
  models::UNet2DConditionModel unet{nullptr};
  models::DiTTransformer2DModel dit{nullptr};
  models::DiffuSSMModel ssm{nullptr};
  models::AutoencoderKL vae{nullptr};
  models::CLIPTextModel text_encoder{nullptr};
  // Of a base whose prompts are classes.
  io::ClassNames classes;
  diffusion::NoiseSchedule schedule;

  // What repeats its training and sampling steps from recordings; null: nothing does.
  std::shared_ptr<runtime::Recorder> recorder = nullptr;

  // Empty, or at which size and with which positions it is another than its folder's (AtPictureSize).
  std::string size_note = {};

  int64_t image_size() const { return denoiser->Shape().back() * vae->config().downscale(); }

  // These three throw NotFinite (runtime/finite.h) naming the part whose result is none.
  // conditioner->Encode without gradients.
  Condition EncodeText(const std::vector<std::string>& captions);
  // Pictures [N, 3, H, W] in [−1, 1] to latents_scaled [N, 4, H/f, W/f] (the mean of the VAE's distribution), and back
  // (clamped to [−1, 1]); without gradients.
  torch::Tensor EncodePictures(const torch::Tensor& pictures);
  torch::Tensor DecodeLatents(const torch::Tensor& latents_scaled);
};

// NOT_FOUND or INVALID_ARGUMENT names the file, and the key or weight, that is missing, not understood or does not fit;
// also where the parts do not fit each other (widths of text and cross-attention, channels of latents, vocabulary).
absl::StatusOr<BaseModel> LoadBase(const std::string& folder, const models::LoadOptions& options = {});

// The same networks for pictures of `side` pixels instead of those that the base was trained on. `positions`: of a base
// whose network is told where each place is (DiT, DiffuSSM). INVALID_ARGUMENT when its latents cannot have that size.
absl::StatusOr<BaseModel> AtPictureSize(const BaseModel& base, int64_t side, nn::PositionScaling positions);

struct ClipScorer {
  std::string folder;
  models::CLIPModel clip{nullptr};
  io::ClipTokenizer tokenizer;
  models::PicturePreprocessing preprocessing;

  // [N, projection_dim], float32, not normalised, without gradients. Throw NotFinite when a value is none.
  torch::Tensor EmbedImages(const std::vector<io::Image>& images);
  torch::Tensor EmbedTexts(const std::vector<std::string>& texts);
};

// Errors as LoadBase.
absl::StatusOr<ClipScorer> LoadClipScorer(const std::string& folder, const models::LoadOptions& options = {});

// Pictures between bytes and tensors: [3, H, W] or [N, 3, H, W], float32, −1 … 1 for 0 … 255; clamped and rounded on
// the way back.
torch::Tensor PictureFromImage(const io::Image& image);
std::vector<io::Image> ImagesFromPictures(const torch::Tensor& pictures);

}  // namespace loupe::worker::base
