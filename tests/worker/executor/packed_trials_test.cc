// Whole trials in packs, on the built-in base, beside the same trials alone: files and scores are the same bytes,
// whoever else is in the pack and whatever becomes of the others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <filesystem>
#include <new>
#include <string>
#include <string_view>

#include "common/atomic_file.h"
#include "tests/testing/once_failing_allocator.h"
#include "tests/worker/executor/trial_fixture.h"

namespace loupe::worker::executor {
namespace {

// Runs out of memory when it is told of a step.
class ForgetfulObserver : public RecordingObserver {
 public:
  ForgetfulObserver(std::string folder, int64_t at_step) : RecordingObserver(std::move(folder)), at_step_(at_step) {}
  void OnMetric(std::string_view metric, int64_t step, double value) override {
    if (metric == "loss" && step == std::exchange(at_step_, at_step_ == step ? -1 : at_step_)) throw std::bad_alloc();
    RecordingObserver::OnMetric(metric, step, value);
  }

 private:
  int64_t at_step_;
};

// Is told to stop as soon as its pictures are begun.
class StopsWhileSampling : public RecordingObserver {
 public:
  using RecordingObserver::RecordingObserver;
  bool ShouldStop() const override { return phases.contains("sample"); }
};

// Lets memory run out after a step.
class ArmingObserver : public RecordingObserver {
 public:
  ArmingObserver(std::string folder, int64_t at_step, testing::OnceFailingAllocator& allocator)
      : RecordingObserver(std::move(folder)), at_step_(at_step), allocator_(allocator) {}
  void OnMetric(std::string_view metric, int64_t step, double value) override {
    if (metric == "loss" && step == at_step_) allocator_.Arm();
    RecordingObserver::OnMetric(metric, step, value);
  }

 private:
  const int64_t at_step_;
  testing::OnceFailingAllocator& allocator_;
};

// Attempts that wait from the start, and others that come when the pack has ended `after` of them.
class TestFeed : public PackFeed {
 public:
  void Add(const AttemptSpec& spec, AttemptObserver& observer, size_t after = 0) {
    waiting_.push_back({{spec, &observer}, after});
  }
  std::optional<HeardAttempt> Next() override {
    if (waiting_.empty() || outcomes.size() < waiting_.front().after) return std::nullopt;
    HeardAttempt next = std::move(waiting_.front().attempt);
    waiting_.pop_front();
    most_together = std::max(most_together, ++running_);
    return next;
  }
  void Finish(const HeardAttempt& attempt, AttemptOutcome outcome) override {
    --running_;
    outcomes[attempt.observer] = std::move(outcome);
  }

  std::map<const AttemptObserver*, AttemptOutcome> outcomes;
  int most_together = 0;

 private:
  struct Waiting {
    HeardAttempt attempt;
    size_t after;
  };
  std::deque<Waiting> waiting_;
  int running_ = 0;
};

using Cell = std::map<std::string, std::string>;

class PackedTrialsTest : public TrialTest {
 protected:
  static void SetUpTestSuite() { MakeFolder("packed_trials_test"); }

  using Passes = TrialExecutorOptions::Passes;

  static std::unique_ptr<Executor> Packer(int32_t slots, Passes passes = Passes::kByDevice) {
    auto executor = MakeTrialExecutor(
        {.device = "cpu", .threads = 1, .cache_folder = root_ + "/cache", .slots = slots, .passes = passes});
    EXPECT_TRUE(executor.ok()) << executor.status();
    return *std::move(executor);
  }
  static std::string Folder(std::string_view kind, std::string_view name) {
    return std::string(root_).append(kind).append(name);
  }
  // The same cell alone, once.
  const RecordingObserver& Alone(const std::string& name, const Cell& cell) {
    auto& observer = alone_[name];
    if (observer == nullptr) {
      observer = std::make_unique<RecordingObserver>(Folder("/alone-", name));
      outcomes_[name] = Packer(1)->Run(Spec("alone-" + name, cell), *observer);
    }
    return *observer;
  }
  void ExpectAsAlone(const std::string& name, const Cell& cell, const RecordingObserver& packed,
                     const AttemptOutcome& outcome) {
    SCOPED_TRACE(name);
    const RecordingObserver& alone = Alone(name, cell);
    ASSERT_EQ(outcome.kind, outcomes_[name].kind) << outcome.failure_message;
    EXPECT_EQ(outcome.scores, outcomes_[name].scores) << "bit for bit";
    EXPECT_EQ(packed.losses, alone.losses);
    for (const char* file : {"adapter.safetensors", "samples.png", "embeddings.npy", "embeddings-base.npy"}) {
      EXPECT_EQ(*ReadFile(packed.File(file)), *ReadFile(alone.File(file))) << file;
    }
  }

