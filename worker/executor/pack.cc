#include "worker/executor/pack.h"

#include <algorithm>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include "common/logging.h"
#include "common/process_use.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"
#include "worker/executor/attached_adapter.h"
#include "worker/executor/attempt_log.h"
#include "worker/methods/method_registry.h"
#include "worker/runtime/finite.h"
#include "worker/runtime/freed_memory.h"
#include "worker/runtime/user_error.h"

namespace loupe::worker::executor {
namespace {

// A trial that is no further behind the others is waited for: from then on they share. Further, and they would stand
// still for long.
constexpr int64_t kCatchUp = 8;

AttemptOutcome Failed(FailureClass failure_class, std::string message) {
  AttemptOutcome outcome;
  outcome.kind = AttemptOutcome::Kind::kFailure;
  outcome.failure_class = failure_class;
  outcome.failure_message = std::move(message);
  return outcome;
}

AttemptOutcome GivenBack() {
  AttemptOutcome outcome;
  outcome.kind = AttemptOutcome::Kind::kStopped;
  return outcome;
}

// LibTorch's messages: the first line is the sentence, the rest is where in LibTorch it was raised.
std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

// What the exception that is being handled means for the attempt.
AttemptOutcome OutcomeOfThrown() {
  try {
    throw;
  } catch (const runtime::Stopped&) {
    return GivenBack();
  } catch (const runtime::UserError& error) {
    return Failed(FailureClass::kUserError, FirstLine(error.what()));
  } catch (const runtime::NotFinite& error) {
    return Failed(FailureClass::kUserError, FirstLine(error.what()));
  } catch (const c10::OutOfMemoryError& error) {
    return Failed(FailureClass::kRetryable,
                  fmt::format("out of memory on the GPU ({}); a smaller budget.batch or sample.chunk needs less",
                              FirstLine(error.what_without_backtrace())));
  } catch (const c10::Error& error) {
    return Failed(FailureClass::kRetryable, FirstLine(error.what_without_backtrace()));
  } catch (const std::bad_alloc&) {
    return Failed(FailureClass::kRetryable, "out of memory; a smaller budget.batch or sample.chunk needs less");
  } catch (const std::exception& error) {
    return Failed(FailureClass::kRetryable, FirstLine(error.what()));
  }
}

// Whether the exception that is being handled says that there is no memory.
bool OutOfMemory() {
  try {
    throw;
  } catch (const c10::OutOfMemoryError&) {
    return true;
  } catch (const std::bad_alloc&) {
    return true;
  } catch (const c10::Error& error) {
    // LibTorch's allocator of the CPU has no class of its own for it.
    return std::string(error.what_without_backtrace()).find("DefaultCPUAllocator") != std::string::npos;
  } catch (...) {
    return false;
  }
}

}  // namespace

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
    for (Member* member : training) Guarded(*member, [&] { Score(*member); });
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
    if (member->trial != nullptr) alone.push_back({.slots = {member->trial->training().slot()}});
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
    for (Member* member : pass) Guarded(*member, [&] { Score(*member); });
    return;
  }
  std::vector<Trial*> trials;
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
  spdlog::warn("memory has run out with {} trials together: {} go on, the others are given back", members_.size(),
               left);
  deps_.room->Halve(members_.size());
  // What it was at is half done: its checkpoint stands.
  if (member != nullptr) End(*member, GivenBack());
  size_t staying = 0;
  for (const auto& other : members_) {
    if (other->trial == nullptr || ++staying <= left) continue;
    Member& newest = *other;
    Guarded(newest, [&] {
      spdlog::warn("{}: given back with what it has learnt, as memory has run out", newest.heard.spec.trial);
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
