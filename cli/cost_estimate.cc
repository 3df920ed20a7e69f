#include "cli/cost_estimate.h"

#include <algorithm>
#include <map>
#include <vector>

#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace loupe::cli {
namespace {

// Cells that are looked at, evenly spread: the mean over these stands for all.
constexpr int64_t kCellsSampled = 500;

// Multiply-adds of the layers of one network, added up as the forward pass meets them.
class UnetCount {
 public:
  UnetCount(double embedding, double context_width, double context_tokens)
      : embedding_(embedding), context_width_(context_width), context_tokens_(context_tokens) {}

  void Convolution(double in, double out, double pixels) { total_ += 9 * in * out * pixels; }

  void Resnet(double in, double out, double pixels) {
    Convolution(in, out, pixels);
    Convolution(out, out, pixels);
    if (in != out) total_ += in * out * pixels;
    total_ += embedding_ * out;
  }

  // One transformer block between its 1×1 projections: self-attention, cross-attention, GEGLU feed-forward of width 4d.
  void Transformer(double d, double tokens, double blocks) {
    const double self_attention = 4 * d * d * tokens + 2 * tokens * tokens * d;
    const double cross_attention =
        2 * d * d * tokens + 2 * context_width_ * d * context_tokens_ + 2 * tokens * context_tokens_ * d;
    const double feed_forward = 12 * d * d * tokens;
    total_ += 2 * d * d * tokens + blocks * (self_attention + cross_attention + feed_forward);
  }

  double total() const { return total_; }

 private:
  const double embedding_, context_width_, context_tokens_;
  double total_ = 0;
};

absl::StatusOr<bool> HasAttention(const std::string& block_type) {
  if (block_type == "CrossAttnDownBlock2D" || block_type == "CrossAttnUpBlock2D") return true;
  if (block_type == "DownBlock2D" || block_type == "UpBlock2D") return false;
  return absl::InvalidArgumentError(fmt::format("block type '{}' is not known", block_type));
}

absl::StatusOr<double> CountMultiplyAdds(const nlohmann::json& config, int64_t text_tokens) {
  const auto widths = config.at("block_out_channels").get<std::vector<double>>();
  const auto down = config.at("down_block_types").get<std::vector<std::string>>();
  const auto up = config.at("up_block_types").get<std::vector<std::string>>();
  const int layers = config.at("layers_per_block").get<int>();
  const double blocks =
      config.contains("transformer_layers_per_block") && config["transformer_layers_per_block"].is_number()
          ? config["transformer_layers_per_block"].get<double>()
          : 1;
  if (widths.empty() || down.size() != widths.size() || up.size() != widths.size()) {
    return absl::InvalidArgumentError("block_out_channels, down_block_types and up_block_types differ in length");
  }
  double pixels = config.at("sample_size").get<double>() * config.at("sample_size").get<double>();
  UnetCount count(4 * widths.front(), config.at("cross_attention_dim").get<double>(), static_cast<double>(text_tokens));

  count.Convolution(config.at("in_channels").get<double>(), widths.front(), pixels);
  std::vector<double> skips = {widths.front()};
  double width = widths.front();
  for (size_t i = 0; i < widths.size(); ++i) {
    LOUPE_ASSIGN_OR_RETURN(const bool attention, HasAttention(down[i]));
    for (int layer = 0; layer < layers; ++layer) {
      count.Resnet(width, widths[i], pixels);
      width = widths[i];
      if (attention) count.Transformer(width, pixels, blocks);
      skips.push_back(width);
    }
    if (i + 1 < widths.size()) {
      pixels /= 4;
      count.Convolution(width, width, pixels);
      skips.push_back(width);
    }
  }
  count.Resnet(width, width, pixels);
  count.Transformer(width, pixels, blocks);
  count.Resnet(width, width, pixels);
  for (size_t i = 0; i < widths.size(); ++i) {
    const double out = widths[widths.size() - 1 - i];
    LOUPE_ASSIGN_OR_RETURN(const bool attention, HasAttention(up[i]));
    for (int layer = 0; layer < layers + 1; ++layer) {
      count.Resnet(width + skips.back(), out, pixels);
      skips.pop_back();
      width = out;
      if (attention) count.Transformer(width, pixels, blocks);
    }
    if (i + 1 < widths.size()) {
      pixels *= 4;
      count.Convolution(width, width, pixels);
    }
  }
  count.Convolution(width, config.at("out_channels").get<double>(), pixels);
  return count.total();
}

// Text tokens of a base; Stable Diffusion's 77 where its tokenizer does not say.
int64_t TextTokens(const std::string& base) {
  const absl::StatusOr<std::string> text = ReadFile(base + "/tokenizer/tokenizer_config.json");
  if (!text.ok()) return 77;
  const nlohmann::json config = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object() || !config.contains("model_max_length") || !config["model_max_length"].is_number_integer())
    return 77;
  return std::clamp<int64_t>(config["model_max_length"].get<int64_t>(), 1, 4096);
}

}  // namespace

