#include "worker/models/inception.h"

#include <torch/utils.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>

#include "common/sha256.h"
#include "common/status_macros.h"
#include "fmt/format.h"
#include "worker/models/frozen_norm.h"
#include "worker/models/picture_preprocessing.h"
#include "worker/models/weights.h"

namespace loupe::worker::models {
namespace {

constexpr int64_t kInceptionSide = 299;

torch::Tensor UnsetParameter(at::IntArrayRef shape) { return torch::empty(shape, torch::kFloat32); }

struct ConvShape {
  int64_t in, out, height, width;
  int64_t stride = 1, pad_height = 0, pad_width = 0;
};

struct PlainConvImpl : torch::nn::Module {
  explicit PlainConvImpl(const ConvShape& shape) : shape_(shape) {
    register_parameter("weight", UnsetParameter({shape.out, shape.in, shape.height, shape.width}), false);
  }
  torch::Tensor forward(const torch::Tensor& x) {
    const std::array<int64_t, 2> strides = {shape_.stride, shape_.stride},
                                 padding = {shape_.pad_height, shape_.pad_width};
    return torch::conv2d(x, named_parameters()["weight"], /*bias=*/{}, at::IntArrayRef(strides),
                         at::IntArrayRef(padding));
  }
  ConvShape shape_;
};

// relu(bn(conv(x))).
struct ConvUnitImpl : torch::nn::Module {
  explicit ConvUnitImpl(const ConvShape& shape)
      : conv_(register_module("conv", std::make_shared<PlainConvImpl>(shape))),
        norm_(register_module("bn", std::make_shared<FrozenNormImpl>(shape.out))) {}
  torch::Tensor forward(const torch::Tensor& x) { return torch::relu(norm_->forward(conv_->forward(x))); }