  // The losses of passes of one's own, up to rounding: at first nothing but that, and then what AdamW makes of it,
  // whose first steps are of one length whatever the gradient is, so that rounding decides where there is next to none.
  static void ExpectNear(const RecordingObserver& shared, const RecordingObserver& alone) {
    ASSERT_EQ(alone.losses.size(), 3u);
    for (const auto& [step, loss] : shared.losses) {
      EXPECT_NEAR(loss, alone.losses.at(step), (step == 1 ? 1e-6 : 1e-4) * loss) << step;
    }
  }

  const std::map<std::string, Cell> cells_ = {
      {"adapter", {}},
      {"silu", {{"method.input", "SA_in"}, {"method.activation", "silu"}, {"train.ema_decay", "0.9"}}},
      {"lora",
       {{"method.kind", "lora"},
        {"method.input", ""},
        {"method.output", ""},
        {"method.width", ""},
        {"method.dropout", "0.2"}}},
      {"bitfit", {{"method.kind", "bitfit"}, {"method.input", ""}, {"method.output", ""}, {"method.width", ""}}},
  };
  // Of one method, unlike in all else that it lets differ.
  const std::map<std::string, Cell> shared_cells_ = {
      {"a", {{"method.activation", "silu"}}},
      {"b", {{"method.input", "SA_in"}, {"method.width", "6"}, {"train.ema_decay", "0.9"}}},
      {"c", {{"method.output", "Trans_out"}, {"train.learning_rate", "0.003"}, {"method.scale", "2"}}},
      {"d", {{"method.input", "Res_in"}, {"method.output", "Res_out"}}},
  };

