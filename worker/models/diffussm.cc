#include "worker/models/diffussm.h"

#include <memory>
#include <vector>

#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/io/json_config.h"
#include "worker/runtime/recompute.h"

namespace loupe::worker::models {
namespace {

// A level of the names: final.modulation, final.linear.
class FinalHolder : public torch::nn::Module {
 public:
  FinalHolder(const nn::AdaModulation& modulation, const nn::Linear& linear) {
    register_module("modulation", modulation);
    register_module("linear", linear);
  }
};

// Which of two words the key has; `first` where it is absent.
bool IsSecond(io::JsonConfig& json, const char* key, const std::string& first, const std::string& second) {
  const std::string value = json.String(key, first);
  if (value != first && value != second) json.Refuse(key, fmt::format("\"{}\" or \"{}\"", first, second));
  return value == second;
}

}  // namespace

absl::StatusOr<DiffuSSMConfig> DiffuSSMConfig::Read(const std::string& path) {
  LOUPE_ASSIGN_OR_RETURN(io::JsonConfig json, io::JsonConfig::Read(path));
  DiffuSSMConfig config;
  json.MustBe("_class_name", {"DiffuSSMModel"});
  config.in_channels = json.Int("in_channels", 4);
  config.out_channels = json.Int("out_channels", 2 * config.in_channels);
  config.sample_size = json.Int("sample_size");
  config.width = json.Int("hidden_size");
  config.layers = json.Int("num_layers");
  config.hourglass = json.Int("hourglass", 2);
  config.classes = json.Int("num_classes", 1);
  config.state_size = json.Int("state_size", 64);
  config.discretisation = IsSecond(json, "discretisation", "zoh", "bilinear") ? nn::Discretisation::kBilinear
                                                                              : nn::Discretisation::kZeroOrderHold;
  config.silu = IsSecond(json, "activation", "gelu", "silu");
  config.gated = !IsSecond(json, "modulation", "shift-scale-gate", "shift-scale");
  config.positions = !IsSecond(json, "positions", "sincos", "none");
  for (const auto& [key, value] :
       {std::pair{"in_channels", config.in_channels}, std::pair{"sample_size", config.sample_size},
        std::pair{"num_layers", config.layers}, std::pair{"hourglass", config.hourglass},
        std::pair{"num_classes", config.classes}}) {
    if (value < 1) json.Refuse(key, "at least 1");
  }
  if (config.width < 4 || config.width % 4 != 0) json.Refuse("hidden_size", "a multiple of 4");
  if (config.state_size < 2 || config.state_size % 2 != 0) json.Refuse("state_size", "an even number, 2 or more");
  if (json.status().ok() && (config.sample_size % config.hourglass != 0 || 2 * config.width % config.hourglass != 0)) {
    json.Refuse("hourglass", fmt::format("a number that divides sample_size ({}) and twice hidden_size ({})",
                                         config.sample_size, 2 * config.width));
  }
  LOUPE_RETURN_IF_ERROR(json.FinishStrictly());
  return config;
}

DiffuSSMBlockImpl::DiffuSSMBlockImpl(const DiffuSSMConfig& config)
    : width_(config.width), hourglass_(config.hourglass), silu_(config.silu), gated_(config.gated) {
  const int64_t d = width_;
  modulation_ = register_module("modulation", nn::AdaModulation(d, gated_ ? 3 : 2));
  w0_ = register_module("w0", nn::Linear(d, d));
  up_ = register_module("up", nn::Linear(d, hourglass_ * d));
  ssm_ = register_module("ssm", nn::BidirectionalS4D(d, config.state_size, config.discretisation));
  for (int64_t k = 0; k < hourglass_; ++k) down_->push_back(nn::Linear(2 * d, 2 * d / hourglass_));
  register_module("down", down_);
  w1_ = register_module("w1", nn::Linear(d, 2 * d));
  w2_ = register_module("w2", nn::Linear(2 * d, 2 * d));
  w3_ = register_module("w3", nn::Linear(2 * d, d));
}

nn::TappableBlock DiffuSSMBlockImpl::Describe(std::string name) {
  return {std::move(name),
          nn::BlockKind::kTransformer,
          width_,
          width_,
          /*context_width=*/0,
          /*norm_num_groups=*/1,
          &taps,
          {nn::Tap::kCaIn, nn::Tap::kCaC, nn::Tap::kCaOut, nn::Tap::kFfnIn, nn::Tap::kFfnOut}};
}

torch::Tensor DiffuSSMBlockImpl::Branch(const torch::Tensor& h) {
  const int64_t n = h.size(0), j = h.size(1), m = hourglass_;
  // [N, J, M·D] → [N, L, D]: place jM + k has W_k↑'s rows.
  const auto u = Activate(up_(Activate(w0_(h)))).reshape({n, j * m, width_});
  // At once: the gradients of the M parts of y are put side by side, not added up.
  std::vector<torch::Tensor> parts = ssm_(u).view({n, j, m, 2 * width_}).unbind(2);
  for (int64_t k = 0; k < m; ++k) {
    auto& part = parts[static_cast<size_t>(k)];
    part = down_[static_cast<size_t>(k)]->as<nn::LinearImpl>()->forward(part);
  }
  const auto narrowed = Activate(m == 1 ? parts.front() : torch::cat(parts, 2));
  return w3_(Activate(w2_(narrowed)) * Activate(w1_(h)));
}

torch::Tensor DiffuSSMBlockImpl::forward(torch::Tensor x, const torch::Tensor& condition_silu) {
  const nn::TapPass tap(taps);
  const auto m = modulation_(condition_silu);
  x = tap(nn::Tap::kSaIn, x);
  auto out = Branch(nn::Modulate(nn::PlainLayerNorm(x), m[0], m[1]));
  if (gated_) out = m[2].unsqueeze(1) * out;
  x = x + tap(nn::Tap::kSaOut, out);
  return tap(nn::Tap::kTransOut, x);
}

DiffuSSMModelImpl::DiffuSSMModelImpl(const DiffuSSMConfig& config)
    : config_(config), places_(config.width, config.sample_size, config.sample_size / config.hourglass) {
  const int64_t d = config_.width, m = config_.hourglass;
  // The sinusoids as in DiT's own code, which the paper's recipe is.
  embedding_ = register_module("embedding", nn::TimestepClassEmbedding(config_.classes, d, /*freq_shift=*/0));
  x_embedder_ = register_module("x_embedder", nn::Linear(m * config_.in_channels, d));
  for (int64_t i = 0; i < config_.layers; ++i) blocks_->push_back(DiffuSSMBlock(config_));
  register_module("blocks", blocks_);
  final_modulation_ = nn::AdaModulation(d, 2);
  final_linear_ = nn::Linear(d, m * config_.out_channels);
  register_module("final", std::make_shared<FinalHolder>(final_modulation_, final_linear_));
}

torch::Tensor DiffuSSMModelImpl::forward(const torch::Tensor& latents, const torch::Tensor& timesteps,
                                         const torch::Tensor& classes, nn::PositionScaling scaling) {
  const int64_t n = latents.size(0), c = latents.size(1), h = latents.size(2), w = latents.size(3);
  const int64_t m = config_.hourglass;
  TORCH_CHECK(w % m == 0, "latents of width ", w, " cannot be shortened ", m, " to 1");
  auto x = x_embedder_(latents.permute({0, 2, 3, 1}).reshape({n, h * w / m, m * c}));
  if (config_.positions) x = x + places_.For(h, w / m, scaling, x);
  const auto condition = torch::silu(embedding_(timesteps, classes, latents.scalar_type()));
  for (const auto& block : *blocks_) {
    x = runtime::Recomputed(
        [block](const auto& stream, const auto& silu) {
          return block->template as<DiffuSSMBlockImpl>()->forward(stream, silu);
        },
        x, condition);
  }
  const auto modulation = final_modulation_(condition);
  x = final_linear_(nn::Modulate(nn::PlainLayerNorm(x), modulation[0], modulation[1]));
  return x.reshape({n, h, w, config_.out_channels}).permute({0, 3, 1, 2});
}

}  // namespace loupe::worker::models