  std::shared_ptr<PlainConvImpl> conv_;
  std::shared_ptr<FrozenNormImpl> norm_;
};

// A block of named units, run by its kind.
struct InceptionBlockImpl : torch::nn::Module {
  // 'kernel': {3, 3} means padding 1 unless `stride` is 2; {1, 7} pads the long side.
  void Add(const std::string& name, int64_t in, int64_t out, int64_t height, int64_t width, int64_t stride = 1) {
    const int64_t pad_height = stride == 2 ? 0 : height / 2, pad_width = stride == 2 ? 0 : width / 2;
    register_module(name,
                    std::make_shared<ConvUnitImpl>(ConvShape{in, out, height, width, stride, pad_height, pad_width}));
  }
  // The units of these names, one after another.
  torch::Tensor Chain(torch::Tensor x, std::initializer_list<const char*> names) {
    const auto children = named_children();
    for (const char* name : names) x = children[name]->as<ConvUnitImpl>()->forward(x);
    return x;
  }
  virtual torch::Tensor forward(const torch::Tensor& x) = 0;
};

// The mean over the 3×3 neighbours that are inside the picture (torchvision counts the border as zeros).
torch::Tensor AveragePool(const torch::Tensor& x) {
  return torch::avg_pool2d(x, {3, 3}, {1, 1}, {1, 1}, /*ceil_mode=*/false, /*count_include_pad=*/false);
}
torch::Tensor Shrink(const torch::Tensor& x) { return torch::max_pool2d(x, {3, 3}, {2, 2}); }

struct InceptionAImpl : InceptionBlockImpl {
  InceptionAImpl(int64_t in, int64_t pool) {
    Add("branch1x1", in, 64, 1, 1);
    Add("branch5x5_1", in, 48, 1, 1);
    Add("branch5x5_2", 48, 64, 5, 5);
    Add("branch3x3dbl_1", in, 64, 1, 1);
    Add("branch3x3dbl_2", 64, 96, 3, 3);
    Add("branch3x3dbl_3", 96, 96, 3, 3);
    Add("branch_pool", in, pool, 1, 1);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    return torch::cat(
        {Chain(x, {"branch1x1"}), Chain(x, {"branch5x5_1", "branch5x5_2"}),
         Chain(x, {"branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"}), Chain(AveragePool(x), {"branch_pool"})},
        1);
  }
};

struct InceptionBImpl : InceptionBlockImpl {
  explicit InceptionBImpl(int64_t in) {
    Add("branch3x3", in, 384, 3, 3, 2);
    Add("branch3x3dbl_1", in, 64, 1, 1);
    Add("branch3x3dbl_2", 64, 96, 3, 3);
    Add("branch3x3dbl_3", 96, 96, 3, 3, 2);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    return torch::cat(
        {Chain(x, {"branch3x3"}), Chain(x, {"branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"}), Shrink(x)}, 1);
  }
};

struct InceptionCImpl : InceptionBlockImpl {
  InceptionCImpl(int64_t in, int64_t inner) {
    Add("branch1x1", in, 192, 1, 1);
    Add("branch7x7_1", in, inner, 1, 1);
    Add("branch7x7_2", inner, inner, 1, 7);
    Add("branch7x7_3", inner, 192, 7, 1);
    Add("branch7x7dbl_1", in, inner, 1, 1);
    Add("branch7x7dbl_2", inner, inner, 7, 1);
    Add("branch7x7dbl_3", inner, inner, 1, 7);
    Add("branch7x7dbl_4", inner, inner, 7, 1);
    Add("branch7x7dbl_5", inner, 192, 1, 7);
    Add("branch_pool", in, 192, 1, 1);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    return torch::cat(
        {Chain(x, {"branch1x1"}), Chain(x, {"branch7x7_1", "branch7x7_2", "branch7x7_3"}),
         Chain(x, {"branch7x7dbl_1", "branch7x7dbl_2", "branch7x7dbl_3", "branch7x7dbl_4", "branch7x7dbl_5"}),
         Chain(AveragePool(x), {"branch_pool"})},
        1);
  }
};

struct InceptionDImpl : InceptionBlockImpl {
  explicit InceptionDImpl(int64_t in) {
    Add("branch3x3_1", in, 192, 1, 1);
    Add("branch3x3_2", 192, 320, 3, 3, 2);
    Add("branch7x7x3_1", in, 192, 1, 1);
    Add("branch7x7x3_2", 192, 192, 1, 7);
    Add("branch7x7x3_3", 192, 192, 7, 1);
    Add("branch7x7x3_4", 192, 192, 3, 3, 2);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    return torch::cat({Chain(x, {"branch3x3_1", "branch3x3_2"}),
                       Chain(x, {"branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4"}), Shrink(x)},
                      1);
  }
};

struct InceptionEImpl : InceptionBlockImpl {
  // The graph's last block takes the largest neighbour where the one before it takes the mean.
  InceptionEImpl(int64_t in, bool largest) : largest_(largest) {
    Add("branch1x1", in, 320, 1, 1);
    Add("branch3x3_1", in, 384, 1, 1);
    Add("branch3x3_2a", 384, 384, 1, 3);
    Add("branch3x3_2b", 384, 384, 3, 1);
    Add("branch3x3dbl_1", in, 448, 1, 1);
    Add("branch3x3dbl_2", 448, 384, 3, 3);
    Add("branch3x3dbl_3a", 384, 384, 1, 3);
    Add("branch3x3dbl_3b", 384, 384, 3, 1);
    Add("branch_pool", in, 192, 1, 1);
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto single = Chain(x, {"branch3x3_1"}), twice = Chain(x, {"branch3x3dbl_1", "branch3x3dbl_2"});
    const auto pooled = largest_ ? torch::max_pool2d(x, {3, 3}, {1, 1}, {1, 1}) : AveragePool(x);
    return torch::cat(
        {Chain(x, {"branch1x1"}), Chain(single, {"branch3x3_2a"}), Chain(single, {"branch3x3_2b"}),
         Chain(twice, {"branch3x3dbl_3a"}), Chain(twice, {"branch3x3dbl_3b"}), Chain(pooled, {"branch_pool"})},
        1);
  }
  const bool largest_;
};

// Pillow's bicubic for pictures of floats (mode F): the same widened kernel as for bytes (a = −1/2), in float64 sums,
// each pass rounded to float32.
torch::Tensor BicubicWeights(int64_t from, int64_t to) {
  const double scale = static_cast<double>(from) / static_cast<double>(to), filter_scale = std::max(scale, 1.0);
  const double support = 2.0 * filter_scale;
  auto weights = torch::zeros({to, from}, torch::kFloat64);
  auto cells = weights.accessor<double, 2>();
  const auto cubic = [](double x) {
    constexpr double kA = -0.5;
    x = std::abs(x);
    if (x < 1) return ((kA + 2) * x - (kA + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * kA;
    return 0.0;
  };
  for (int64_t i = 0; i < to; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const auto first = std::max<int64_t>(0, static_cast<int64_t>(std::floor(centre - support + 0.5)));
    const auto last = std::min<int64_t>(from, static_cast<int64_t>(std::floor(centre + support + 0.5)));
    double sum = 0;
    for (int64_t j = first; j < last; ++j) {
      cells[i][j] = cubic((static_cast<double>(j) - centre + 0.5) / filter_scale);
      sum += cells[i][j];
    }
    for (int64_t j = first; j < last; ++j) cells[i][j] /= sum;
  }
  return weights;
}

}  // namespace

InceptionImpl::InceptionImpl() {
  const auto unit = [&](const char* name, const ConvShape& shape) {
    register_module(name, std::make_shared<ConvUnitImpl>(shape));
  };
  unit("Conv2d_1a_3x3", {3, 32, 3, 3, 2});
  unit("Conv2d_2a_3x3", {32, 32, 3, 3});
  unit("Conv2d_2b_3x3", {32, 64, 3, 3, 1, 1, 1});
  unit("Conv2d_3b_1x1", {64, 80, 1, 1});
  unit("Conv2d_4a_3x3", {80, 192, 3, 3});
  register_module("Mixed_5b", std::make_shared<InceptionAImpl>(192, 32));
  register_module("Mixed_5c", std::make_shared<InceptionAImpl>(256, 64));
  register_module("Mixed_5d", std::make_shared<InceptionAImpl>(288, 64));
  register_module("Mixed_6a", std::make_shared<InceptionBImpl>(288));
  register_module("Mixed_6b", std::make_shared<InceptionCImpl>(768, 128));
  register_module("Mixed_6c", std::make_shared<InceptionCImpl>(768, 160));
  register_module("Mixed_6d", std::make_shared<InceptionCImpl>(768, 160));
  register_module("Mixed_6e", std::make_shared<InceptionCImpl>(768, 192));
  register_module("Mixed_7a", std::make_shared<InceptionDImpl>(768));
  register_module("Mixed_7b", std::make_shared<InceptionEImpl>(1280, /*largest=*/false));
  register_module("Mixed_7c", std::make_shared<InceptionEImpl>(2048, /*largest=*/true));
}

torch::Tensor InceptionImpl::forward(torch::Tensor x) {
  for (const auto& item : named_children()) {
    if (auto* unit = item.value()->as<ConvUnitImpl>()) {
      x = unit->forward(x);
      if (item.key() == "Conv2d_2b_3x3" || item.key() == "Conv2d_4a_3x3") x = Shrink(x);
    } else {
      x = dynamic_cast<InceptionBlockImpl&>(*item.value()).forward(x);
    }
  }
  return x.mean({2, 3});
}

torch::Tensor InceptionPixels(const io::Image& image, InceptionResize resize) {
  const auto bytes = torch::tensor(at::ArrayRef<uint8_t>(image.rgb))
                         .view({image.height, image.width, 3})
                         .permute({2, 0, 1})
                         .to(torch::kFloat32);
  if (resize == InceptionResize::kPytorchFid) {
    return torch::upsample_bilinear2d((bytes / 255).unsqueeze(0), {kInceptionSide, kInceptionSide},
                                      /*align_corners=*/false) *
               2 -
           1;
  }
  auto pixels = bytes;
  const auto resize_rows = [&] {
    if (image.width == kInceptionSide) return;
    pixels = pixels.to(torch::kFloat64).matmul(BicubicWeights(image.width, kInceptionSide).t()).to(torch::kFloat32);
  };
  const auto resize_columns = [&] {
    if (image.height == kInceptionSide) return;
    pixels = BicubicWeights(image.height, kInceptionSide).matmul(pixels.to(torch::kFloat64)).to(torch::kFloat32);
  };
  if (io::ResizesColumnsFirst(image, kInceptionSide, kInceptionSide)) {
    resize_columns();
    resize_rows();
  } else {
    resize_rows();
    resize_columns();
  }
  // The kernel overshoots: clean-fid cuts to 0 … 255, which its network takes.
  return ((pixels.clamp(0, 255) - 128) / 128).unsqueeze(0);
}

torch::Tensor InceptionScorer::EmbedImages(const std::vector<io::Image>& images) {
  torch::NoGradGuard no_grad;
  const auto options = network->parameters().front().options();
  return EmbedInParts(images, kPart, path + ": what the Inception network gives", [&](std::span<const io::Image> part) {
    std::vector<torch::Tensor> pixels;
    for (const io::Image& image : part) pixels.push_back(InceptionPixels(image, resize));
    return network(torch::cat(pixels).to(options));
  });
}

namespace {

// torch.hub's convention: a published file's name ends in the first digits of its SHA-256 (…-6726825d.pth).
absl::Status CheckDigestInName(const std::string& path) {
  const size_t end = path.rfind('.'), dash = path.rfind('-', end);
  if (end == std::string::npos || dash == std::string::npos) return absl::OkStatus();
  const std::string named = path.substr(dash + 1, end - dash - 1);
  constexpr size_t kLeastDigits = 8;
  if (named.size() < kLeastDigits || named.find_first_not_of("0123456789abcdef") != std::string::npos) {
    return absl::OkStatus();
  }
  LOUPE_ASSIGN_OR_RETURN(const std::string found, Sha256HexOfFile(path));
  if (found.starts_with(named)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{}: its SHA-256 begins with {}, expected {} as its name says: it is damaged or "
                  "another file; get it again",
                  path, found.substr(0, named.size()), named));
}

}  // namespace

absl::StatusOr<InceptionScorer> LoadInceptionScorer(const std::string& path, InceptionResize resize,
                                                    const LoadOptions& options) {
  InceptionScorer scorer{path, Inception(), resize};
  WeightOptions rules{.dtype = options.dtype, .device = options.device};
  // The classifier on top, and a counter of training.
  rules.passed_over = {"num_batches_tracked", "fc.weight", "fc.bias"};
  rules.network = "the Inception network of pytorch-fid's weights";
  LOUPE_RETURN_IF_ERROR(CheckDigestInName(path));
  LOUPE_RETURN_IF_ERROR(LoadWeightFile(*scorer.network, path, rules));
  scorer.network->eval();
  return scorer;
}

}  // namespace loupe::worker::models
