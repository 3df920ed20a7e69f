// One attempt of one trial, phase by phase, from settings to scores: prepare, train, sample, score. The pack that it is
// in drives it (pack.h), alone as in company.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/streams.h"
#include "worker/base/model_store.h"
#include "worker/executor/attempt.h"
#include "worker/executor/rank_team.h"
#include "worker/executor/trial_artifacts.h"
#include "worker/executor/trial_training.h"
#include "worker/executor/work_meter.h"
#include "worker/tasks/identifier.h"
#include "worker/tasks/shared_inputs.h"
#include "worker/tasks/task_registry.h"
#include "worker/train/validation.h"

namespace loupe::worker::executor {

// Artifacts that it hands over:
//   samples.png            the generated pictures, side by side
//   samples-base.png       the untuned base's of the same prompts and noise, in the same places (the first 64)
//   subject.png            the first of the training pictures, as they are trained on
//   embeddings.npy         their embeddings; and embeddings-base.npy, embeddings-subject.npy, embeddings-class.npy,
//                          embeddings-text.npy (and -own, -prior, -prior-base where the task has them): everything that
//                          the scores are computed from
//   dino.npy, effnet.npy, inception.npy   the same by the ViT, the EfficientNet and Inception, where the settings name
//                          them
//   noise-difference.png   DreamBooth with class pictures: where the predicted noise differs between the prompts with
//                          and without the identifier (sampling/prediction_difference.h), tuned left, untuned right
//   adapter.safetensors    the trained values, with the whole cell in the metadata
// Every score comes twice: "clip_i" of the tuned model, "clip_i_base" of the untuned one from the same noise. A
// sentence on how to read a score is in the provenance under "warning.{score}".
//
// Everything throws UserError, Stopped (after writing a checkpoint, when training had begun), c10::Error or
// std::exception.
class Trial : private tasks::Findings {
 public:
  // Loads base and scorers where they are not yet, and finds the identifier, with no method on the base. `on_progress`
  // is called whenever the trial hears that its work goes on.
  Trial(const HeardAttempt& heard, base::ModelStore& models, tasks::SharedInputs& inputs, tasks::Tasks& tasks,
        WorkMeter& meter, std::function<void()> on_progress);
  ~Trial() override;

  base::BaseModel& base() { return loaded_.model; }
  methods::SlotOptions method_options() const;

  // Of several ranks (train.devices), when they are wanted: starts the others, which load what they need meanwhile.
  static bool HasRanks(const settings::Settings& settings);
  void StartRanks(const RankOptions& options);
  // Before a step of the trainer: the other ranks take it too.
  void AnnounceStep();
  // After an error: which other rank ended, and how; empty when none did.
  std::string WhyRanksEnded();
  // In the process of another rank: does what rank 0 announces. Throws when that has ended, which is its end too.
  [[noreturn]] void Follow(train::Trainer& trainer, ranks::RankGroup& group);

  // With no method on the base: what is shared, the untuned base's pictures and scores; whether the method fits the
  // base.
  void Prepare();
  // Once prepared: into a slot of its own, from its checkpoint where there is one. The trainer's factory makes its
  // method.
  void Join(train::Trainer& trainer);
  TrialTraining& training() { return *training_; }
  // After a step of the trainer that took so long.
  void Take(const train::SlotStep& step, double seconds, double cpu_seconds);
  // The rest several trials may do together, with the method of their pass of `width` slots on the base (0: one trial
  // with its method alone). By trial; an exception is that of whichever was at work.
  //
  // Where a step makes one due.
  static std::vector<double> ValidationLosses(const std::vector<Trial*>& trials, int64_t width);
  // A point of every score's curve, with the averages in place of the trained values.
  static void ScoreAlongTheWay(const std::vector<Trial*>& trials, int64_t width);
  // After the last step: all that is seen of the tuned model.
  struct Looks {
    std::vector<io::Image> pictures;
    score::PictureFeatures features;  // of these
    tasks::Seen own;                  // for the task's own scores
  };
  static std::vector<Looks> Look(const std::vector<Trial*>& trials, int64_t width);
  // Whether two can: all else that they look at goes by settings that a pack's trials have in common.
  bool LooksLike(const Trial& other) const { return run_->prompts().size() == other.run_->prompts().size(); }
  // The end, with its method alone on the base.
  AttemptOutcome Score(methods::Method& method, const Looks& looks);
  // How many trials were trained together, at the most.
  void NotePack(size_t trials) { largest_pack_ = std::max(largest_pack_, trials); }
  // How many slots wide a pass was that it took a step in; 0: its own.
  void NotePassWidth(int64_t slots) { pass_widths_.insert(std::max<int64_t>(slots, 1)); }

