#include "worker/sampling/picture_sampler.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "fmt/format.h"
#include "worker/nn/shared_prefix.h"
#include "worker/runtime/autocast_scope.h"
#include "worker/runtime/finite.h"

namespace loupe::worker::sampling {
namespace {

// One batch from noise to latents. `rows` is what the network is conditioned on: n rows, or with guidance 2n, the empty
// caption's first.
//
// Each call's verdict stays on the device until the end: a look at every step would wait for the device there.
torch::Tensor SampleBatch(base::BaseModel& base, const torch::Tensor& rows, const torch::Tensor& noise,
                          const SampleOptions& options, const std::function<void()>& after_call) {
  ConditionedDenoiser denoiser(*base.denoiser, rows, options.guidance != 1);
  std::vector<torch::Tensor> finite;
  const NoisePredictor network = [&](const torch::Tensor& latents, int64_t timestep) {
    const torch::Tensor output = [&] {
      const bool half = options.precision != torch::kFloat32;
      const runtime::AutocastScope autocast(
          {latents.device().type(), half, half ? options.precision : torch::kBFloat16});
      return denoiser(latents, timestep).to(latents.scalar_type());
    }();
    finite.push_back(output.isfinite().all());
    if (after_call) after_call();
    return base.denoiser->NoisePart(output);
  };
  const auto sampler = MakeSampler(options.sampler, base.schedule, options.steps);
  const torch::Tensor weight = base.denoiser->network().parameters().front();
  torch::Tensor latents =
      RunSampler(*sampler, noise.to(weight.device(), weight.scalar_type()),
                 options.guidance == 1 ? network : WithGuidance(network, options.guidance, options.guided_channels));
  const torch::Tensor good = torch::stack(finite).cpu();
  for (int64_t call = 0; call < good.size(0); ++call) {
    if (good[call].item<bool>()) continue;
    throw runtime::NotFinite(fmt::format("{}: what the {} predicts in step {} of {} of sampling is not finite",
                                         base.folder, base.denoiser->name(), call + 1, options.steps));
  }
  runtime::CheckFinite(
      latents, fmt::format("{}: the latents that sampling ends in (guidance {})", base.folder, options.guidance));
  return latents;
}

}  // namespace

ConditionedDenoiser::ConditionedDenoiser(base::Denoiser& denoiser, torch::Tensor rows, bool guided)
    : denoiser_(denoiser),
      rows_(std::move(rows)),
      halves_(guided && rows_.is_cpu() && denoiser.LooksAtConditionLate()) {}

torch::Tensor ConditionedDenoiser::operator()(const torch::Tensor& latents, int64_t timestep) {
  const auto steps = torch::tensor({timestep}, latents.options().dtype(torch::kInt64));
  if (!halves_) return denoiser_.Forward(latents, steps, rows_, &of_all_);
  const int64_t n = rows_.size(0) / 2;
  const torch::Tensor x = latents.narrow(0, 0, n);
  nn::SharedPrefix prefix;
  prefix.Begin(x);
  prefix.Begin(steps);
  const nn::SharedPrefixScope scope(&prefix);
  const torch::Tensor first = denoiser_.Forward(x, steps, rows_.narrow(0, 0, n), &of_all_);
  return torch::cat({first, denoiser_.Forward(x, steps, rows_.narrow(0, n, n), &of_second_)});
}

std::vector<int64_t> NoiseShape(const base::BaseModel& base, int64_t count) {
  std::vector<int64_t> shape = base.denoiser->Shape();
  shape.insert(shape.begin(), count);
  return shape;
}

torch::Tensor SampleLatents(base::BaseModel& base, const std::vector<std::string>& prompts, const torch::Tensor& noise,
                            const SampleOptions& options, const SampleProgress& progress) {
  torch::NoGradGuard no_grad;
  const int64_t n = noise.size(0);
  TORCH_CHECK(prompts.size() == 1 || static_cast<int64_t>(prompts.size()) == n, "one prompt, or one per picture");
  const torch::Tensor context = base::RowsOf(base.EncodeText(prompts).to(base.denoiser->device()), n);
  const torch::Tensor empty = base.EncodeText({""}).to(base.denoiser->device());
  const int64_t batches = (n + options.batch - 1) / options.batch;
  int64_t done = 0;
  const auto after_call = [&] {
    if (progress) progress(++done, batches * options.steps);
  };
  std::vector<torch::Tensor> latents;
  for (int64_t first = 0; first < n; first += options.batch) {
    const torch::Tensor part = noise.narrow(0, first, std::min(options.batch, n - first));
    const torch::Tensor conditions = context.narrow(0, first, part.size(0));
    const torch::Tensor rows =
        options.guidance == 1 ? conditions : torch::cat({empty.expand_as(conditions), conditions});
    latents.push_back(SampleBatch(base, rows, part, options, after_call));
  }
  return torch::cat(latents);
}

std::vector<io::Image> SamplePictures(base::BaseModel& base, const std::vector<std::string>& prompts,
                                      const torch::Tensor& noise, const SampleOptions& options,
                                      const SampleProgress& progress) {
  const torch::Tensor latents = SampleLatents(base, prompts, noise, options, progress);
  std::vector<io::Image> images;
  for (const torch::Tensor& part : latents.split(options.batch)) {
    for (io::Image& image : base::ImagesFromPictures(base.DecodeLatents(part))) images.push_back(std::move(image));
  }
  return images;
}

io::Image MakeSheet(const std::vector<io::Image>& images) {
  return MakeGrid(images, static_cast<int>(std::ceil(std::sqrt(images.size()))));
}

io::Image MakeGrid(const std::vector<io::Image>& images, int columns) {
  constexpr int kGap = 2;
  const int count = static_cast<int>(images.size());
  const int rows = (count + columns - 1) / columns;
  const int w = images.front().width, h = images.front().height;
  io::Image sheet{columns * (w + kGap) - kGap, rows * (h + kGap) - kGap, {}};
  sheet.rgb.assign(size_t{3} * static_cast<size_t>(sheet.width) * static_cast<size_t>(sheet.height), 255);
  for (int i = 0; i < count; ++i) {
    const int left = (i % columns) * (w + kGap), top = (i / columns) * (h + kGap);
    for (int y = 0; y < h; ++y) {
      const auto row = images[static_cast<size_t>(i)].rgb.begin() + std::ptrdiff_t{3} * y * w;
      std::copy(row, row + std::ptrdiff_t{3} * w,
                sheet.rgb.begin() + std::ptrdiff_t{3} * ((top + y) * sheet.width + left));
    }
  }
  return sheet;
}

}  // namespace loupe::worker::sampling
