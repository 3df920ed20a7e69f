// Trials that are trained together: what they have in common is computed once, and all else is each one's own.
//
// A pack steps its trials in turn, those at the same step one after another, so that passes on the same rows share what
// no method has changed yet (train/trainer.h). A trial that comes while others are under way catches up with those that
// are a few steps ahead, and then goes with them. One that ends is sampled and scored at once. Who ends, fails, is
// cancelled or replaced leaves the others as they are: a trial's result is, byte for byte, that of a run alone.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "worker/executor/attempt.h"
#include "worker/executor/pack_room.h"
#include "worker/executor/trial.h"
#include "worker/executor/work_meter.h"

namespace loupe::worker::executor {

class Pack {
 public:
  struct Deps {
    base::ModelStore* models;  // none is owned; all outlive the pack
    tasks::SharedInputs* inputs;
    tasks::Tasks* tasks;
    PackRoom* room;
    WorkMeter* meter;
    // For trials of several ranks, which have the pack to themselves.
    const RankOptions* ranks;
    // Called before the first trial of the pack is prepared.
    std::function<void()> begin;
    // Whether files of base or scorers have changed: then nothing new joins, and the next pack reads them anew.
    std::function<bool()> stale;
  };
  Pack(const Deps& deps, PackFeed& feed) : deps_(deps), feed_(feed) {}

  // Until nothing is left to run. Never throws.
  void Run();

 private:
  struct Member {
    HeardAttempt heard;
    std::unique_ptr<Trial> trial;  // null while it is prepared
    bool steps = false;            // is in the trainer
  };

  void Admit();
  bool HasRoom() const;
  void Prepare(Member& member);
  void Step();
  void StepOne(Member& member);
  void Score(Member& member);
  // Runs a part of a member's work; where it ends in an exception, the member has ended. False then.
  bool Guarded(Member& member, const std::function<void()>& work);
  void End(Member& member, AttemptOutcome outcome);
  // Of the exception that is being handled: where another rank of the member ended, that is the reason, and the attempt
  // is lost.
  AttemptOutcome OutcomeOf(Member& member);
  // Memory has run out in this member's work: it and the newest others give way, to be taken up again from their
  // checkpoints.
  void Shrink(Member& member);
  // Those that only wait hear that the pack's work goes on.
  void TellTheOthers(const Member& member);
  // Those that have ended are gone.
  void Sweep();
  // Each hears how many train together now.
  void TellThePack();

  const Deps deps_;
  PackFeed& feed_;
  std::vector<std::unique_ptr<Member>> members_;  // in the order in which they came
  std::vector<methods::SlotOptions> methods_;     // by slot of the trainer
  std::unique_ptr<train::Trainer> trainer_;
  int64_t ticks_ = 0;
};

}  // namespace loupe::worker::executor
