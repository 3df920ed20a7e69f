// How a pack steps and scores its trials: in turn, or in shared passes.
#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

#include "common/process_use.h"
#include "spdlog/spdlog.h"
#include "worker/executor/pack.h"
#include "worker/executor/thrown.h"
#include "worker/methods/method_registry.h"

namespace loupe::worker::executor {
namespace {

// A trial that is no further behind the others is waited for: from then on they share. Further, and they would stand
// still for long.
constexpr int64_t kCatchUp = 8;

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
  deps_.shares_passes ? StepInSharedPasses(training) : StepInTurn(training);
  std::erase_if(training,
                [](const Member* member) { return member->trial == nullptr || !member->trial->training().ended(); });
  if (deps_.shares_passes) {
    for (const std::vector<Member*>& pass : Passes(training)) ScoreTogether(pass);
  } else {
    for (Member* member : training) {
      if (member->trial != nullptr) Guarded(*member, [&] { Score(*member); });
    }
  }
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
    if (!its.ended() && (ahead == 0 || ahead > kCatchUp)) StepAlone(*member);
  }
}

std::vector<std::vector<Pack::Member*>> Pack::Passes(const std::vector<Member*>& members) const {
  std::vector<std::vector<Member*>> passes;
  const auto fit = [&](const Member& a, const Member& b) {
    return methods::CanSharePass(a.heard.spec.settings, b.heard.spec.settings) &&
           trainer_->WhyApart(a.trial->training().slot(), b.trial->training().slot()).empty() &&
           a.trial->SamplesLike(*b.trial);
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

train::Trainer::PassGroup Pack::GroupOf(const std::vector<Member*>& pass) const {
  train::Trainer::PassGroup group;
  for (const Member* member : pass) group.slots.push_back(member->trial->training().slot());
  const settings::Settings& settings = pass.front()->heard.spec.settings;
  if (methods::MethodOf(settings).packable && !Trial::HasRanks(settings)) group.width = deps_.room->width();
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
    spdlog::warn("trials cannot share their passes: {}", FirstLine(error.what()));
  }
}

void Pack::StepTogether(std::vector<Member*> pass) {
  std::erase_if(pass, [](const Member* member) { return member->trial == nullptr; });
  if (pass.empty()) return;
  if (pass.size() == 1) {
    StepAlone(*pass.front());
    return;
  }
  try {
    StepWith(pass);
    return;
  } catch (const std::exception& error) {
    if (OutOfMemory()) {
      Shrink(nullptr);
      return;
    }
    spdlog::warn("a pass of {} trials failed: {}; each is tried alone", pass.size(), FirstLine(error.what()));
  }
  std::vector<train::Trainer::PassGroup> alone;
  for (const auto& member : members_) {
    if (member->trial != nullptr) alone.push_back(GroupOf({member.get()}));
  }
  Regroup(alone);
  for (Member* member : pass) StepAlone(*member);
}

void Pack::StepAlone(Member& member) {
  Guarded(member, [&] {
    member.trial->AnnounceStep();
    StepWith({&member});
  });
}

void Pack::StepWith(const std::vector<Member*>& pass) {
  const auto start = std::chrono::steady_clock::now();
  const double cpu_start = ProcessCpuSeconds();
  const std::vector<train::SlotStep> steps = trainer_->StepWith(pass.front()->trial->training().slot());
  const auto share = static_cast<double>(pass.size());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / share;
  const double cpu_seconds = (ProcessCpuSeconds() - cpu_start) / share;
  for (Member* const one : pass) {
    deps_.meter->AddStep(seconds);
    Guarded(*one, [&] { one->trial->Take(steps[one->trial->training().slot()], seconds, cpu_seconds); });
  }
}

void Pack::Score(Member& member) {
  TrialTraining& training = member.trial->training();
  training.End();
  AttemptOutcome outcome;
  trainer_->WithSlotAlone(training.slot(),
                          [&](methods::Method& method) { outcome = member.trial->SampleAndScore(method); });
  End(member, std::move(outcome));
}

void Pack::ScoreTogether(std::vector<Member*> pass) {
  std::erase_if(pass, [&](Member* member) {
    return member->trial == nullptr || !Guarded(*member, [&] { member->trial->training().End(); });
  });
  if (pass.empty()) return;
  const train::Trainer::PassGroup group = GroupOf(pass);
  if (group.width == 0) {
    for (Member* member : pass) {
      if (member->trial != nullptr) Guarded(*member, [&] { Score(*member); });
    }
    return;
  }
  std::vector<Trial*> trials;
  trials.reserve(pass.size());
  for (const Member* member : pass) trials.push_back(member->trial.get());
  std::vector<std::vector<io::Image>> pictures;
  const auto sample = [&] {
    trainer_->WithSlotsTogether(group,
                                [&](methods::Method&) { pictures = Trial::SampleTogether(trials, group.width); });
  };
  if (pass.size() == 1) {
    if (!Guarded(*pass.front(), sample)) return;
  } else {
    try {
      sample();
    } catch (const std::exception& error) {
      if (OutOfMemory()) {
        Shrink(nullptr);
        return;
      }
      // One of them is told to stop, or predicts what is not finite: each then hears it for itself.
      spdlog::info("the pictures of {} trials together: {}; each is sampled alone", pass.size(),
                   FirstLine(error.what()));
      for (Member* member : pass) ScoreTogether({member});
      return;
    }
  }
  for (size_t i = 0; i < pass.size(); ++i) {
    Member& member = *pass[i];
    if (member.trial == nullptr) continue;  // gave way to another
    Guarded(member, [&] {
      AttemptOutcome outcome;
      trainer_->WithSlotAlone(member.trial->training().slot(),
                              [&](methods::Method& method) { outcome = member.trial->Score(method, pictures[i]); });
      End(member, std::move(outcome));
    });
  }
}

}  // namespace loupe::worker::executor