double NetworkPasses(const Settings& settings) {
  double images = static_cast<double>(settings.Integer("budget.batch"));
  if (settings.Has("task.class_images") && settings.Integer("task.class_images") > 0) images *= 2;
  const double training = static_cast<double>(settings.Integer("budget.steps")) * images * 2;
  const double passes = settings.Real("sample.guidance") == 1 ? 1 : 2;
  return training + static_cast<double>(settings.Integer("budget.samples")) *
                        static_cast<double>(settings.Integer("sample.steps")) * passes;
}

double MeanNetworkPasses(const coordinator::Plan& plan) {
  double passes = 0;
  int64_t sampled = 0;
  const int64_t stride = std::max<int64_t>(1, plan.cell_count() / kCellsSampled);
  for (int64_t cell = 0; cell < plan.cell_count(); cell += stride, ++sampled) {
    passes += NetworkPasses(plan.CellSettings(cell));
  }
  return passes / static_cast<double>(sampled);
}

absl::StatusOr<double> UnetForwardFlops(std::string_view config_json, int64_t text_tokens) {
  try {
    LOUPE_ASSIGN_OR_RETURN(const double multiply_adds,
                           CountMultiplyAdds(nlohmann::json::parse(config_json), text_tokens));
    return 2 * multiply_adds;
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(fmt::format("cannot read the U-Net's size from its config: {}", error.what()));
  }
}

absl::StatusOr<TrialCost> EstimateTrialCost(const coordinator::Plan& plan, double gflops_per_worker) {
  std::map<std::string, double> forward_of_base;
  double flops = 0;
  int64_t sampled = 0;
  const int64_t stride = std::max<int64_t>(1, plan.cell_count() / kCellsSampled);
  for (int64_t cell = 0; cell < plan.cell_count(); cell += stride, ++sampled) {
    const Settings settings = plan.CellSettings(cell);
    const std::string& base = settings.Text("base");
    auto forward = forward_of_base.find(base);
    if (forward == forward_of_base.end()) {
      const std::string path = base + "/unet/config.json";
      LOUPE_ASSIGN_OR_RETURN(const std::string config, ReadFile(path));
      const absl::StatusOr<double> counted = UnetForwardFlops(config, TextTokens(base));
      if (!counted.ok()) return Annotate(counted.status(), path);
      forward = forward_of_base.emplace(base, *counted).first;
    }
    flops += NetworkPasses(settings) * forward->second;
  }
  flops /= static_cast<double>(sampled);
  return TrialCost{
      .seconds = flops / (gflops_per_worker * 1e9),
      .basis = fmt::format(
          "{:.3g} TFLOP per trial ({:.3g} GFLOP per pass of the U-Net) at an assumed {:.3g} GFLOP/s per worker; "
          "without loading, scoring and class images",
          flops / 1e12, forward_of_base.begin()->second / 1e9, gflops_per_worker)};
}

}  // namespace loupe::cli
