#include "worker/methods/folded_weights.h"

#include <torch/utils.h>

#include <optional>
#include <utility>

#include "common/positions.h"
#include "fmt/format.h"

namespace loupe::worker::methods {
namespace {

using Weights = std::map<std::string, torch::Tensor>;

// x + s·A(x) = M x + c, float64.
struct AffineMap {
  torch::Tensor matrix;
  torch::Tensor offset;
};

constexpr char kPairs[] =
    "SA_in→SA_in, SA_out→CA_in, CA_c→CA_c, CA_out→FFN_in, FFN_out→Trans_out and Trans_out→Trans_out, with "
    "activation identity";

absl::Status NotLinear(const settings::Settings& settings, std::string_view why) {
  return absl::InvalidArgumentError(fmt::format(
      "an adapter {} → {} with activation {} cannot be folded into the base's weights: {}. What can be folded: {}. Export it "
      "beside its base instead (--as bundle)",
      settings.Text("method.input"), settings.Text("method.output"), settings.Text("method.activation"), why, kPairs));
}

class Folding {
 public:
  Folding(const files::AdapterFile& adapter, Weights& weights) : adapter_(adapter), weights_(weights) {}

  absl::Status Run() {
    const settings::Settings& settings = adapter_.settings;
    if (settings.Text("method.kind") != "adapter") {
      return absl::InvalidArgumentError(
          fmt::format("method.kind '{}' has no form of base weights", settings.Text("method.kind")));
    }
    if (settings.Text("method.activation") != "identity") return NotLinear(settings, "it is not linear");
    const auto input = ParsePosition(settings.Text("method.input")),
               output = ParsePosition(settings.Text("method.output"));
    if (!Layer(*input, *output).has_value()) {
      return NotLinear(settings, "no single layer of the base lies between what it reads and what it writes");
    }
    const std::string ending = ".adapter.down.weight";
    for (const auto& [name, value] : adapter_.arrays) {
      if (!name.ends_with(ending)) continue;
      const absl::Status status = FoldBlock(name.substr(0, name.size() - ending.size()), *input, *output);
      if (!status.ok()) return status;
    }
    for (auto& [name, value] : changed_) weights_[name] = value;
    return absl::OkStatus();
  }

 private:
  enum class Where { kProjIn, kSelfOut, kContext, kCrossOut, kFeedForwardOut, kProjOut };

  static std::optional<Where> Layer(Position input, Position output) {
    if (input == Position::kSaIn && output == Position::kSaIn) return Where::kProjIn;
    if (input == Position::kSaOut && output == Position::kCaIn) return Where::kSelfOut;
    if (input == Position::kCaC && output == Position::kCaC) return Where::kContext;
    if (input == Position::kCaOut && output == Position::kFfnIn) return Where::kCrossOut;
    if (input == Position::kFfnOut && output == Position::kTransOut) return Where::kFeedForwardOut;
    if (input == Position::kTransOut && output == Position::kTransOut) return Where::kProjOut;
    return std::nullopt;
  }

  absl::Status FoldBlock(const std::string& block, Position input, Position output) {
    const Where where = *Layer(input, output);
    // "….transformer_blocks.0" of "…"
    const size_t dot = block.rfind(".transformer_blocks.");
    const bool is_first = block.ends_with(".transformer_blocks.0");
    if (dot == std::string::npos) return absl::InvalidArgumentError(fmt::format("'{}' is no transformer block", block));
    const std::string transformer = block.substr(0, dot);
    const bool has_more = weights_.contains(transformer + ".transformer_blocks.1.norm1.weight");
    if ((where == Where::kProjIn || where == Where::kProjOut) && (!is_first || has_more)) {
      return NotLinear(adapter_.settings, fmt::format("{} has several blocks", transformer));
    }
    try {
      const AffineMap map = MapAt(block);
      switch (where) {
        case Where::kProjIn:
          After(transformer + ".proj_in", map);
          break;
        case Where::kSelfOut:
          After(block + ".attn1.to_out.0", map);
          break;
        case Where::kContext:
          Context(block + ".attn2", map);
          break;
        case Where::kCrossOut:
          After(block + ".attn2.to_out.0", map);
          break;
        case Where::kFeedForwardOut:
          After(block + ".ff.net.2", map);
          break;
        case Where::kProjOut:
          Before(transformer + ".proj_out", map);
          break;
      }
    } catch (const c10::Error& error) {
      return absl::InvalidArgumentError(
          fmt::format("{}: the adapter does not fit the base: {}", block, error.what_without_backtrace()));
    }
    return absl::OkStatus();
  }

  torch::Tensor Own(const std::string& block, const char* name) const {
    const auto found = adapter_.arrays.find(block + ".adapter." + name);
    TORCH_CHECK(found != adapter_.arrays.end(), "the adapter has no array '", block, ".adapter.", name, "'");
    return found->second.to(torch::kFloat64);
  }

  AffineMap MapAt(const std::string& block) const {
    const double scale = adapter_.settings.Real("method.scale");
    const auto down = Own(block, "down.weight"), up = Own(block, "up.weight");
    return {torch::eye(up.size(0), torch::kFloat64) + scale * up.mm(down),
            scale * (up.mv(Own(block, "down.bias")) + Own(block, "up.bias"))};
  }

  // As the base has it, or as changed by this folding.
  torch::Tensor Base(const std::string& name) const {
    const auto found = weights_.find(name);
    TORCH_CHECK(found != weights_.end(), "the base has no weight '", name, "'");
    return found->second.to(torch::kFloat64);
  }

  void Change(const std::string& name, const torch::Tensor& value) {
    const torch::Tensor& before = weights_.at(name);
    changed_[name] = value.view(before.sizes()).to(before.scalar_type());
  }

  // A 1×1 convolution is a linear layer over pixels.
  torch::Tensor Matrix(const std::string& layer) const { return Base(layer + ".weight").flatten(1); }

  void After(const std::string& layer, const AffineMap& map) {
    Change(layer + ".weight", map.matrix.mm(Matrix(layer)));
    Change(layer + ".bias", map.matrix.mv(Base(layer + ".bias")) + map.offset);
  }
  void Before(const std::string& layer, const AffineMap& map) {
    Change(layer + ".weight", Matrix(layer).mm(map.matrix));
    Change(layer + ".bias", Base(layer + ".bias") + Matrix(layer).mv(map.offset));
  }
  void Context(const std::string& attention, const AffineMap& map) {
    const auto to_values = Matrix(attention + ".to_v");
    Change(attention + ".to_k.weight", Matrix(attention + ".to_k").mm(map.matrix));
    Change(attention + ".to_v.weight", to_values.mm(map.matrix));
    const std::string out = attention + ".to_out.0";
    Change(out + ".bias", Base(out + ".bias") + Matrix(out).mv(to_values.mv(map.offset)));
  }

  const files::AdapterFile& adapter_;
  Weights& weights_;
  Weights changed_;
};

}  // namespace

absl::Status FoldAdapter(const files::AdapterFile& adapter, std::map<std::string, torch::Tensor>& weights) {
  torch::NoGradGuard no_grad;
  return Folding(adapter, weights).Run();
}

}  // namespace loupe::worker::methods
