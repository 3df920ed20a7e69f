// Trials that are trained together: what they have in common is computed once, and all else is each one's own.
//
// There are two ways to step them (train/trainer.h). In turn, as on a CPU: those at the same step one after another, so
// that passes on the same rows share what no method has changed yet; a trial that comes while others are under way
// catches up with those that are a few steps ahead, and then goes with them. Or in shared passes, as on a GPU, which
// computes the rows of eight trials in hardly more time than those of one: all that fit each other are one batch,
// whichever steps they are at, and idle slots keep it as wide as the worker has slots, so that no trial's arithmetic
// depends on how many others there are.
//
// One that ends is sampled and scored at once. Who ends, fails, is cancelled or replaced leaves the others as they are:
// in turn, a trial's result is, byte for byte, that of a run alone; in shared passes that of a run among idle slots, up
// to what a device's operators make of a row's place in the batch.
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
    // Whether trials go through the base as one batch.
    bool shares_passes;
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
  void StepInTurn(const std::vector<Member*>& training);
  void StepInSharedPasses(const std::vector<Member*>& training);
  // Who of these goes through the base together.
  std::vector<std::vector<Member*>> Passes(const std::vector<Member*>& members) const;
  static std::vector<Trial*> TrialsOf(const std::vector<Member*>& members);
  // What they go in: one, where passes are each one's own.
  train::Trainer::PassGroup GroupOf(const std::vector<Member*>& pass) const;
  void Regroup(const std::vector<train::Trainer::PassGroup>& groups);
  // A step of those that go through the base together, and all that it makes due.
  void StepTogether(const std::vector<Member*>& pass);
  void StepWith(const std::vector<Member*>& pass);
  // Does the work with those of the pass for which it is due, until it is for none.
  void WhileDue(const std::vector<Member*>& pass, bool (TrialTraining::*due)() const,
                void (Pack::*work)(const std::vector<Member*>&));
  void Validate(const std::vector<Member*>& due);
  void ScoreAlongTheWay(const std::vector<Member*>& due);
  // Runs what all of a pass have a hand in. Where memory runs out in it, half of the pack gives way; where it ends in
  // another exception, nobody is to blame yet: each does it alone, and whose work then ends in one has ended.
  void Together(const std::vector<Member*>& pass, const std::function<void(const std::vector<Member*>&)>& work);
  // Their results, and their ends.
  void Score(std::vector<Member*> pass);
  // Runs a part of a member's work; where it ends in an exception, the member has ended. False then.
  bool Guarded(Member& member, const std::function<void()>& work);
  void End(Member& member, AttemptOutcome outcome);
  // Of the exception that is being handled: where another rank of the member ended, that is the reason, and the attempt
  // is lost.
  AttemptOutcome OutcomeOf(Member& member);
  // Memory has run out, in this member's work or, null, in a shared pass: it and the newest others give way, to be
  // taken up again from their checkpoints.
  void Shrink(Member* member);
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
