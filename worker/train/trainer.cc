#include "worker/train/trainer.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "common/logging.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "worker/base/slot_pass.h"
#include "worker/runtime/autocast_scope.h"
#include "worker/runtime/finite.h"
#include "worker/runtime/recompute.h"

namespace loupe::worker::train {
namespace {

std::vector<size_t> AllOf(const std::vector<TrainSlot>& slots) {
  std::vector<size_t> all(slots.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  return all;
}

// `given`: the TrainSlot of a number. Throws where two of the group do not fit each other.
template <typename Given>
void CheckTogether(const std::vector<size_t>& group, const Given& given) {
  for (size_t i = 1; i < group.size(); ++i) {
    const std::string why = WhyNotOneForward(given(group.front()), given(group[i]));
    TORCH_CHECK(why.empty(), "trials ", group.front(), " and ", group[i], " cannot share a forward pass: ", why);
  }
}

constexpr char kStep[] = "a training step";

// By which the method's random numbers of the pass go.
std::vector<int64_t> NumbersOf(const std::vector<const TrainedSlot::Drawn*>& drawn) {
  std::vector<int64_t> numbers;
  numbers.reserve(drawn.size());
  for (const TrainedSlot::Drawn* rows : drawn) numbers.push_back(rows->number);
  return numbers;
}

// At a step's end, and where an exception leaves half of one.
struct NoGradientsAfter {
  methods::Method& method;
  ~NoGradientsAfter() {
    for (const methods::NamedParameter& parameter : method.parameters()) parameter.value.mutable_grad().reset();
  }
};

}  // namespace

std::string WhyNotOneForward(const TrainSlot& a, const TrainSlot& b) {
  const int64_t rows = a.source->batch_size(), others = b.source->batch_size();
  if (rows != others) return fmt::format("their batches have {} and {} rows", rows, others);
  if (a.options.accumulation != b.options.accumulation) {
    return fmt::format("they accumulate {} and {} batches to a step", a.options.accumulation, b.options.accumulation);
  }
  if (a.options.precision != b.options.precision) return "their forward passes have different precisions";
  if (a.options.recompute != b.options.recompute) return "one checkpoints gradients and the other does not";
  if (a.options.trains_conditioner != b.options.trains_conditioner) {
    return "one trains the conditioner and the other does not";
  }
  if (a.ranks != nullptr || b.ranks != nullptr) return "one is computed by several processes";
  return "";
}

Trainer::Trainer(base::BaseModel& base, MethodFactory make, std::vector<TrainSlot> slots)
    : base_(base), make_(std::move(make)) {
  for (TrainSlot& slot : slots) Join(std::move(slot));
}

Trainer::Trainer(base::BaseModel& base, methods::Method& method, std::vector<TrainSlot> slots) : base_(base) {
  TORCH_CHECK(static_cast<int64_t>(slots.size()) == method.slots(), "the pack has ", slots.size(),
              " trials, the method ", method.slots(), " slots");
  CheckTogether(AllOf(slots), [&](size_t slot) -> const TrainSlot& { return slots[slot]; });
  groups_.push_back({.pass = {.slots = AllOf(slots)}, .method = &method});
  for (size_t i = 0; i < slots.size(); ++i) {
    slots_.push_back(std::make_unique<TrainedSlot>(base, std::move(slots[i]), method, static_cast<int64_t>(i)));
  }
}

Trainer::~Trainer() = default;

// A place of the base holds one method at a time, so the others let go of it first.
void Trainer::Enable(const Group* only) {
  for (Group& group : groups_) {
    if (&group != only) group.method->SetEnabled(false);
  }
  if (only != nullptr) only->method->SetEnabled(true);
}

Trainer::Group& Trainer::GroupOf(size_t slot) {
  for (Group& group : groups_) {
    if (group.Has(slot)) return group;
  }
  TORCH_CHECK(false, "trial ", slot, " has left the pack");
}

std::vector<SlotStep> Trainer::Step() {
  std::vector<SlotStep> results(slots_.size());
  for (Group& group : groups_) {
    if (groups_.size() > 1) Enable(&group);
    StepGroup(group, results);
  }
  if (groups_.size() > 1) Rest();
  return results;
}

std::vector<SlotStep> Trainer::StepWith(size_t slot) {
  Group& group = GroupOf(slot);
  std::vector<SlotStep> results(slots_.size());
  const AtRest rest{*this};
  Enable(&group);
  StepGroup(group, results);
  return results;
}

SlotStep Trainer::StepOf(size_t slot) {
  TORCH_CHECK(GroupOf(slot).pass.slots.size() == 1, "trial ", slot, " shares its passes with others");
  return StepWith(slot)[slot];
}

void Trainer::Regroup(const std::vector<PassGroup>& groups) {
  TORCH_CHECK(make_ != nullptr, "a pack around the caller's method cannot be grouped anew");
  size_t slots = 0;
  for (const PassGroup& wanted : groups) {
    slots += wanted.slots.size();
    for (const size_t slot : wanted.slots) GroupOf(slot);
    CheckTogether(wanted.slots, [&](size_t slot) -> const TrainSlot& { return slots_[slot]->given(); });
  }
  size_t in = 0;
  for (const Group& group : groups_) in += group.pass.slots.size();
  TORCH_CHECK(slots == in, slots, " trials in the groups, ", in, " in the pack");

  const AtRest rest{*this};
  // The old methods let go of the base before new ones take its places; the slots hold their values meanwhile.
  std::erase_if(
      groups_, [&](const Group& group) { return std::find(groups.begin(), groups.end(), group.pass) == groups.end(); });
  const auto missing = [&](const PassGroup& wanted) {
    return std::none_of(groups_.begin(), groups_.end(), [&](const Group& group) { return group.pass == wanted; });
  };
  const auto make = [&](const PassGroup& wanted) {
    Enable(nullptr);
    groups_.push_back(MadeGroup(wanted));
  };
  try {
    for (const PassGroup& wanted : groups) {
      if (missing(wanted)) make(wanted);
    }
  } catch (...) {
    for (const PassGroup& wanted : groups) {
      if (!missing(wanted)) continue;
      for (const size_t slot : wanted.slots) make({.slots = {slot}});
    }
    throw;
  }
}

std::vector<size_t> Trainer::MembersOf(const PassGroup& pass) {
  std::vector<size_t> members = pass.slots;
  members.resize(std::max(members.size(), static_cast<size_t>(pass.width)), members.back());
  return members;
}

Trainer::Group Trainer::MadeGroup(const PassGroup& pass) {
  auto method = make_(MembersOf(pass));
  for (size_t row = 0; row < pass.slots.size(); ++row) {
    slots_[pass.slots[row]]->MoveTo(*method, static_cast<int64_t>(row));
  }
  methods::Method* const attached = method.get();
  return {.pass = pass, .method = attached, .owned = std::move(method)};
}

size_t Trainer::Join(TrainSlot slot) {
  TORCH_CHECK(make_ != nullptr, "a slot cannot join a pack around the caller's method");
  const size_t index = slots_.size();
  const AtRest rest{*this};
  Enable(nullptr);
  auto method = make_({index});
  auto trained = std::make_unique<TrainedSlot>(base_, std::move(slot), *method, 0);
  std::unique_ptr<ranks::GradientSum> sum;
  if (trained->ranks() != nullptr) {
    std::vector<torch::Tensor> parameters;
    for (const methods::NamedParameter& parameter : method->parameters()) parameters.push_back(parameter.value);
    sum = ranks::MakeGradientSum(*trained->ranks(), std::move(parameters));
  }
  methods::Method* const attached = method.get();
  slots_.push_back(std::move(trained));
  groups_.push_back(
      {.pass = {.slots = {index}}, .method = attached, .owned = std::move(method), .sum = std::move(sum)});
  return index;
}

struct Trainer::SharedPass {
  torch::ScalarType precision;
  TrainedSlot::Drawn rows;
  torch::Tensor noisy, timesteps, context;
  nn::PassesWithTheSameRows prefix;
};

Trainer::Together::Together(Trainer& trainer) : trainer_(trainer) { trainer_.shared_.emplace(); }
Trainer::Together::~Together() { trainer_.shared_.reset(); }

Trainer::SharedPass& Trainer::SharedPassOf(const TrainOptions& options, const TrainedSlot::Drawn& rows) {
  for (const auto& pass : *shared_) {
    if (pass->precision == options.precision && pass->rows.HasRowsOf(rows)) return *pass;
  }
  auto& pass = *shared_->emplace_back(std::make_unique<SharedPass>());
  pass.precision = options.precision;
  pass.rows = rows;
  // As Predict makes them of one slot's rows.
  pass.noisy = torch::cat({rows.noisy});
  pass.timesteps = torch::cat({rows.timesteps});
  pass.context = torch::cat({rows.batch.context});
  for (const torch::Tensor& input : {pass.noisy, pass.timesteps, pass.context}) pass.prefix.Begin(input);
  return pass;
}

torch::Tensor Trainer::Predict(const TrainOptions& options, const std::vector<const TrainedSlot::Drawn*>& drawn,
                               const std::optional<nn::RowsThatRepeat::Blocks>& same, SharedPass* shared) {
  const runtime::RecomputeScope recompute(options.recompute);
  const auto predict = [&] {
    if (shared != nullptr && !options.trains_conditioner) {
      const nn::SharedPrefixScope scope(&shared->prefix);
      return base_.denoiser->Forward(shared->noisy, shared->timesteps, shared->context);
    }
    base::SlotRows slots;
    slots.same = same;
    for (const TrainedSlot::Drawn* rows : drawn) {
      slots.noisy.push_back(rows->noisy);
      slots.timesteps.push_back(rows->timesteps);
      slots.conditions.push_back(rows->batch.context);
      if (!options.trains_conditioner) continue;
      slots.prompts.insert(slots.prompts.end(), rows->batch.prompts.begin(), rows->batch.prompts.end());
    }
    return base::ForwardOfSlots(base_, slots, options.recompute);
  };
  if (options.precision == torch::kFloat) return predict();
  const runtime::AutocastScope autocast({drawn.front()->noisy.device().type(), true, options.precision});
  return predict().to(torch::kFloat);
}

std::optional<nn::RowsThatRepeat::Blocks> Trainer::SameRows(const std::vector<const TrainedSlot::Drawn*>& drawn) {
  if (drawn.size() == 1) return std::nullopt;
  return nn::RowsThatRepeat::BlocksOf(drawn.size(), [&](size_t a, size_t b) { return drawn[a]->HasRowsOf(*drawn[b]); });
}

Trainer::StepRows Trainer::Draw(const Group& group) {
  StepRows rows(static_cast<size_t>(slots_[group.pass.slots.front()]->options().accumulation));
  for (size_t batch = 0; batch < rows.size(); ++batch) {
    for (const size_t slot : group.pass.slots) rows[batch].push_back(&slots_[slot]->Draw(batch));
    rows[batch].resize(static_cast<size_t>(group.method->slots()), rows[batch].back());
  }
  return rows;
}

void Trainer::StepGroup(Group& group, std::vector<SlotStep>& results) {
  const StepRows rows = Draw(group);
  for (const size_t slot : group.pass.slots) slots_[slot]->Prepare();
  const bool recorded = Records(group);
  const NoGradientsAfter cleared{*group.method};
  const torch::Tensor on_device = recorded ? WholeStep(group, rows) : Passes(group, rows);
  // A device that works by itself is at it still.
  if (recorded || !on_device.is_cpu()) {
    for (const size_t slot : group.pass.slots) slots_[slot]->DrawAhead();
  }
  const torch::Tensor numbers = on_device.cpu();
  const double* const number = numbers.const_data_ptr<double>();
  const size_t slots = group.pass.slots.size();
  for (size_t k = 0; k < slots; ++k) {
    const size_t slot = group.pass.slots[k];
    const double loss = number[k], relative_error = number[slots + k];
    if (!std::isfinite(loss)) {
      results[slot] = {.kind = SlotStep::Kind::kFailed, .loss = loss, .cause = CauseOf(slot, *rows.back()[k])};
      slots_[slot]->GiveUpStep();
    } else if (recorded) {
      results[slot] = slots_[slot]->Conclude(loss, relative_error, number[2 * slots + k] != 0, number[3 * slots + k]);
    } else {
      // One after another: where memory runs out in one's step, those before it have taken theirs.
      const TrainedSlot::Verdict verdict =
          slots_[slot]->Apply(on_device[0][static_cast<int64_t>(k)].to(base_.denoiser->device()));
      const bool overflow = slots_[slot]->options().loss_scale > 0 && verdict.overflow.item<bool>();
      results[slot] = slots_[slot]->Conclude(loss, relative_error, overflow, verdict.gradient_norm.item<double>());
    }
  }
}

bool Trainer::Records(Group& group) const {
  if (base_.recorder == nullptr) return false;
  if (group.step == nullptr) {
    const bool reads_prompts = slots_[group.pass.slots.front()]->options().trains_conditioner;
    const std::string why = group.sum != nullptr ? "several processes add up its gradients"
                            : reads_prompts      ? "its prompts are read anew in each"
                                                 : "";
    if (!why.empty()) LogInfo("{} is not recorded: {}", kStep, why);
    group.step = std::make_unique<runtime::RecordedCall>(why.empty() ? base_.recorder.get() : nullptr, kStep);
    group.masks = std::make_unique<methods::KeptMasks>();
  }
  return group.step->records();
}

torch::Tensor Trainer::WholeStep(Group& group, const StepRows& rows) {
  const size_t slots = group.pass.slots.size();
  // By batch and slot; what idle slots repeat, and which slots' rows are the same, is part of the work's shape.
  std::vector<TrainedSlot::Drawn> read;
  runtime::RecordedCall::Tensors inputs, changes;
  std::string key;
  for (const auto& batch : rows) {
    for (size_t k = 0; k < slots; ++k) {
      for (const torch::Tensor* input : read.emplace_back(*batch[k]).Tensors()) inputs.push_back(*input);
    }
    if (const auto same = SameRows(batch)) key += fmt::format("{};", fmt::join(same->same_as, ","));
  }
  std::vector<std::vector<int64_t>> numbers;
  numbers.reserve(rows.size());
  for (const auto& batch : rows) numbers.push_back(NumbersOf(batch));
  group.masks->Prepare(std::move(numbers));
  for (const size_t slot : group.pass.slots) {
    for (const torch::Tensor& changed : slots_[slot]->Changed()) changes.push_back(changed);
  }
  const auto step = [&](const runtime::RecordedCall::Tensors& given) -> runtime::RecordedCall::Tensors {
    const NoGradientsAfter cleared{*group.method};
    StepRows its(rows.size());
    size_t next = 0;
    for (size_t batch = 0; batch < rows.size(); ++batch) {
      for (size_t k = 0; k < slots; ++k) {
        TrainedSlot::Drawn& drawn = read[batch * slots + k];
        for (torch::Tensor* input : drawn.Tensors()) *input = given[next++];
        its[batch].push_back(&drawn);
      }
      its[batch].resize(rows[batch].size(), its[batch].back());
    }
    const torch::Tensor totals = Passes(group, its);
    std::vector<torch::Tensor> overflow, norms;
    for (size_t k = 0; k < slots; ++k) {
      const TrainedSlot::Verdict verdict = slots_[group.pass.slots[k]]->Apply(totals[0][static_cast<int64_t>(k)]);
      overflow.push_back(verdict.overflow);
      norms.push_back(verdict.gradient_norm);
    }
    return {torch::cat({totals, torch::cat(overflow).to(torch::kFloat64).unsqueeze(0),
                        torch::cat(norms).to(torch::kFloat64).unsqueeze(0)})};
  };
  return (*group.step)(key, inputs, changes, step).front();
}

torch::Tensor Trainer::Passes(Group& group, const StepRows& batches) {
  const TrainOptions& options = slots_[group.pass.slots.front()]->options();
  std::vector<std::vector<TrainedSlot::Losses>> losses;  // by batch and slot
  for (const auto& drawn : batches) {
    const bool recorded = group.step != nullptr && group.step->records();
    if (recorded) group.masks->BeginBatch(losses.size());
    const methods::TrainingPass pass(*group.method, NumbersOf(drawn), drawn.front()->rows,
                                     recorded ? group.masks.get() : nullptr);
    // A recorded pass has memory of its own alone.
    const bool shares = shared_ && drawn.size() == 1 && !options.recompute && options.accumulation == 1 && !recorded;
    const auto output =
        Predict(options, drawn, SameRows(drawn), shares ? &SharedPassOf(options, *drawn.front()) : nullptr);
    // Each slot's rows on their own from here on: the arithmetic of a solo run.
    const std::vector<torch::Tensor> rows =
        drawn.size() == 1 ? std::vector{output} : output.split(output.size(0) / group.method->slots());
    torch::Tensor sum;
    losses.emplace_back();
    for (size_t k = 0; k < group.pass.slots.size(); ++k) {
      const TrainedSlot& slot = *slots_[group.pass.slots[k]];
      TrainedSlot::Losses& found = losses.back().emplace_back(slot.LossesOf(rows[k], *drawn[k]));
      const auto scaled = slot.Scaled(found.loss);
      found.loss = found.loss.detach();
      // Added and not averaged: a trial's gradient does not depend on the pack's size, nor on another's being NaN.
      sum = sum.defined() ? sum + scaled : scaled;
    }
    // Gradients of a step's earlier batches wait for the last one.
    const bool last = losses.size() == batches.size();
    if (last && group.sum != nullptr) group.sum->Begin(sum);
    sum.backward();
    if (last && group.sum != nullptr) group.sum->Finish();
  }
  return TotalsOf(group, losses, batches.back().front()->rows);
}

torch::Tensor Trainer::TotalsOf(const Group& group, const std::vector<std::vector<TrainedSlot::Losses>>& batches,
                                const runtime::RowShare& rows) const {
  const auto count = static_cast<double>(batches.size());
  ranks::RankGroup* const ranks = slots_[group.pass.slots.front()]->ranks();
  if (ranks == nullptr) {
    torch::Tensor totals;  // [2, K]
    for (const auto& batch : batches) {
      std::vector<torch::Tensor> losses, errors;
      for (const TrainedSlot::Losses& found : batch) {
        losses.push_back(found.loss);
        errors.push_back(found.error / found.error_of_zero / count);
      }
      const auto total = torch::stack({torch::stack(losses), torch::stack(errors)});
      totals = totals.defined() ? totals + total : total;
    }
    return totals.to(torch::kFloat64);
  }
  // The mean over all rows is that of the ranks' means, by their rows.
  const double weight = static_cast<double>(rows.count) / static_cast<double>(rows.total);
  std::vector<torch::Tensor> parts;
  parts.reserve(batches.size());
  for (const auto& batch : batches) {
    parts.push_back(torch::stack({batch[0].loss, batch[0].error * weight, batch[0].error_of_zero * weight}));
  }
  const torch::Tensor sums = torch::stack(parts).to(torch::kCPU, torch::kFloat64);  // [batches, 3]
  ranks->SumOnCpu(sums);
  return torch::stack({sums.select(1, 0).sum(), (sums.select(1, 1) / sums.select(1, 2)).mean()}).unsqueeze(1);
}

std::string Trainer::CauseOf(size_t slot, const TrainedSlot::Drawn& drawn) {
  torch::NoGradGuard no_grad;
  const TrainOptions& options = slots_[slot]->options();
  TrainOptions exact = options;
  exact.precision = torch::kFloat;
  const std::string what = fmt::format("what the {} predicts", base_.denoiser->name());
  {
    const methods::MethodDisabled off(GroupOf(slot).method);
    const std::string alone = runtime::DescribeNotFinite(Predict(exact, {&drawn}));
    if (!alone.empty()) return fmt::format("{}: {}: {}; the base is broken", base_.folder, what, alone);
    const std::string rounded = runtime::DescribeNotFinite(Predict(options, {&drawn}));
    if (!rounded.empty()) {
      return fmt::format("{}: {} in 16 bits: {}; set train.precision to float32", base_.folder, what, rounded);
    }
  }
  if (steps(slot) > 0) return "";
  std::string initial;
  WithSlotAlone(slot, [&](methods::Method&) { initial = runtime::DescribeNotFinite(Predict(options, {&drawn})); });
  if (initial.empty()) return "";
  return fmt::format("{} with the adapter's initial values: {}; lower method.scale, or set method.init to zero", what,
                     initial);
}

void Trainer::WithSlotAlone(size_t slot, const std::function<void(methods::Method&)>& use) {
  const Group& group = GroupOf(slot);
  // Also the caller's method, of which there is no other.
  WithSlotsTogether(group.method->slots() == 1 ? group.pass : PassGroup{.slots = {slot}}, use);
}

void Trainer::WithSlotsTogether(const PassGroup& pass, const std::function<void(methods::Method&)>& use) {
  const AtRest rest{*this};
  for (Group& group : groups_) {
    if (group.pass != pass) continue;
    Enable(&group);
    use(*group.method);
    return;
  }
  TORCH_CHECK(make_ != nullptr, "a pack around the caller's method cannot show some of its slots");
  Enable(nullptr);
  const std::unique_ptr<methods::Method> copy = make_(MembersOf(pass));
  for (size_t row = 0; row < pass.slots.size(); ++row) {
    slots_[pass.slots[row]]->CopyTo(*copy, static_cast<int64_t>(row));
  }
  use(*copy);
}

void Trainer::Leave(size_t slot) {
  Group& group = GroupOf(slot);
  if (group.pass.slots.size() == 1) {
    // Its values live on in the slot.
    groups_.erase(groups_.begin() + (&group - groups_.data()));
  } else {
    TORCH_CHECK(make_ != nullptr, "a slot cannot leave a pack around the caller's method");
    PassGroup left = group.pass;
    std::erase(left.slots, slot);
    Enable(nullptr);
    // The old method lets go of the base before the new one takes its places; the slots hold its values meanwhile.
    group.owned.reset();
    group = MadeGroup(left);
  }
  Rest();
}

void Trainer::Release(size_t slot) {
  if (std::any_of(groups_.begin(), groups_.end(), [&](const Group& group) { return group.Has(slot); })) Leave(slot);
  slots_[slot].reset();
}

void Trainer::WithBaseAlone(const std::function<void()>& use) {
  const AtRest rest{*this};
  Enable(nullptr);
  use();
}

void Trainer::SaveCheckpoint(const std::string& path, const std::string& fingerprint, size_t slot) const {
  const absl::Status written = WriteCheckpoint(path, fingerprint, slots_.at(slot)->Save());
  if (!written.ok()) throw std::runtime_error(std::string(written.message()));
}

bool Trainer::LoadCheckpoint(const std::string& path, const std::string& fingerprint, size_t slot) {
  const auto checkpoint = ReadCheckpoint(path, fingerprint);
  if (checkpoint.ok()) {
    slots_.at(slot)->Restore(*checkpoint);
    return true;
  }
  const std::string why(checkpoint.status().message());
  if (absl::IsInvalidArgument(checkpoint.status())) {
    LogInfo("{}; training starts anew", why);
  } else if (absl::IsDataLoss(checkpoint.status())) {
    LogWarning("{}; it is not used, training starts anew", why);
  }
  return false;
}

}  // namespace loupe::worker::train
