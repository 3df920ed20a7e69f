#include "worker/executor/pack.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/logging.h"
#include "worker/executor/attached_adapter.h"
#include "worker/executor/attempt_log.h"
#include "worker/executor/thrown.h"
#include "worker/methods/method_registry.h"
#include "worker/runtime/freed_memory.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker::executor {

void Pack::Run() {
  for (;;) {
    Admit();
    if (members_.empty()) break;
    Step();
    Sweep();
  }
  trainer_.reset();
  runtime::ReturnFreedMemory();
}

void Pack::Admit() {
  while (HasRoom()) {
    std::optional<HeardAttempt> next = feed_.Next();
    if (!next) return;
    members_.push_back(std::make_unique<Member>());
    Member& member = *members_.back();
    member.heard = *std::move(next);
    Guarded(member, [&] { Prepare(member); });
    Sweep();
  }
}

bool Pack::HasRoom() const {
  if (members_.empty()) return true;
  const bool alone = Trial::HasRanks(members_.front()->heard.spec.settings);
  return !alone && static_cast<int32_t>(members_.size()) < deps_.room->slots() && !deps_.stale();
}

void Pack::Prepare(Member& member) {
  if (trainer_ == nullptr) {
    deps_.begin();
    deps_.room->BeforeFirst();
  }
  const auto prepare = [&] {
    member.trial = std::make_unique<Trial>(member.heard, *deps_.models, *deps_.inputs, *deps_.tasks, *deps_.meter,
                                           [this, &member] { TellTheOthers(member); });
    member.trial->StartRanks(*deps_.ranks);
    member.trial->Prepare();
  };
  if (trainer_ == nullptr) {
    prepare();
    base::BaseModel& base = member.trial->base();
    trainer_ = std::make_unique<train::Trainer>(
        base,
        [this, &base](const std::vector<size_t>& slots) {
          std::vector<methods::SlotOptions> options;
          options.reserve(slots.size());
          for (const size_t slot : slots) options.push_back(methods_[slot]);
          return methods::MakeMethod(SitesOf(base), options, deps_.models->device(), methods::SlotOperators::kOwn);
        },
        std::vector<train::TrainSlot>());
  } else {
    trainer_->WithBaseAlone(prepare);
  }
  methods_.push_back(member.trial->method_options());
  member.trial->Join(*trainer_);
  member.steps = true;
  for (const auto& other : members_) other->trial->NotePack(members_.size());
  TellThePack();
}

bool Pack::Guarded(Member& member, const std::function<void()>& work) {
  const AttemptLogScope its_log(member.heard.observer);
  const LogFieldScope its_name("trial", member.heard.spec.trial);
  try {
    work();
    return true;
  } catch (...) {
    if (members_.size() > 1 && OutOfMemory()) {
      Shrink(&member);
    } else {
      End(member, OutcomeOf(member));
    }
    return false;
  }
}

AttemptOutcome Pack::OutcomeOf(Member& member) {
  AttemptOutcome outcome = OutcomeOfThrown();
  const bool unexplained =
      outcome.kind == AttemptOutcome::Kind::kFailure && outcome.failure_class == FailureClass::kRetryable;
  if (!unexplained || member.trial == nullptr) return outcome;
  const std::string ended = member.trial->WhyRanksEnded();
  if (ended.empty()) return outcome;
  // What was thrown says no more than that a connection closed.
  return Failed(FailureClass::kLost, ended);
}

void Pack::Shrink(Member* member) {
  const size_t left = members_.size() / 2;
  LogWarning("memory has run out with {} trials together: {} go on, the others are given back", members_.size(), left);
  deps_.room->Halve(members_.size());
  // What it was at is half done: its checkpoint stands.
  if (member != nullptr) End(*member, GivenBack());
  size_t staying = 0;
  for (const auto& other : members_) {
    if (other->trial == nullptr || ++staying <= left) continue;
    Member& newest = *other;
    Guarded(newest, [&] {
      LogWarning("{}: given back with what it has learnt, as memory has run out", newest.heard.spec.trial);
      newest.trial->training().SaveNow();
      throw runtime::Stopped();
    });
  }
}

void Pack::End(Member& member, AttemptOutcome outcome) {
  if (member.steps) trainer_->Release(member.trial->training().slot());
  member.steps = false;
  member.trial.reset();
  feed_.Finish(member.heard, std::move(outcome));
  member.heard.observer = nullptr;
}

void Pack::Sweep() {
  if (std::erase_if(members_, [](const auto& member) { return member->heard.observer == nullptr; }) > 0) TellThePack();
}

void Pack::TellThePack() {
  for (const auto& member : members_) {
    if (member->heard.observer != nullptr) member->heard.observer->OnPack(static_cast<int32_t>(members_.size()));
  }
}

void Pack::TellTheOthers(const Member& member) {
  ++ticks_;
  for (const auto& other : members_) {
    if (other.get() != &member && other->heard.observer != nullptr)
      other->heard.observer->OnProgress("wait", ticks_, 0);
  }
}

}  // namespace loupe::worker::executor
