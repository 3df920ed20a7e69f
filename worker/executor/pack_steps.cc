// How a pack steps and scores its trials: in turn, or in shared passes.
#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "common/logging.h"
#include "common/process_use.h"
#include "worker/executor/pack.h"
#include "worker/executor/thrown.h"
#include "worker/methods/method_registry.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker::executor {
namespace {

// A trial that is no further behind the others is waited for: from then on they share. Further, and they would stand
// still for long.
constexpr int64_t kCatchUp = 8;

// While one lives, the slots' averages are in place of their trained values.
class AveragesInPlace {
 public:
  AveragesInPlace(train::Trainer& trainer, std::vector<size_t> slots) : trainer_(trainer), slots_(std::move(slots)) {
    Swap();
  }
  ~AveragesInPlace() { Swap(); }
  AveragesInPlace(const AveragesInPlace&) = delete;
  AveragesInPlace& operator=(const AveragesInPlace&) = delete;

 private:
  void Swap() {
    for (const size_t slot : slots_) trainer_.SwapAverage(slot);
  }

  train::Trainer& trainer_;
  const std::vector<size_t> slots_;
};

}  // namespace

void Pack::Step() {
  std::vector<Member*> training;
  for (const auto& member : members_) {
    Member& one = *member;
    if (one.trial == nullptr) continue;  // gave way to another
    if (Guarded(one, [&] { one.trial->training().StopIfTold(); })) training.push_back(&one);
  }
  std::erase_if(training, [](const Member* member) { return member->trial == nullptr; });
  if (training.empty()) return;
  if (deps_.shares_passes) {
    StepInSharedPasses(training);
  } else {
    StepInTurn(training);
  }
  std::erase_if(training,
                [](const Member* member) { return member->trial == nullptr || !member->trial->training().ended(); });
  for (const std::vector<Member*>& pass : Passes(training)) Score(pass);
  deps_.room->AfterStep();
}

void Pack::StepInTurn(const std::vector<Member*>& training) {
  const auto behind = *std::min_element(training.begin(), training.end(), [](const Member* a, const Member* b) {
    return a->trial->training().steps() < b->trial->training().steps();
  });
  const int64_t least = behind->trial->training().steps();
  const train::Trainer::Together together(*trainer_);
  for (Member* member : training) {
    if (member->trial == nullptr) continue;
    const TrialTraining& its = member->trial->training();
    const int64_t ahead = its.steps() - least;
    if (!its.ended() && (ahead == 0 || ahead > kCatchUp)) StepTogether({member});
  }
}

std::vector<std::vector<Pack::Member*>> Pack::Passes(const std::vector<Member*>& members) const {
  std::vector<std::vector<Member*>> passes;
  const auto fit = [&](const Member& a, const Member& b) {
    return deps_.shares_passes && methods::CanSharePass(a.heard.spec.settings, b.heard.spec.settings) &&
           trainer_->WhyApart(a.trial->training().slot(), b.trial->training().slot()).empty() &&
           a.trial->LooksLike(*b.trial);
  };
  for (Member* member : members) {
    const auto with = std::find_if(passes.begin(), passes.end(),
                                   [&](const std::vector<Member*>& pass) { return fit(*pass.front(), *member); });
    if (with != passes.end()) {
      with->push_back(member);
    } else {
      passes.push_back({member});
    }
  }
  return passes;
}

std::vector<Trial*> Pack::TrialsOf(const std::vector<Member*>& members) {
  std::vector<Trial*> trials;
  trials.reserve(members.size());
  for (const Member* member : members) trials.push_back(member->trial.get());
  return trials;
}

train::Trainer::PassGroup Pack::GroupOf(const std::vector<Member*>& pass) const {
  train::Trainer::PassGroup group;
  for (const Member* member : pass) group.slots.push_back(member->trial->training().slot());
  const settings::Settings& settings = pass.front()->heard.spec.settings;
  if (deps_.shares_passes && methods::MethodOf(settings).packable && !Trial::HasRanks(settings)) {
    group.width = deps_.room->width();
  }
  return group;
}

void Pack::StepInSharedPasses(const std::vector<Member*>& training) {
  std::vector<Member*> steps;
  std::vector<train::Trainer::PassGroup> groups;
  for (Member* member : training) {
    if (member->trial->training().ended()) {
      groups.push_back(GroupOf({member}));
    } else {
      steps.push_back(member);
    }
  }
  const std::vector<std::vector<Member*>> passes = Passes(steps);
  for (const std::vector<Member*>& pass : passes) {
    groups.push_back(GroupOf(pass));
    for (const Member* member : pass) member->trial->NotePassWidth(groups.back().width);
  }
  Regroup(groups);
  for (const std::vector<Member*>& pass : passes) StepTogether(pass);
}

