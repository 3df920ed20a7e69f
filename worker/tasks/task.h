// What trials are trained for: a task gives the batches, the prompts that pictures are sampled from, what these are
// scored against, and scores of its own. One file and one line in task_registry.cc per task; nothing else knows which
// tasks there are.
#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/settings/settings.h"
#include "common/streams.h"
#include "worker/base/base_model.h"
#include "worker/io/image.h"
#include "worker/sampling/picture_sampler.h"
#include "worker/sampling/prediction_difference.h"
#include "worker/score/picture_scores.h"
#include "worker/train/batch_source.h"

namespace loupe::worker::tasks {

class SharedInputs;

// What a task's own scores need of the tuned model. Trials that are scored together have it made in one pass, so a task
// says what it wants and looks at nothing itself.
struct Wanted {
  struct Pictures {
    std::vector<std::string> prompts;  // one, or one per picture
    Stream noise;
    int64_t count;
  };
  std::optional<Pictures> pictures;
  std::optional<sampling::DifferenceOrder> difference;
};
// What it then sees.
struct Seen {
  score::PictureFeatures features;  // of the pictures
  torch::Tensor difference;         // as sampling::PredictionDifference gives it
};

// Where a task puts what it has found.
class Findings {
 public:
  virtual ~Findings() = default;

  // Scores of the tuned model and, by the same names, of the untuned one.
  virtual void AddScores(const std::map<std::string, double>& tuned, const std::map<std::string, double>& untuned) = 0;
  // Files beside the result: "embeddings-prior.npy" (and dino-, inception-) for `of` "-prior"; a PNG.
  virtual void HandOverFeatures(const std::string& of, const score::PictureFeatures& features) = 0;
  virtual void HandOverPicture(const std::string& name, const io::Image& picture) = 0;
};

// Which scores of a task's own there will be.
struct OwnScores {
  std::set<std::string> names;
  // What the settings ask for and cannot be: name -> a whole sentence.
  std::map<std::string, std::string> missing;
};

// The task's part in one trial. Everything throws UserError for what the user can mend.
class TaskRun {
 public:
  virtual ~TaskRun() = default;

  // What the scored pictures are sampled from: one prompt, or one per picture; and what they are compared with.
  const std::vector<std::string>& prompts() const { return prompts_; }
  const score::ScoreReferences& references() const { return references_; }

  // One stream of batches; two are alike.
  virtual std::unique_ptr<train::BatchSource> MakeSource(int64_t batch) const = 0;

  // Before the method is attached: what its own scores need of the untuned base.
  virtual void SeeBase(const sampling::SampleProgress& /*progress*/) {}
  virtual OwnScores Announce() const { return {}; }
  virtual Wanted Wants() const { return {}; }
  // With what it wanted.
  virtual void Score(const Seen& /*seen*/, Findings& /*findings*/) {}

 protected:
  std::vector<std::string> prompts_;
  score::ScoreReferences references_;
};

// What a task's trials share: read once, kept by Tasks (task_registry.h). Immutable.
class Task {
 public:
  virtual ~Task() = default;

  // Of the training pictures and captions.
  const std::string& data_sha256() const { return data_sha256_; }
  // The first of the training pictures side by side, to look at beside what was generated.
  const io::Image& pictures_sheet() const { return pictures_sheet_; }
  // What the user is told of them: files left out or read with a warning; captions that the conditioner cuts off.
  const std::vector<std::string>& picture_notes() const { return picture_notes_; }
  const std::vector<std::string>& prompt_notes() const { return prompt_notes_; }

  // The task's own pictures, for losses on fixed rows: latents_scaled [n, C, h, w], and a caption and a condition each.
  virtual const torch::Tensor& latents() const = 0;
  virtual std::vector<std::string> captions() const = 0;
  virtual base::Condition contexts() const = 0;

  // The task, `settings` and `inputs` must outlive the run.
  virtual std::unique_ptr<TaskRun> Begin(const settings::Settings& settings, const TrialSeeds& seeds,
                                         SharedInputs& inputs) const = 0;

 protected:
  // Of the folder's pictures, which are all of one size.
  void MakePicturesSheet(const std::vector<io::Image>& pictures) {
    constexpr std::ptrdiff_t kMost = 16;
    const auto shown = std::min(kMost, static_cast<std::ptrdiff_t>(pictures.size()));
    pictures_sheet_ = sampling::MakeSheet({pictures.begin(), pictures.begin() + shown});
  }

  std::string data_sha256_;
  io::Image pictures_sheet_;
  std::vector<std::string> picture_notes_, prompt_notes_;
};

}  // namespace loupe::worker::tasks