 private:
  // What the task finds while it scores.
  void AddScores(const std::map<std::string, double>& tuned, const std::map<std::string, double>& untuned) override;
  void HandOverFeatures(const std::string& of, const score::PictureFeatures& features) override {
    artifacts_.Features(of, features);
  }
  void HandOverPicture(const std::string& name, const io::Image& picture) override {
    artifacts_.Picture(name, picture);
  }

  train::TrainSlot MakeSlot(ranks::RankGroup* ranks);
  size_t JoinRanks(train::Trainer& trainer, ranks::RankGroup& group);
  // Charges the time that it lives to these trials, each its part, as part of a phase.
  class PhaseTime {
   public:
    PhaseTime(std::vector<Trial*> trials, const char* phase);
    ~PhaseTime();
    PhaseTime(const PhaseTime&) = delete;
    PhaseTime& operator=(const PhaseTime&) = delete;

   private:
    const std::vector<Trial*> trials_;
    const char* const phase_;
    const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
    const double cpu_start_;
  };
  // `wanted` of each, as many prompts and pictures as of the others.
  static std::vector<std::vector<io::Image>> Sample(const std::vector<Trial*>& trials, int64_t width,
                                                    const std::vector<tasks::Wanted::Pictures>& wanted);
  static std::vector<score::PictureFeatures> Features(const std::vector<Trial*>& trials, int64_t width,
                                                      const std::vector<std::vector<io::Image>>& pictures);
  tasks::Wanted::Pictures ScoredPictures() const {
    return {run_->prompts(), Stream::kSampleLatents, budget("samples")};
  }
  double Validate();
  int64_t budget(const std::string& what) const { return settings_.Integer("budget." + what); }
  void SayNotes(std::string_view about, const std::vector<std::string>& notes);
  score::PictureScores Scores(const score::PictureFeatures& features) const;
  void CheckMethod();
  void CheckPrimaryScore();
  void CheckScores() const;
  sampling::SampleProgress Progress(const char* phase);
  std::string Fingerprint() const;
  train::ValidationRows MakeValidationRows() const;
  void ComputeScores(const Looks& looks);
  void RecordProvenance();

  AttemptObserver& observer_;
  WorkMeter& meter_;
  const std::function<void()> on_progress_;
  const tasks::Identified identified_;
  const AttemptSpec spec_;  // with the identifier in its prompts
  base::ModelStore& models_;
  tasks::SharedInputs& inputs_;
  tasks::Tasks& tasks_;
  const settings::Settings& settings_;
  const TrialSeeds seeds_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  base::LoadedModel<base::BaseModel>& loaded_;
  const train::TrainOptions train_options_;
  const TrialArtifacts artifacts_;
  const tasks::Task* task_ = nullptr;  // kept by tasks_
  std::unique_ptr<tasks::TaskRun> run_;
  std::unique_ptr<RankTeam> team_;  // of rank 0, where there are others
  std::unique_ptr<tasks::PictureHelp> pictures_;
  std::optional<train::ValidationRows> validation_;
  score::PictureFeatures base_features_;
  io::Image base_sheet_;
  score::PictureScores base_scores_;
  std::optional<TrialTraining> training_;
  methods::Method* method_ = nullptr;  // while it samples and scores
  size_t largest_pack_ = 1;
  std::set<int64_t> pass_widths_;
  std::map<std::string, double> seconds_;      // by phase
  std::map<std::string, double> cpu_seconds_;  // by phase
  AttemptOutcome outcome_;
};

}  // namespace loupe::worker::executor