 private:
  static inline std::map<std::string, std::unique_ptr<RecordingObserver>> alone_;
  static inline std::map<std::string, AttemptOutcome> outcomes_;
};

TEST_F(PackedTrialsTest, EachEndsAsItWouldAlone) {
  const auto executor = Packer(4);
  TestFeed feed;
  std::map<std::string, std::unique_ptr<RecordingObserver>> packed;
  for (const auto& [name, cell] : cells_) {
    packed[name] = std::make_unique<RecordingObserver>(Folder("/packed-", name));
    feed.Add(Spec("packed-" + name, cell), *packed[name]);
  }
  executor->RunPack(feed);
  EXPECT_EQ(feed.most_together, 4);
  for (const auto& [name, cell] : cells_) {
    const AttemptOutcome& outcome = feed.outcomes.at(packed[name].get());
    ExpectAsAlone(name, cell, *packed[name], outcome);
    EXPECT_EQ(outcome.provenance.at("pack"), "4");
    EXPECT_THAT(packed[name]->packs, ::testing::Contains(4));
  }
  EXPECT_THAT(packed.at("adapter")->packs, ::testing::ElementsAre(1, 2, 3, 4)) << "as the others come";
}

// Their captions are encoded in each step, by each for itself, and what follows from the text is not shared: a word of
// one's own and a tuned text encoder leave the neighbour's text alone.
TEST_F(PackedTrialsTest, WhoTrainsTextEndsAsAlone) {
  const std::map<std::string, Cell> cells = {
      {"adapter", {}},
      {"inversion",
       {{"method.kind", "textual-inversion"}, {"method.input", ""}, {"method.output", ""}, {"method.width", ""}}},
      {"text",
       {{"method.kind", "lora"},
        {"method.text_encoder", "true"},
        {"method.input", ""},
        {"method.output", ""},
        {"method.width", ""}}},
  };
  const auto executor = Packer(3);
  TestFeed feed;
  std::map<std::string, std::unique_ptr<RecordingObserver>> packed;
  for (const auto& [name, cell] : cells) {
    packed[name] = std::make_unique<RecordingObserver>(Folder("/packed-with-", name));
    feed.Add(Spec("packed-with-" + name, cell), *packed[name]);
  }
  executor->RunPack(feed);
  EXPECT_EQ(feed.most_together, 3);
  for (const auto& [name, cell] : cells) {
    ExpectAsAlone(name, cell, *packed[name], feed.outcomes.at(packed[name].get()));
  }
}

// One is told to stop after a step, one diverges, one takes a place that became free and resumes the stopped one's
// checkpoint: the last goes through all of it.
TEST_F(PackedTrialsTest, WhoLeavesAndWhoComesChangesNothing) {
  const auto executor = Packer(3);
  TestFeed feed;
  RecordingObserver stays(root_ + "/stays"), stopped(root_ + "/stops", /*stop_at_step=*/1),
      diverges(root_ + "/diverges"), resumed(root_ + "/resumes");
  feed.Add(Spec("torn-stays", cells_.at("adapter")), stays);
  feed.Add(Spec("torn-silu", cells_.at("silu")), stopped);
  feed.Add(Spec("torn-diverges", {{"train.learning_rate", "100"}, {"train.epsilon", "0"}, {"method.init", "zero"}}),
           diverges);
  feed.Add(Spec("torn-silu", cells_.at("silu")), resumed, /*after=*/1);
  executor->RunPack(feed);
  EXPECT_EQ(feed.outcomes.at(&stopped).kind, AttemptOutcome::Kind::kStopped);
  EXPECT_EQ(feed.outcomes.at(&diverges).failure_class, FailureClass::kUserError);
  ExpectAsAlone("adapter", cells_.at("adapter"), stays, feed.outcomes.at(&stays));
  const auto& silu = feed.outcomes.at(&resumed);
  ASSERT_EQ(silu.kind, AttemptOutcome::Kind::kSuccess) << silu.failure_message;
  EXPECT_EQ(resumed.losses.size(), 2u) << "it had a step";
  Alone("silu", cells_.at("silu"));
  EXPECT_EQ(*ReadFile(resumed.File("adapter.safetensors")), *ReadFile(root_ + "/alone-silu/adapter.safetensors"));
}

TEST_F(PackedTrialsTest, WithoutMemoryHalfGoOnAndNothingIsLost) {
  const auto executor = Packer(4);
  TestFeed feed;
  std::vector<std::unique_ptr<RecordingObserver>> observers;
  for (int i = 0; i < 4; ++i) {
    const std::string folder = Folder("/memory-", std::to_string(i));
    observers.push_back(i == 1 ? std::make_unique<ForgetfulObserver>(folder, 2)
                               : std::make_unique<RecordingObserver>(folder));
    feed.Add(Spec("memory-" + std::to_string(i), {{"train.checkpoint_every", "1"}}), *observers.back());
  }
  executor->RunPack(feed);
  EXPECT_EQ(executor->PackSlots(), 2);
  int ended = 0, given_back = 0;
  for (const auto& observer : observers) {
    const AttemptOutcome& outcome = feed.outcomes.at(observer.get());
    (outcome.kind == AttemptOutcome::Kind::kSuccess ? ended : given_back)++;
    EXPECT_NE(outcome.kind, AttemptOutcome::Kind::kFailure) << outcome.failure_message;
  }
  EXPECT_EQ(ended, 2);
  EXPECT_EQ(given_back, 2);
  EXPECT_THAT(observers.front()->packs, ::testing::ElementsAre(1, 2, 3, 4, 2)) << "who stays hears how many are left";
  // Taken up again, they go on and end as alone.
  TestFeed again;
  RecordingObserver last(root_ + "/memory-again"), other(root_ + "/memory-other");
  again.Add(Spec("memory-1", {{"train.checkpoint_every", "1"}}), last);
  again.Add(Spec("memory-3", {{"train.checkpoint_every", "1"}}), other);
  executor->RunPack(again);
  Alone("adapter", cells_.at("adapter"));
  for (const RecordingObserver* observer : {&last, &other}) {
    ASSERT_EQ(again.outcomes.at(observer).kind, AttemptOutcome::Kind::kSuccess);
    EXPECT_EQ(*ReadFile(observer->File("embeddings.npy")), *ReadFile(root_ + "/alone-adapter/embeddings.npy"));
  }
}

// As on a GPU: one batch for all of a kind, filled up with idle slots. What a trial ends in is the same, to a bit,
// among three others and among three idle slots; one in each place of the pass.
TEST_F(PackedTrialsTest, InSharedPassesTheOthersChangeNothing) {
  const auto executor = Packer(4, Passes::kShared);
  TestFeed feed;
  std::map<std::string, std::unique_ptr<RecordingObserver>> packed;
  for (const auto& [name, cell] : shared_cells_) {
    packed[name] = std::make_unique<RecordingObserver>(Folder("/shared-", name));
    feed.Add(Spec("shared-" + name, cell), *packed[name]);
  }
  executor->RunPack(feed);
  EXPECT_EQ(feed.most_together, 4);
  for (const auto& [name, cell] : shared_cells_) {
    SCOPED_TRACE(name);
    const AttemptOutcome& outcome = feed.outcomes.at(packed[name].get());
    ASSERT_EQ(outcome.kind, AttemptOutcome::Kind::kSuccess) << outcome.failure_message;
    EXPECT_THAT(outcome.provenance.at("numerics"), ::testing::EndsWith(", passes of 4 trials"));
    RecordingObserver idle(Folder("/idle-", name));
    const AttemptOutcome among_idle = executor->Run(Spec("idle-" + name, cell), idle);
    EXPECT_EQ(outcome.scores, among_idle.scores);
    EXPECT_EQ(packed[name]->losses, idle.losses);
    EXPECT_EQ(*ReadFile(packed[name]->File("adapter.safetensors")), *ReadFile(idle.File("adapter.safetensors")));
    ExpectNear(idle, Alone("apart-" + name, cell));
  }
}

// Curves, the task's own scores and its picture of the predicted noise are made in shared passes, too. Two of the
// trials are of another replicate, so that some rows of a pass are the same and some are not.
TEST_F(PackedTrialsTest, InSharedPassesCurvesAndScoresAreAsAmongIdleSlots) {
  const auto executor = Packer(4, Passes::kShared);
  TestFeed feed;
  struct Wanted {
    std::string name;
    Cell cell;
    int64_t replicate;
    std::unique_ptr<RecordingObserver> packed;
  };
  std::vector<Wanted> all;
  for (const auto& [name, cell] : shared_cells_) {
    Wanted& wanted = all.emplace_back(Wanted{name, cell, static_cast<int64_t>(all.size() / 2), nullptr});
    wanted.cell.insert({{"train.validate_every", "2"}, {"score.every", "2"}, {"score.prior_samples", "2"}});
    wanted.packed = std::make_unique<RecordingObserver>(Folder("/curves-", name));
    feed.Add(Spec("curves-" + name, wanted.cell, wanted.replicate), *wanted.packed);
  }
  executor->RunPack(feed);
  const auto own = Packer(1);
  for (const Wanted& wanted : all) {
    SCOPED_TRACE(wanted.name);
    const AttemptOutcome& outcome = feed.outcomes.at(wanted.packed.get());
    ASSERT_EQ(outcome.kind, AttemptOutcome::Kind::kSuccess) << outcome.failure_message;
    RecordingObserver idle(Folder("/curves-idle-", wanted.name)), alone(Folder("/curves-alone-", wanted.name));
    const AttemptOutcome among_idle =
        executor->Run(Spec("curves-idle-" + wanted.name, wanted.cell, wanted.replicate), idle);
    EXPECT_EQ(outcome.scores, among_idle.scores);
    EXPECT_EQ(wanted.packed->curves, idle.curves);
    for (const char* file : {"noise-difference.png", "embeddings-prior.npy", "embeddings.npy", "samples.png"}) {
      EXPECT_EQ(*ReadFile(wanted.packed->File(file)), *ReadFile(idle.File(file))) << file;
    }
    // And up to rounding those of passes of its own, which AdamW has carried on.
    const AttemptOutcome apart = own->Run(Spec("curves-alone-" + wanted.name, wanted.cell, wanted.replicate), alone);
    ASSERT_EQ(idle.curves.size(), alone.curves.size());
    for (const auto& [metric, points] : alone.curves) {
      ASSERT_EQ(idle.curves[metric].size(), points.size()) << metric;
      if (metric.find("loss") == std::string::npos) continue;
      for (const auto& [step, value] : points) EXPECT_NEAR(idle.curves[metric][step], value, 1e-4 * value) << metric;
    }
    EXPECT_THAT(alone.curves.at("validation_loss"), ::testing::SizeIs(1));
    EXPECT_THAT(alone.curves.at("clip_i"), ::testing::SizeIs(2)) << "on the way, and at the end";
    for (const char* score : {"noise_difference", "clip_pres", "clip_i"}) {
      EXPECT_NEAR(outcome.scores.at(score), apart.scores.at(score), 1e-3 * apart.scores.at(score)) << score;
    }
  }
}

TEST_F(PackedTrialsTest, WhoCannotShareAPassHasItsOwn) {
  const auto executor = Packer(4, Passes::kShared);
  TestFeed feed;
  std::map<std::string, std::unique_ptr<RecordingObserver>> packed;
  // Methods of different kinds, batches of two sizes, and one that changes all weights.
  auto cells = cells_;
  cells["batch"] = {{"budget.batch", "2"}};
  cells["full"] = {{"method.kind", "full"}, {"method.input", ""}, {"method.output", ""}, {"method.width", ""}};
  for (const auto& [name, cell] : cells) {
    packed[name] = std::make_unique<RecordingObserver>(Folder("/kinds-", name));
    feed.Add(Spec("kinds-" + name, cell), *packed[name]);
  }
  executor->RunPack(feed);
  for (const auto& [name, cell] : cells) {
    SCOPED_TRACE(name);
    const AttemptOutcome& outcome = feed.outcomes.at(packed[name].get());
    ASSERT_EQ(outcome.kind, AttemptOutcome::Kind::kSuccess) << outcome.failure_message;
    const bool own = name == "full";
    EXPECT_EQ(outcome.provenance.at("numerics").ends_with(", passes of 4 trials"), !own);
    if (own) ExpectAsAlone(name, cell, *packed[name], outcome);
  }
}

TEST_F(PackedTrialsTest, InSharedPassesWhoLeavesAndWhoComesChangesNothing) {
  const auto executor = Packer(3, Passes::kShared);
  RecordingObserver idle(root_ + "/shared-alone"), idle_silu(root_ + "/shared-silu-alone");
  ASSERT_EQ(executor->Run(Spec("shared-alone", cells_.at("adapter")), idle).kind, AttemptOutcome::Kind::kSuccess);
  ASSERT_EQ(executor->Run(Spec("shared-silu-alone", cells_.at("silu")), idle_silu).kind,
            AttemptOutcome::Kind::kSuccess);
  TestFeed feed;
  RecordingObserver stays(root_ + "/shared-stays"), stopped(root_ + "/shared-stops", /*stop_at_step=*/1),
      diverges(root_ + "/shared-diverges"), resumed(root_ + "/shared-resumes");
  feed.Add(Spec("shared-stays", cells_.at("adapter")), stays);
  feed.Add(Spec("shared-torn", cells_.at("silu")), stopped);
  feed.Add(Spec("shared-diverges", {{"train.learning_rate", "100"}, {"train.epsilon", "0"}, {"method.init", "zero"}}),
           diverges);
  feed.Add(Spec("shared-torn", cells_.at("silu")), resumed, /*after=*/1);
  executor->RunPack(feed);
  EXPECT_EQ(feed.outcomes.at(&stopped).kind, AttemptOutcome::Kind::kStopped);
  EXPECT_EQ(feed.outcomes.at(&diverges).failure_class, FailureClass::kUserError);
  ASSERT_EQ(feed.outcomes.at(&stays).kind, AttemptOutcome::Kind::kSuccess) << feed.outcomes.at(&stays).failure_message;
  ASSERT_EQ(feed.outcomes.at(&resumed).kind, AttemptOutcome::Kind::kSuccess);
  EXPECT_EQ(stays.losses, idle.losses);
  EXPECT_EQ(resumed.losses.size(), 2u) << "it had a step";
  EXPECT_EQ(*ReadFile(stays.File("adapter.safetensors")), *ReadFile(idle.File("adapter.safetensors")));
  EXPECT_EQ(*ReadFile(resumed.File("adapter.safetensors")), *ReadFile(idle_silu.File("adapter.safetensors")));
}

// The others' pictures, begun together, are made again without it: the same ones.
TEST_F(PackedTrialsTest, WhoIsStoppedWhileSamplingInASharedPassChangesNothing) {
  const auto executor = Packer(2, Passes::kShared);
  RecordingObserver idle(root_ + "/sampled-alone");
  const AttemptOutcome alone = executor->Run(Spec("sampled-alone", cells_.at("adapter")), idle);
  TestFeed feed;
  RecordingObserver stays(root_ + "/sampled-stays");
  StopsWhileSampling stops(root_ + "/sampled-stops");
  feed.Add(Spec("sampled-stays", cells_.at("adapter")), stays);
  feed.Add(Spec("sampled-stops", cells_.at("silu")), stops);
  executor->RunPack(feed);
  EXPECT_EQ(feed.outcomes.at(&stops).kind, AttemptOutcome::Kind::kStopped);
  EXPECT_EQ(feed.outcomes.at(&stays).scores, alone.scores);
  EXPECT_EQ(*ReadFile(stays.File("samples.png")), *ReadFile(idle.File("samples.png")));
  // Stopped, it has what it trained: taken up again, it has no step left to take, its average in place once.
  RecordingObserver again(root_ + "/sampled-again"), silu(root_ + "/sampled-silu");
  const AttemptOutcome last = executor->Run(Spec("sampled-stops", cells_.at("silu")), again);
  EXPECT_THAT(again.losses, ::testing::IsEmpty());
  EXPECT_THAT(last.provenance.at("numerics"), ::testing::EndsWith(", passes of 2 trials")) << "its pictures'";
  EXPECT_EQ(last.scores, executor->Run(Spec("sampled-silu", cells_.at("silu")), silu).scores);
}

// Memory runs out in the middle of a pass of four, after its batches were drawn: two go on from the same rows in passes
// of two, and the others from their checkpoints.
TEST_F(PackedTrialsTest, ASharedPassThatDoesNotFitIsTakenByHalf) {
  const auto executor = Packer(4, Passes::kShared);
  testing::OnceFailingAllocator allocator;
  TestFeed feed;
  std::vector<std::unique_ptr<RecordingObserver>> observers;
  for (int i = 0; i < 4; ++i) {
    const std::string folder = Folder("/full-", std::to_string(i));
    // At the last one's second step, when all have taken it: the next that asks for much are all four.
    observers.push_back(i == 3 ? std::make_unique<ArmingObserver>(folder, 2, allocator)
                               : std::make_unique<RecordingObserver>(folder));
    feed.Add(Spec("full-" + std::to_string(i), {{"train.checkpoint_every", "1"}}), *observers.back());
  }
  executor->RunPack(feed);
  EXPECT_TRUE(allocator.failed());
  EXPECT_EQ(executor->PackSlots(), 2);
  for (int i = 0; i < 4; ++i) {
    const AttemptOutcome& outcome = feed.outcomes.at(observers[static_cast<size_t>(i)].get());
    EXPECT_EQ(outcome.kind, i < 2 ? AttemptOutcome::Kind::kSuccess : AttemptOutcome::Kind::kStopped) << i;
    if (i < 2) {
      EXPECT_THAT(outcome.provenance.at("numerics"), ::testing::EndsWith(", passes of 2 and 4 trials"));
    }
  }
  EXPECT_THAT(observers.front()->losses, ::testing::SizeIs(3)) << "each step once";
  // Given back, the third goes on from its second step to where it would have come.
  RecordingObserver last(root_ + "/full-again");
  ASSERT_EQ(executor->Run(Spec("full-2", {{"train.checkpoint_every", "1"}}), last).kind,
            AttemptOutcome::Kind::kSuccess);
  EXPECT_THAT(last.losses, ::testing::ElementsAre(::testing::Key(3)));
  const RecordingObserver& alone = Alone("adapter", cells_.at("adapter"));
  ExpectNear(last, alone);
  ExpectNear(*observers.front(), alone);
}

// Memory runs out in the validation that the second step makes due: half of the pack computes it once more, and whoever
// gives way has no checkpoint of a step without it.
TEST_F(PackedTrialsTest, WithoutMemoryForAValidationItsPointIsNotLost) {
  const auto executor = Packer(4, Passes::kShared);
  testing::OnceFailingAllocator allocator;
  TestFeed feed;
  const Cell cell = {{"train.checkpoint_every", "1"}, {"train.validate_every", "2"}};
  std::vector<std::unique_ptr<RecordingObserver>> observers;
  for (int i = 0; i < 4; ++i) {
    const std::string folder = Folder("/validates-", std::to_string(i));
    observers.push_back(i == 3 ? std::make_unique<ArmingObserver>(folder, 2, allocator)
                               : std::make_unique<RecordingObserver>(folder));
    feed.Add(Spec("validates-" + std::to_string(i), cell), *observers.back());
  }
  executor->RunPack(feed);
  EXPECT_TRUE(allocator.failed());
  for (int i = 0; i < 4; ++i) {
    const RecordingObserver& observer = *observers[static_cast<size_t>(i)];
    EXPECT_EQ(feed.outcomes.at(&observer).kind,
              i < 2 ? AttemptOutcome::Kind::kSuccess : AttemptOutcome::Kind::kStopped);
    EXPECT_EQ(observer.curves.contains("validation_loss"), i < 2) << i;
  }
  RecordingObserver again(root_ + "/validates-again");
  ASSERT_EQ(executor->Run(Spec("validates-2", cell), again).kind, AttemptOutcome::Kind::kSuccess);
  EXPECT_THAT(again.losses, ::testing::ElementsAre(::testing::Key(2), ::testing::Key(3)));
  EXPECT_THAT(again.curves.at("validation_loss"), ::testing::ElementsAre(::testing::Key(2)));
}

// One of those that took a step together runs out of memory afterwards: whoever gives way is not told of the step.
TEST_F(PackedTrialsTest, AfterASharedPassWithoutMemoryHalfGoOn) {
  const auto executor = Packer(4, Passes::kShared);
  TestFeed feed;
  RecordingObserver first(root_ + "/after-0"), third(root_ + "/after-2"), fourth(root_ + "/after-3");
  ForgetfulObserver second(root_ + "/after-1", 2);
  feed.Add(Spec("after-0"), first);
  feed.Add(Spec("after-1"), second);
  feed.Add(Spec("after-2"), third);
  feed.Add(Spec("after-3"), fourth);
  executor->RunPack(feed);
  for (const auto* observer : {&first, &third}) {
    EXPECT_EQ(feed.outcomes.at(observer).kind, AttemptOutcome::Kind::kSuccess);
    EXPECT_THAT(observer->losses, ::testing::SizeIs(3));
  }
  EXPECT_EQ(feed.outcomes.at(&second).kind, AttemptOutcome::Kind::kStopped);
  EXPECT_EQ(feed.outcomes.at(&fourth).kind, AttemptOutcome::Kind::kStopped);
}

TEST_F(PackedTrialsTest, RoomIsFoundWithTheFirstTrial) {
  const auto executor = Packer(0);
  EXPECT_EQ(executor->PackSlots(), 1);
  RecordingObserver observer(root_ + "/room");
  ASSERT_EQ(executor->Run(Spec("room"), observer).kind, AttemptOutcome::Kind::kSuccess);
  EXPECT_GT(executor->PackSlots(), 1);
  EXPECT_LE(executor->PackSlots(), 8);
}

}  // namespace
}  // namespace loupe::worker::executor
