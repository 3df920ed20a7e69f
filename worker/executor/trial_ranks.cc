// A trial's part in having several ranks: rank 0 announces, the others follow, all sample their share of the pictures.
#include <torch/utils.h>

#include <algorithm>
#include <exception>
#include <stdexcept>
#include <utility>

#include "fmt/format.h"
#include "worker/executor/rank_team.h"
#include "worker/executor/trial.h"
#include "worker/runtime/finite.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker {
namespace {

// [n, height, width, 3], uint8.
torch::Tensor TensorOf(const std::vector<Image>& pictures) {
  if (pictures.empty()) return torch::empty({0, 1, 1, 3}, torch::kUInt8);
  const Image& first = pictures.front();
  const auto tensor =
      torch::empty({static_cast<int64_t>(pictures.size()), first.height, first.width, 3}, torch::kUInt8);
  auto* out = tensor.data_ptr<uint8_t>();
  for (const Image& picture : pictures) out = std::copy(picture.rgb.begin(), picture.rgb.end(), out);
  return tensor;
}

std::vector<Image> PicturesOf(const torch::Tensor& tensor) {
  std::vector<Image> pictures;
  const auto* in = tensor.data_ptr<uint8_t>();
  const int64_t bytes = tensor.size(1) * tensor.size(2) * 3;
  for (int64_t i = 0; i < tensor.size(0); ++i, in += bytes) {
    pictures.push_back({static_cast<int>(tensor.size(2)), static_cast<int>(tensor.size(1)), {in, in + bytes}});
  }
  return pictures;
}

// Whole batches of the sampler go to one rank: a picture's bits depend on those that are sampled with it.
std::vector<int64_t> PicturesByRank(int64_t count, int64_t batch, int ranks) {
  const int64_t batches = (count + batch - 1) / batch;
  std::vector<int64_t> pictures;
  for (int rank = 0; rank < ranks; ++rank) {
    const RowShare share = ShareOf(batches, rank, ranks);
    pictures.push_back(std::min(count, (share.first + share.count) * batch) - std::min(count, share.first * batch));
  }
  return pictures;
}

}  // namespace

bool Trial::HasRanks(const Settings& settings) { return settings.Integer("train.devices") > 1; }

void Trial::StartRanks(const RankOptions& options) {
  if (HasRanks(settings_)) team_ = std::make_unique<RankTeam>(spec_, models_.device(), options);
}

void Trial::AnnounceStep() {
  if (team_ != nullptr) team_->Announce({.kind = RankCommand::Kind::kStep});
}

std::string Trial::WhyRanksEnded() { return team_ == nullptr ? "" : team_->WhyEnded(); }

void Trial::PrepareToFollow() {
  task_ = &tasks_.Of(settings_, spec_.sweep_seed, Progress("prepare"));
  run_ = task_->Begin(settings_, seeds_, inputs_);
}

TrainSlot Trial::MakeSlot(RankGroup* ranks) {
  TrainSlot slot{run_->MakeSource(budget("batch")), RandomStream(seeds_(Stream::kNoise)),
                 RandomStream(seeds_(Stream::kTimesteps)), train_options_};
  slot.ranks = ranks;
  return slot;
}

void Trial::Follow(Trainer& trainer, RankGroup& group) {
  const size_t slot = trainer.Join(MakeSlot(&group));
  if (settings_.Integer("train.checkpoint_every") > 0) {
    trainer.LoadCheckpoint(CheckpointFile(spec_), Fingerprint(), slot);
  }
  if (const std::string at = group.FromLeader(""); at != std::to_string(trainer.steps(slot))) {
    throw std::runtime_error(
        fmt::format("{}: rank 0 begins at step {}, rank {} at step {}: they read different checkpoints", spec_.trial,
                    at, group.rank(), trainer.steps(slot)));
  }
  for (;;) {
    const RankCommand command = DecodeCommand(group.FromLeader(""));
    switch (command.kind) {
      case RankCommand::Kind::kStep:
        trainer.StepOf(slot);
        break;
      case RankCommand::Kind::kSample:
        trainer.SwapAverage(slot);
        SampleShare(group, command);
        trainer.SwapAverage(slot);
        break;
      case RankCommand::Kind::kEnd:
        return;
    }
  }
}

std::vector<Image> Trial::SampleAmongRanks(const std::vector<std::string>& prompts, Stream stream, int64_t count) {
  const RankCommand command{.kind = RankCommand::Kind::kSample, .prompts = prompts, .stream = stream, .count = count};
  team_->Announce(command);
  return SampleShare(team_->group(), command);
}

std::vector<Image> Trial::SampleShare(RankGroup& group, const RankCommand& command) {
  const SampleOptions options = SampleOptionsFrom(settings_);
  const torch::Tensor noise = RandomStream(seeds_(command.stream)).Normal(NoiseShape(loaded_.model, command.count));
  const std::vector<int64_t> by_rank = PicturesByRank(command.count, options.batch, group.ranks());
  int64_t first = 0;
  for (int rank = 0; rank < group.rank(); ++rank) first += by_rank[static_cast<size_t>(rank)];
  const int64_t own = by_rank[static_cast<size_t>(group.rank())];
  std::vector<std::string> prompts = command.prompts;
  if (prompts.size() > 1) prompts = {prompts.begin() + first, prompts.begin() + first + own};
  std::vector<Image> pictures;
  std::exception_ptr bad;
  try {
    if (own > 0) {
      pictures = SamplePictures(loaded_.model, prompts, noise.narrow(0, first, own), options, Progress("sample"));
    }
  } catch (const NotFinite&) {
    bad = std::current_exception();
  }
  // A rank whose pictures are none says so and goes on: rank 0 knows what that means.
  const torch::Tensor failed = torch::tensor(bad ? 1.0 : 0.0, torch::kFloat64);
  group.SumOnCpu(failed);
  if (failed.item<double>() > 0) {
    if (group.rank() != 0) return {};
    if (bad) std::rethrow_exception(bad);
    throw NotFinite(fmt::format("{}: what another rank sampled is not finite", loaded_.model.folder));
  }
  const torch::Tensor all = group.GatherRows(TensorOf(pictures), by_rank);
  return group.rank() == 0 ? PicturesOf(all) : std::vector<Image>();
}

}  // namespace loupe::worker
