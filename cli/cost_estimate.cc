#include "cli/cost_estimate.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "nlohmann/json.hpp"

namespace loupe::cli {
namespace {

// Cells that are looked at, evenly spread: the mean over these stands for all.
constexpr int64_t kCellsSampled = 500;

absl::StatusOr<bool> HasAttention(const std::string& block_type) {
  if (block_type == "CrossAttnDownBlock2D" || block_type == "CrossAttnUpBlock2D") return true;
  if (block_type == "DownBlock2D" || block_type == "UpBlock2D") return false;
  return absl::InvalidArgumentError(fmt::format("block type '{}' is not known", block_type));
}

// A number for every level, or a list with each level's.
std::vector<int64_t> PerLevel(const nlohmann::json& config, const char* key, size_t levels, int64_t or_else) {
  if (!config.contains(key) || config[key].is_null()) return std::vector<int64_t>(levels, or_else);
  if (config[key].is_array()) return config[key].get<std::vector<int64_t>>();
  return std::vector<int64_t>(levels, config[key].get<int64_t>());
}

absl::StatusOr<UNetShape> ReadUNetShape(const nlohmann::json& config, int64_t text_tokens, double side) {
  const auto widths = config.at("block_out_channels").get<std::vector<double>>();
  const auto down = config.at("down_block_types").get<std::vector<std::string>>();
  const auto up = config.at("up_block_types").get<std::vector<std::string>>();
  const auto resnets = PerLevel(config, "layers_per_block", widths.size(), 2);
  const auto blocks = PerLevel(config, "transformer_layers_per_block", widths.size(), 1);
  const size_t n = widths.size();
  if (n == 0 || down.size() != n || up.size() != n || resnets.size() != n || blocks.size() != n) {
    return absl::InvalidArgumentError("block_out_channels and the lists of block types and layers differ in length");
  }
  UNetShape shape{.in_channels = config.at("in_channels").get<double>(),
                  .out_channels = config.at("out_channels").get<double>(),
                  .side = side,
                  .context_width = config.at("cross_attention_dim").get<double>(),
                  .context_tokens = static_cast<double>(text_tokens)};
  if (config.contains("addition_embed_type") && !config["addition_embed_type"].is_null()) {
    shape.added_width = config.at("projection_class_embeddings_input_dim").get<double>();
  }
  for (size_t i = 0; i < n; ++i) {
    UNetLevelShape level{.width = widths[i], .resnets = resnets[i], .transformer_layers = blocks[i]};
    LOUPE_ASSIGN_OR_RETURN(level.down_attention, HasAttention(down[i]));
    LOUPE_ASSIGN_OR_RETURN(level.up_attention, HasAttention(up[n - 1 - i]));
    shape.levels.push_back(level);
  }
  return shape;
}

absl::StatusOr<NetworkWork> CountWork(worker::io::BaseKind kind, const nlohmann::json& config, int64_t text_tokens,
                                      int64_t asked_side) {
  const auto number = [&](const char* key, double or_else) {
    return config.contains(key) && !config[key].is_null() ? config[key].get<double>() : or_else;
  };
  const double in = number("in_channels", 4);
  // Only DiT's config may leave it out.
  const double trained_side =
      kind == worker::io::BaseKind::kDiT ? number("sample_size", 32) : config.at("sample_size").get<double>();
  const double side = asked_side > 0 ? static_cast<double>(asked_side) : trained_side;
  switch (kind) {
    case worker::io::BaseKind::kUNet: {
      LOUPE_ASSIGN_OR_RETURN(const UNetShape shape, ReadUNetShape(config, text_tokens, side));
      return UNetWork(shape);
    }
    case worker::io::BaseKind::kDiT:
      return DiTWork({.in_channels = in,
                      .out_channels = number("out_channels", in),
                      .side = side,
                      .patch = number("patch_size", 2),
                      .width = number("num_attention_heads", 16) * number("attention_head_dim", 72),
                      .layers = number("num_layers", 28),
                      .classes = number("num_embeds_ada_norm", 1000)});
    case worker::io::BaseKind::kDiffuSSM:
      return DiffuSSMWork({.in_channels = in,
                           .out_channels = number("out_channels", 2 * in),
                           .side = side,
                           .hourglass = number("hourglass", 2),
                           .width = config.at("hidden_size").get<double>(),
                           .layers = config.at("num_layers").get<double>(),
                           .states = number("state_size", 64),
                           .classes = number("num_classes", 1),
                           .gated = config.value("modulation", "shift-scale-gate") == "shift-scale-gate"});
  }
  return absl::InternalError("a kind of base without a count");
}

struct CountedBase {
  worker::io::BaseKind kind;
  NetworkWork work;
};

// Text tokens of a base; Stable Diffusion's 77 where its tokenizer does not say.
int64_t TextTokens(const std::string& base) {
  const absl::StatusOr<std::string> text = ReadFile(base + "/tokenizer/tokenizer_config.json");
  if (!text.ok()) return 77;
  const nlohmann::json config = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object() || !config.contains("model_max_length") || !config["model_max_length"].is_number_integer())
    return 77;
  return std::clamp<int64_t>(config["model_max_length"].get<int64_t>(), 1, 4096);
}

// Pixels of a picture per place of a latent, along each side: every level of the autoencoder but the last halves it.
absl::StatusOr<int64_t> PixelsPerPlace(const std::string& base) {
  const std::string path = base + "/vae/config.json";
  LOUPE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const nlohmann::json config = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto levels = config.is_object() ? config.find("block_out_channels") : config.end();
  if (levels == config.end() || !levels->is_array() || levels->empty() || levels->size() > 16) {
    return absl::InvalidArgumentError(fmt::format("{}: expected 'block_out_channels', a list", path));
  }
  return int64_t{1} << (levels->size() - 1);
}

absl::StatusOr<CountedBase> CountBase(const std::string& base, int64_t picture_size) {
  LOUPE_ASSIGN_OR_RETURN(const worker::io::BaseKind kind, worker::io::BaseKindOf(base));
  int64_t side = 0;
  if (picture_size > 0) {
    LOUPE_ASSIGN_OR_RETURN(const int64_t pixels, PixelsPerPlace(base));
    side = picture_size / pixels;
  }
  const std::string path = fmt::format("{}/{}/config.json", base, worker::io::DenoiserFolder(kind));
  LOUPE_ASSIGN_OR_RETURN(const std::string config, ReadFile(path));
  absl::StatusOr<NetworkWork> work = DenoiserWork(kind, config, TextTokens(base), side);
  if (!work.ok()) return Annotate(work.status(), path);
  return CountedBase{kind, *std::move(work)};
}

}  // namespace

