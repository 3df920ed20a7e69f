// Fine-tuning on pictures with captions (the second task of arXiv 2303.18181): each row is a picture of the data set
// under its caption or, for classifier-free guidance, now and then under the empty one.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/tasks/shared_inputs.h"
#include "worker/tasks/task.h"
#include "worker/train/batch_source.h"

namespace loupe::worker::tasks {

struct CaptionedPictures {
  torch::Tensor latents;              // latents_scaled, [n, C, h, w]
  torch::Tensor mirrored;             // of the pictures mirrored left to right; undefined when flips are off
  torch::Tensor contexts;             // [captions, text tokens, width]: each different caption once
  torch::Tensor caption_of;           // int64 [n]: row of `contexts`
  std::vector<std::string> captions;  // n
  torch::Tensor empty_context;        // [1, text tokens, width]
  double caption_dropout = 0;
};

struct CaptionedSeeds {
  uint64_t order = 0;
  uint64_t flips = 0;
  uint64_t dropout = 0;
};

std::unique_ptr<train::BatchSource> MakeCaptionedSource(std::shared_ptr<const CaptionedPictures> data, int64_t batch,
                                                        const CaptionedSeeds& seeds);

// What tasks on pictures with captions have in common; theirs is how these are read, and what they are scored against.
class CaptionedTask : public Task {
 public:
  const torch::Tensor& latents() const override { return data_->latents; }
  std::vector<std::string> captions() const override { return data_->captions; }
  base::Condition contexts() const override { return data_->contexts.index_select(0, data_->caption_of); }

  const std::shared_ptr<const CaptionedPictures>& data() const { return data_; }
  // Of the training pictures.
  const score::PictureFeatures& subject() const { return subject_; }

 protected:
  // `captions`: one per picture; `prompts`: each different one once, and `rows` the caption's place among them.
  void Load(const settings::Settings& settings, SharedInputs& inputs, const data::ImageFolder& pictures,
            std::vector<std::string> captions, const std::vector<std::string>& prompts,
            const std::vector<int64_t>& rows, const sampling::SampleProgress& progress);

 private:
  std::shared_ptr<const CaptionedPictures> data_;
  score::PictureFeatures subject_;
};

class CaptionedRun : public TaskRun {
 public:
  std::unique_ptr<train::BatchSource> MakeSource(int64_t batch) const override;

 protected:
  CaptionedRun(const CaptionedTask& task, const TrialSeeds& seeds) : data_(task.data()), seeds_(seeds) {}

  // Pictures of the data set, in an order of the replicate's own, whose captions are sampled from: prompts_ are theirs.
  std::vector<int64_t> ChoosePrompts(const settings::Settings& settings);

 private:
  const std::shared_ptr<const CaptionedPictures> data_;
  const TrialSeeds seeds_;
};

// Pictures are sampled from captions of the data set, in an order of the replicate's own, and each is compared with the
// picture of its caption.
std::unique_ptr<const Task> MakeFinetuneTask(const settings::Settings& settings, uint64_t sweep_seed,
                                             SharedInputs& inputs, const sampling::SampleProgress& progress);

}  // namespace loupe::worker::tasks