void Pack::Regroup(const std::vector<train::Trainer::PassGroup>& groups) {
  try {
    trainer_->Regroup(groups);
  } catch (const std::exception& error) {
    // Some then have a pass of their own, in which whoever is to blame is found.
    LogWarning("trials cannot share their passes: {}", runtime::FirstLine(error.what()));
  }
}

void Pack::Together(const std::vector<Member*>& pass, const std::function<void(const std::vector<Member*>&)>& work) {
  std::vector<Member*> left = pass;
  std::erase_if(left, [](const Member* member) { return member->trial == nullptr; });
  if (left.empty()) return;
  if (left.size() == 1) {
    Guarded(*left.front(), [&] { work(left); });
    return;
  }
  try {
    work(left);
    return;
  } catch (const std::exception& error) {
    if (OutOfMemory()) {
      Shrink(nullptr);
      return;
    }
    LogInfo("a pass of {} trials: {}; each is tried alone", left.size(), runtime::FirstLine(error.what()));
  }
  std::vector<train::Trainer::PassGroup> apart;
  for (const auto& member : members_) {
    if (member->trial != nullptr) apart.push_back(GroupOf({member.get()}));
  }
  Regroup(apart);
  for (Member* member : left) Together({member}, work);
}

void Pack::StepTogether(const std::vector<Member*>& pass) {
  Together(pass, [this](const std::vector<Member*>& members) { StepWith(members); });
  WhileDue(pass, &TrialTraining::validation_due, &Pack::Validate);
  WhileDue(pass, &TrialTraining::scores_due, &Pack::ScoreAlongTheWay);
  for (Member* const one : pass) {
    if (one->trial != nullptr) Guarded(*one, [&] { one->trial->training().EndStep(); });
  }
}

void Pack::WhileDue(const std::vector<Member*>& pass, bool (TrialTraining::*due)() const,
                    void (Pack::*work)(const std::vector<Member*>&)) {
  for (;;) {
    std::vector<Member*> members = pass;
    std::erase_if(members,
                  [&](const Member* one) { return one->trial == nullptr || !(one->trial->training().*due)(); });
    if (members.empty()) return;
    // Where memory runs out, half of the pack has given way, and the others are tried again.
    Together(members, [&](const std::vector<Member*>& those) { (this->*work)(those); });
  }
}

void Pack::StepWith(const std::vector<Member*>& pass) {
  const auto start = std::chrono::steady_clock::now();
  const double cpu_start = ProcessCpuSeconds();
  pass.front()->trial->AnnounceStep();
  const std::vector<train::SlotStep> steps = trainer_->StepWith(pass.front()->trial->training().slot());
  const auto share = static_cast<double>(pass.size());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / share;
  const double cpu_seconds = (ProcessCpuSeconds() - cpu_start) / share;
  for (Member* const one : pass) {
    if (one->trial == nullptr) continue;  // gave way to another
    deps_.meter->AddStep(seconds);
    Guarded(*one, [&] { one->trial->Take(steps[one->trial->training().slot()], seconds, cpu_seconds); });
  }
}

void Pack::Validate(const std::vector<Member*>& due) {
  const train::Trainer::PassGroup group = GroupOf(due);
  std::vector<double> losses;
  trainer_->WithSlotsTogether(group,
                              [&](methods::Method&) { losses = Trial::ValidationLosses(TrialsOf(due), group.width); });
  for (size_t i = 0; i < due.size(); ++i) {
    if (due[i]->trial == nullptr) continue;  // gave way to another
    Guarded(*due[i], [&] { due[i]->trial->training().TakeValidation(losses[i]); });
  }
}

void Pack::ScoreAlongTheWay(const std::vector<Member*>& due) {
  const train::Trainer::PassGroup group = GroupOf(due);
  const AveragesInPlace averages(*trainer_, group.slots);
  trainer_->WithSlotsTogether(group, [&](methods::Method&) { Trial::ScoreAlongTheWay(TrialsOf(due), group.width); });
}

void Pack::Score(std::vector<Member*> pass) {
  std::erase_if(pass, [&](Member* member) {
    return member->trial == nullptr || !Guarded(*member, [&] { member->trial->training().End(); });
  });
  Together(pass, [this](const std::vector<Member*>& members) {
    const train::Trainer::PassGroup group = GroupOf(members);
    std::vector<Trial::Looks> looks;
    trainer_->WithSlotsTogether(group, [&](methods::Method&) { looks = Trial::Look(TrialsOf(members), group.width); });
    for (size_t i = 0; i < members.size(); ++i) {
      Member& member = *members[i];
      if (member.trial == nullptr) continue;  // gave way to another
      Guarded(member, [&] {
        AttemptOutcome outcome;
        trainer_->WithSlotAlone(member.trial->training().slot(),
                                [&](methods::Method& method) { outcome = member.trial->Score(method, looks[i]); });
        End(member, std::move(outcome));
      });
    }
  });
}

}  // namespace loupe::worker::executor