double NetworkPasses(const settings::Settings& settings) {
  double images = static_cast<double>(settings.Integer("budget.batch"));
  if (settings.Has("task.class_images") && settings.Integer("task.class_images") > 0) images *= 2;
  // A file's values are scored as they are.
  const bool trains = settings.Text("method.kind") != "file";
  const double training = trains ? static_cast<double>(settings.Integer("budget.steps")) * images * 2 : 0;
  const double passes = settings.Real("sample.guidance") == 1 ? 1 : 2;
  return training + static_cast<double>(settings.Integer("budget.samples")) *
                        static_cast<double>(settings.Integer("sample.steps")) * passes;
}

double MeanNetworkPasses(const coordinator::plan::Plan& plan) {
  double passes = 0;
  int64_t sampled = 0;
  const int64_t stride = std::max<int64_t>(1, plan.cell_count() / kCellsSampled);
  for (int64_t cell = 0; cell < plan.cell_count(); cell += stride, ++sampled) {
    passes += NetworkPasses(plan.CellSettings(cell));
  }
  return passes / static_cast<double>(sampled);
}

absl::StatusOr<NetworkWork> DenoiserWork(worker::io::BaseKind kind, std::string_view config_json, int64_t text_tokens,
                                         int64_t side) {
  try {
    return CountWork(kind, nlohmann::json::parse(config_json), text_tokens, side);
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(
        fmt::format("cannot read the {}'s size from its config: {}", worker::io::BaseKindName(kind), error.what()));
  }
}

absl::StatusOr<TrialCost> EstimateTrialCost(const coordinator::plan::Plan& plan, double gflops_per_worker) {
  std::map<std::pair<std::string, int64_t>, CountedBase> counted_bases;  // by folder and side of the pictures
  double flops = 0;
  int64_t sampled = 0;
  const int64_t stride = std::max<int64_t>(1, plan.cell_count() / kCellsSampled);
  for (int64_t cell = 0; cell < plan.cell_count(); cell += stride, ++sampled) {
    const settings::Settings settings = plan.CellSettings(cell);
    const std::string& base = settings.Text("base");
    const int64_t picture_size = settings.Has("task.picture_size") ? settings.Integer("task.picture_size") : 0;
    auto counted = counted_bases.find({base, picture_size});
    if (counted == counted_bases.end()) {
      LOUPE_ASSIGN_OR_RETURN(CountedBase found, CountBase(base, picture_size));
      counted = counted_bases.emplace(std::pair(base, picture_size), std::move(found)).first;
    }
    flops += NetworkPasses(settings) * TotalFlops(counted->second.work);
  }
  flops /= static_cast<double>(sampled);
  const auto& [kind, work] = counted_bases.begin()->second;
  std::string parts;
  for (const LayerWork& layer : work) {
    const double share = 100 * layer.multiply_adds / TotalMultiplyAdds(work);
    if (share >= 0.5) parts += fmt::format("{}{} {:.0f} %", parts.empty() ? "" : ", ", layer.kind, share);
  }
  return TrialCost{.seconds = flops / (gflops_per_worker * 1e9),
                   .basis = fmt::format(
                       "{:.3g} TFLOP per trial ({:.3g} GFLOP per pass of the {}: {}) at an assumed {:.3g} GFLOP/s per "
                       "worker; without loading, scoring and class images. Its {:.3g} M weights take {:.2g} GB of "
                       "a worker's memory in float32, to which a training step adds what it keeps of each picture",
                       flops / 1e12, TotalFlops(work) / 1e9, worker::io::BaseKindName(kind), parts, gflops_per_worker,
                       TotalWeights(work) / 1e6, 4 * TotalWeights(work) / 1e9)};
}

}  // namespace loupe::cli
