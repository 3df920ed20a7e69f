#include "worker/sampling/picture_sampler.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "fmt/format.h"
#include "worker/nn/shared_prefix.h"
#include "worker/runtime/autocast_scope.h"
#include "worker/runtime/finite.h"
#include "worker/runtime/recorded_call.h"

namespace loupe::worker::sampling {
namespace {

// One batch from noise to latents, of `slots` trials one after another. `rows` is what the network is conditioned on: n
// rows, or with guidance 2n, the empty caption's first.
//
// Each call's verdict stays on the device until the end: a look at every step would wait for the device there.
torch::Tensor SampleBatch(base::BaseModel& base, const torch::Tensor& rows, const torch::Tensor& noise,
                          const SampleOptions& options, int64_t slots, const std::function<void()>& after_call) {
  ConditionedDenoiser denoiser(*base.denoiser, rows, options.guidance != 1, slots);
  std::vector<torch::Tensor> finite;
  const auto pass = [&](const runtime::RecordedCall::Tensors& in) -> runtime::RecordedCall::Tensors {
    const torch::Tensor& latents = in[0];
    const bool half = options.precision != torch::kFloat32;
    const runtime::AutocastScope autocast({latents.device().type(), half, half ? options.precision : torch::kBFloat16});
    return {denoiser.At(latents, in[1]).to(latents.scalar_type())};
  };
  runtime::RecordedCall recorded(base.recorder.get(), "a sampling step");
  const NoisePredictor network = [&](const torch::Tensor& latents, int64_t timestep) {
    const torch::Tensor output = recorded("", {latents, denoiser.StepsOf(latents, timestep)}, {}, pass).front();
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

ConditionedDenoiser::ConditionedDenoiser(base::Denoiser& denoiser, const torch::Tensor& rows, bool guided,
                                         int64_t slots, Halves halves)
    : denoiser_(denoiser),
      guided_(guided),
      slots_(slots),
      late_(guided && denoiser.LooksAtConditionLate()),
      passes_(late_ && halves == Halves::kPasses),
      rows_(passes_ ? rows : Exchanged(rows, 2, slots)) {}

// [outer, inner, …] rows as [inner, outer, …]: by half and slot, or by slot and half.
torch::Tensor ConditionedDenoiser::Exchanged(const torch::Tensor& rows, int64_t outer, int64_t inner) const {
  if (!guided_ || slots_ == 1) return rows;
  return rows.unflatten(0, {outer, inner, rows.size(0) / (outer * inner)}).transpose(0, 1).flatten(0, 2);
}

torch::Tensor ConditionedDenoiser::StepsOf(const torch::Tensor& latents, int64_t timestep) const {
  // One for all rows; of a pack, each slot's rows have their own.
  const int64_t count = slots_ == 1 ? 1 : rows_.size(0) / (passes_ ? 2 : 1);
  return torch::full({count}, timestep, latents.options().dtype(torch::kInt64));
}

torch::Tensor ConditionedDenoiser::At(const torch::Tensor& latents, const torch::Tensor& steps) {
  if (!passes_) return OnePass(latents, steps);
  const int64_t n = rows_.size(0) / 2;
  const torch::Tensor x = latents.narrow(0, 0, n);
  nn::PassesWithTheSameRows prefix;
  prefix.Begin(x);
  prefix.Begin(steps);
  const nn::SharedPrefixScope scope(&prefix);
  const torch::Tensor first = denoiser_.Forward(x, steps, rows_.narrow(0, 0, n), &of_all_);
  return torch::cat({first, denoiser_.Forward(x, steps, rows_.narrow(0, n, n), &of_second_)});
}

torch::Tensor ConditionedDenoiser::OnePass(const torch::Tensor& latents, const torch::Tensor& steps) {
  const torch::Tensor x = Exchanged(latents, 2, slots_);
  std::optional<nn::RowsThatRepeat> repeated;
  if (late_) {
    // By slot and half; the first halves of all slots go together.
    nn::RowsThatRepeat::Blocks blocks{.calls = {{}}, .same_as = {}};
    for (int64_t slot = 0; slot < slots_; ++slot) {
      blocks.calls.front().push_back(2 * slot);
      blocks.same_as.insert(blocks.same_as.end(), 2, 2 * slot);
    }
    repeated.emplace(std::move(blocks));
    repeated->Begin(x);
    repeated->Begin(steps);
  }
  const nn::SharedPrefixScope scope(repeated ? &*repeated : nullptr);
  return Exchanged(denoiser_.Forward(x, steps, rows_, &of_all_), slots_, 2);
}

std::vector<int64_t> NoiseShape(const base::BaseModel& base, int64_t count) {
  std::vector<int64_t> shape = base.denoiser->Shape();
  shape.insert(shape.begin(), count);
  return shape;
}

std::vector<torch::Tensor> SampleSlots(base::BaseModel& base, const std::vector<SlotPictures>& slots,
                                       const SampleOptions& options, const SampleProgress& progress) {
  torch::NoGradGuard no_grad;
  const auto count = static_cast<int64_t>(slots.size());
  const int64_t n = slots.front().noise.size(0), prompts = static_cast<int64_t>(slots.front().prompts.size());
  TORCH_CHECK(prompts == 1 || prompts == n, "one prompt, or one per picture");
  std::vector<std::string> all_prompts;
  std::vector<torch::Tensor> all_noise;
  for (const SlotPictures& slot : slots) {
    TORCH_CHECK(static_cast<int64_t>(slot.prompts.size()) == prompts && slot.noise.size(0) == n,
                "slots that are sampled together have as many prompts and pictures");
    all_prompts.insert(all_prompts.end(), slot.prompts.begin(), slot.prompts.end());
    all_noise.push_back(slot.noise);
  }
  // [slots, n, …]
  const auto rows_of = [&](const std::vector<std::string>& texts) {
    const torch::Tensor rows = base.EncodeText(texts).to(base.denoiser->device());
    const auto by_slot = rows.unflatten(0, {count, rows.size(0) / count});
    std::vector<int64_t> shape = by_slot.sizes().vec();
    shape[1] = n;
    return by_slot.expand(shape);
  };
  const torch::Tensor context = rows_of(all_prompts);
  const torch::Tensor empty = rows_of(std::vector<std::string>(slots.size()));
  const torch::Tensor noise = torch::stack(all_noise);
  const int64_t batches = (n + options.batch - 1) / options.batch;
  int64_t done = 0;
  const auto after_call = [&] {
    if (progress) progress(++done, batches * options.steps);
  };
  std::vector<torch::Tensor> latents;
  for (int64_t first = 0; first < n; first += options.batch) {
    const int64_t these = std::min(options.batch, n - first);
    const auto part = [&](const torch::Tensor& x) { return x.narrow(1, first, these).flatten(0, 1); };
    const torch::Tensor rows = options.guidance == 1 ? part(context) : torch::cat({part(empty), part(context)});
    latents.push_back(SampleBatch(base, rows, part(noise), options, count, after_call).unflatten(0, {count, these}));
  }
  return torch::cat(latents, 1).unbind(0);
}

torch::Tensor SampleLatents(base::BaseModel& base, const std::vector<std::string>& prompts, const torch::Tensor& noise,
                            const SampleOptions& options, const SampleProgress& progress) {
  return SampleSlots(base, {{prompts, noise}}, options, progress).front();
}

std::vector<io::Image> DecodePictures(base::BaseModel& base, const torch::Tensor& latents,
                                      const SampleOptions& options) {
  torch::NoGradGuard no_grad;
  std::vector<io::Image> images;
  for (const torch::Tensor& part : latents.split(options.batch)) {
    for (io::Image& image : base::ImagesFromPictures(base.DecodeLatents(part))) images.push_back(std::move(image));
  }
  return images;
}

std::vector<io::Image> SamplePictures(base::BaseModel& base, const std::vector<std::string>& prompts,
                                      const torch::Tensor& noise, const SampleOptions& options,
                                      const SampleProgress& progress) {
  return DecodePictures(base, SampleLatents(base, prompts, noise, options, progress), options);
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
