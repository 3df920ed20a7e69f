#include "worker/train/trained_slot.h"

#include <torch/utils.h>

#include <algorithm>
#include <exception>
#include <limits>
#include <memory>
#include <utility>

#include "fmt/format.h"
#include "worker/runtime/device_copy.h"
#include "worker/runtime/finite.h"

namespace loupe::worker::train {
namespace {

TrainingState StateOf(const methods::Method& method, int64_t row, const TrainOptions& options) {
  std::vector<SlotParameter> parameters = ParametersOfSlot(method.parameters(), row);
  auto optimizer = std::make_unique<AdamW>(parameters, options.optimizer);
  return {std::move(parameters), std::move(optimizer), options.ema_decay};
}

void KeepShare(const runtime::RowShare& share, TrainedSlot::Drawn& drawn) {
  for (torch::Tensor* rows : drawn.Tensors()) *rows = rows->narrow(0, share.first, share.count);
  Batch& batch = drawn.batch;
  if (!batch.prompts.empty()) {
    const auto first = batch.prompts.begin() + static_cast<std::ptrdiff_t>(share.first);
    batch.prompts = {first, first + static_cast<std::ptrdiff_t>(share.count)};
  }
  drawn.rows = share;
}

}  // namespace

std::array<torch::Tensor*, 6> TrainedSlot::Drawn::Tensors() {
  return {&batch.latents, &batch.context, &batch.weights, &noise, &timesteps, &noisy};
}

bool TrainedSlot::Drawn::HasRowsOf(const Drawn& other) const {
  if (this == &other) return true;
  if (rows.first != other.rows.first || rows.count != other.rows.count ||
      !torch::equal(drawn_timesteps, other.drawn_timesteps) || !torch::equal(drawn_noise, other.drawn_noise)) {
    return false;
  }
  if (!batch.origin.empty() && batch.origin == other.batch.origin) return true;
  return torch::equal(batch.latents, other.batch.latents) && torch::equal(batch.context, other.batch.context);
}

TrainedSlot::TrainedSlot(const base::BaseModel& base, TrainSlot given, const methods::Method& method, int64_t row)
    : base_(base),
      given_(std::move(given)),
      state_(StateOf(method, row, options())),
      scaler_(options().loss_scale > 0 ? options().loss_scale : 1),
      scale_(torch::ones({}, torch::TensorOptions(torch::kFloat32).device(base.denoiser->device()))),
      variance_(base.schedule),
      errors_(torch::zeros({2}, torch::kFloat64)) {
  TORCH_CHECK(options().vlb_weight == 0 || base.denoiser->PredictsVariance(), "the base predicts no variance to train");
}

const TrainedSlot::Drawn& TrainedSlot::Draw(size_t batch) {
  if (batch == step_.size()) {
    if (ahead_.empty()) ahead_.push_back(DrawNext());
    step_.push_back(std::move(ahead_.front().drawn));
    ahead_.pop_front();
  }
  return step_.at(batch);
}

void TrainedSlot::DrawAhead() {
  const auto batches = static_cast<size_t>(options().accumulation);
  try {
    while (ahead_.size() < batches) ahead_.push_back(DrawNext());
  } catch (const std::exception&) {
    // The step under way does not end by it: whoever draws these rows next meets it again.
  }
}

TensorMap TrainedSlot::Position() const {
  TensorMap position;
  position["drawn"] = torch::tensor(drawn_, torch::kInt64);
  AddWithPrefix("source.", given_.source->Save(), position);
  position["noise"] = given_.noise.State();
  position["timesteps"] = given_.timesteps.State();
  return position;
}

void TrainedSlot::GoTo(const TensorMap& position) {
  drawn_ = TakeState(position, "drawn").item<int64_t>();
  given_.source->Restore(WithPrefixRemoved("source.", position));
  given_.noise.SetState(TakeState(position, "noise"));
  given_.timesteps.SetState(TakeState(position, "timesteps"));
}

TrainedSlot::Ahead TrainedSlot::DrawNext() {
  Ahead next{.position = Position()};
  try {
    next.drawn = DrawFromStreams();
  } catch (...) {
    GoTo(next.position);
    throw;
  }
  return next;
}

TrainedSlot::Drawn TrainedSlot::DrawFromStreams() {
  Drawn drawn;
  drawn.number = drawn_++;
  drawn.batch = given_.source->Next();
  const torch::Tensor& latents = drawn.batch.latents;
  auto noise = given_.noise.Normal(latents.sizes());
  if (options().noise_offset > 0) {
    noise += options().noise_offset * given_.noise.Normal({latents.size(0), latents.size(1), 1, 1});
  }
  drawn.drawn_noise = noise;
  drawn.drawn_timesteps = given_.timesteps.Integers(base_.schedule.config().num_train_timesteps, {latents.size(0)});
  drawn.noise = runtime::CopyTo(latents.device(), noise);
  drawn.timesteps = runtime::CopyTo(latents.device(), drawn.drawn_timesteps);
  drawn.noisy = base_.schedule.AddNoise(latents, drawn.noise, drawn.timesteps);
  const int64_t rows = latents.size(0);
  drawn.rows = {0, rows, rows};
  if (given_.ranks != nullptr) KeepShare(given_.ranks->ShareOf(rows), drawn);
  return drawn;
}

TrainedSlot::Losses TrainedSlot::LossesOf(const torch::Tensor& output, const Drawn& drawn) const {
  const auto target = base_.schedule.Target(drawn.batch.latents, drawn.noise, drawn.timesteps);
  const auto noise_part = base_.denoiser->NoisePart(output);
  auto errors = (noise_part - target).square().flatten(1).mean(1);
  const auto error = errors.detach().mean(), error_of_zero = target.square().flatten(1).mean(1).mean();
  if (options().min_snr_gamma > 0) {
    const auto snr = base_.schedule.SignalToNoise(drawn.timesteps);
    const bool predicts_v = base_.schedule.config().prediction_type == diffusion::PredictionType::kVPrediction;
    errors = errors * snr.clamp_max(options().min_snr_gamma) / (predicts_v ? snr + 1 : snr);
  }
  if (options().vlb_weight > 0) {
    const auto x0 = base_.schedule.X0FromOutput(drawn.noisy, noise_part, drawn.timesteps);
    const auto variance_part = output.narrow(1, noise_part.size(1), noise_part.size(1));
    const auto bound = variance_.BoundTerms(drawn.batch.latents, drawn.noisy, x0, variance_part, drawn.timesteps);
    const auto timesteps = static_cast<double>(base_.schedule.config().num_train_timesteps);
    errors = errors + options().vlb_weight * timesteps * bound.to(torch::kFloat32);
  }
  const auto count = static_cast<double>(options().accumulation);
  return {(errors * drawn.batch.weights).sum() / count, error, error_of_zero};
}

void TrainedSlot::Prepare() {
  state_.Prepare(options().schedule.FactorAt(steps()));
  if (options().loss_scale == 0) return;
  const bool fits = scaler_.scale() <= std::numeric_limits<float>::max();
  scale_.fill_(fits ? scaler_.scale() : std::numeric_limits<double>::infinity());
}

TrainedSlot::Verdict TrainedSlot::Apply(const torch::Tensor& loss) {
  torch::NoGradGuard no_grad;
  torch::Tensor skip = loss.detach().isfinite().logical_not(), overflow = torch::zeros_like(skip);
  if (options().loss_scale > 0) {
    overflow = UnscaleGradients();
    skip = skip.logical_or(overflow);
  }
  return {overflow.view({1}), state_.Apply(skip.to(torch::kFloat32))};
}

// Divides the gradients by the scale; whether one of them overflowed.
torch::Tensor TrainedSlot::UnscaleGradients() {
  torch::Tensor overflow = torch::zeros({}, scale_.options().dtype(torch::kBool));
  for (const SlotParameter& parameter : parameters()) {
    torch::Tensor gradient = parameter.GradientInPlace();
    if (!gradient.defined()) continue;
    gradient.div_(scale_);
    overflow.logical_or_(gradient.isfinite().all().logical_not());
  }
  return overflow;
}

SlotStep TrainedSlot::Conclude(double loss, double relative_error, bool overflow, double gradient_norm) {
  step_.clear();
  SlotStep result;
  result.loss = loss;
  if (options().loss_scale > 0) scaler_.Update(!overflow);
  if (overflow) {
    result.kind = scaler_.exhausted() ? SlotStep::Kind::kFailed : SlotStep::Kind::kSkipped;
    if (!scaler_.exhausted()) return result;
    // Nothing has been trained at the first step: no learning rate is to blame.
    result.cause = fmt::format(
        "the gradients overflow at step {} whatever the loss scale: {}set train.precision to float32", steps() + 1,
        steps() == 0 ? "the network overflows in 16 bits; "
                     : "training diverged, or the network overflows in 16 bits; lower train.learning_rate, or ");
    return result;
  }
  result.kind = SlotStep::Kind::kStepped;
  UpdateErrors(relative_error);
  result.first_error = errors_[0].item<double>();
  result.running_error = errors_[1].item<double>();
  result.gradient_norm = gradient_norm;
  state_.Commit();
  return result;
}

// Of the step that is about to be taken: a plain mean at first, then a decaying one.
void TrainedSlot::UpdateErrors(double error) {
  const auto t = static_cast<double>(steps());
  if (steps() == 0) errors_[0].fill_(error);
  errors_[1].lerp_(torch::tensor(error, torch::kFloat64), 1 - std::min(0.95, t / (t + 1)));
}

void TrainedSlot::MoveTo(const methods::Method& method, int64_t row) {
  state_.MoveTo(ParametersOfSlot(method.parameters(), row));
}

void TrainedSlot::CopyTo(methods::Method& method, int64_t row) const {
  torch::NoGradGuard no_grad;
  const std::vector<SlotParameter> there = ParametersOfSlot(method.parameters(), row);
  TORCH_CHECK(there.size() == parameters().size(), "the slot has ", parameters().size(), " parameters, but ",
              there.size(), " there");
  for (size_t i = 0; i < there.size(); ++i) there[i].value().copy_(parameters()[i].value());
}

Checkpoint TrainedSlot::Save() const {
  TORCH_CHECK(!mid_step(), "the trial is in the middle of a step");
  TensorMap arrays = state_.Save();
  arrays["errors"] = errors_;
  arrays["loss_scale"] = torch::tensor({scaler_.scale(), static_cast<double>(scaler_.good_steps())}, torch::kFloat64);
  arrays.merge(ahead_.empty() ? Position() : TensorMap(ahead_.front().position));
  return {std::move(arrays), steps()};
}

void TrainedSlot::Restore(const Checkpoint& checkpoint) {
  const TensorMap& arrays = checkpoint.arrays;
  step_.clear();
  ahead_.clear();
  state_.Restore(arrays, checkpoint.step);
  CopyInto(errors_, arrays, "errors");
  const torch::Tensor& loss_scale = TakeState(arrays, "loss_scale");
  scaler_ = LossScaler(loss_scale[0].item<double>(), loss_scale[1].item<int64_t>());
  GoTo(arrays);
}

}  // namespace loupe::worker::train
