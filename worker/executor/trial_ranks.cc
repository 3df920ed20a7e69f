// A trial's part in having several ranks: rank 0 announces, the others follow.
#include <stdexcept>
#include <string>

#include "fmt/format.h"
#include "worker/executor/rank_shares.h"
#include "worker/executor/rank_team.h"
#include "worker/executor/trial.h"

namespace loupe::worker::executor {
bool Trial::HasRanks(const settings::Settings& settings) { return settings.Integer("train.devices") > 1; }

void Trial::StartRanks(const RankOptions& options) {
  if (!HasRanks(settings_)) return;
  team_ = std::make_unique<RankTeam>(spec_, models_.device(), options, observer_);
  pictures_ = std::make_unique<RankedPictures>(*team_, inputs_, settings_);
  inputs_.SetHelp(pictures_.get());
}

void Trial::AnnounceStep() {
  if (team_ != nullptr) team_->Announce({.kind = RankCommand::Kind::kStep});
}

std::string Trial::WhyRanksEnded() { return team_ == nullptr ? "" : team_->WhyEnded(); }

double Trial::Validate() {
  if (team_ == nullptr) return train::ValidationLoss(loaded_.model, *validation_);
  team_->Announce({.kind = RankCommand::Kind::kValidate});
  return ValidateAmongRanks(team_->group(), loaded_.model, *validation_);
}

train::TrainSlot Trial::MakeSlot(ranks::RankGroup* ranks) {
  train::TrainSlot slot{run_->MakeSource(budget("batch")), runtime::RandomStream(seeds_(Stream::kNoise)),
                        runtime::RandomStream(seeds_(Stream::kTimesteps)), train_options_};
  slot.ranks = ranks;
  return slot;
}

size_t Trial::JoinRanks(train::Trainer& trainer, ranks::RankGroup& group) {
  const size_t slot = trainer.Join(MakeSlot(&group));
  if (settings_.Integer("train.checkpoint_every") > 0) {
    trainer.LoadCheckpoint(CheckpointFile(spec_), Fingerprint(), slot);
  }
  if (const std::string at = group.FromLeader(""); at != std::to_string(trainer.steps(slot))) {
    throw std::runtime_error(
        fmt::format("{}: rank 0 begins at step {}, rank {} at step {}: they read different checkpoints", spec_.trial,
                    at, group.rank(), trainer.steps(slot)));
  }
  validation_.emplace(MakeValidationRows());
  return slot;
}

void Trial::Follow(train::Trainer& trainer, ranks::RankGroup& group) {
  std::optional<size_t> slot;
  for (;;) {
    const RankCommand command = DecodeCommand(group.FromLeader(""));
    switch (command.kind) {
      case RankCommand::Kind::kPrepare:
        task_ = &tasks_.Of(settings_, spec_.sweep_seed, Progress("prepare"));
        run_ = task_->Begin(settings_, seeds_, inputs_);
        break;
      case RankCommand::Kind::kJoin:
        slot = JoinRanks(trainer, group);
        break;
      case RankCommand::Kind::kStep:
        trainer.StepOf(slot.value());
        break;
      case RankCommand::Kind::kSample:
        if (slot) trainer.SwapAverage(*slot);
        SampleAmongRanks(group, inputs_, settings_, command.order, Progress("sample"));
        if (slot) trainer.SwapAverage(*slot);
        break;
      case RankCommand::Kind::kEmbed:
        EmbedAmongRanks(group, inputs_, settings_, command.embed, {});
        break;
      case RankCommand::Kind::kValidate:
        ValidateAmongRanks(group, loaded_.model, validation_.value());
        break;
    }
  }
}

}  // namespace loupe::worker::executor
