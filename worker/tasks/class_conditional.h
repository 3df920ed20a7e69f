// Fine-tuning a class-conditional base (DiT, DiffuSSM) on a data set of classes, as DiffFit does (Xie et al. 2023,
// arXiv 2304.06648 §4): each row is a picture under its class or, for guidance, now and then under the null class. With
// train.vlb_weight the loss is L_hybrid.
//
// A folder holds one folder per class, or metadata.jsonl or .txt files that name each picture's class; of a base of one
// class any folder of pictures will do. A class of the data set is the base's class of that name or number. Where the
// base knows none of the names, the data set's classes in the order of their names take the base's first ones: what the
// table of classes said there is to be learned over, so tune it along (DiffFit does; LoRA and adapters do not).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/io/base_folder.h"
#include "worker/tasks/shared_inputs.h"
#include "worker/tasks/task.h"

namespace loupe::worker::tasks {

// The base's class for each of the data set's, in their order; `by_order` where the base knows none of the names.
// INVALID_ARGUMENT: it knows some and not others, or the data set has more classes than the base.
struct ClassesOfData {
  std::vector<int64_t> ids;
  bool by_order = false;
};
absl::StatusOr<ClassesOfData> MatchClasses(const io::ClassNames& base, const std::vector<std::string>& names);

// Pictures are sampled of the classes of pictures of the data set, in an order of the replicate's own: classes as often
// as the data set has them. They are compared with all its pictures (FID among the scores where score.inception is
// given), and each with the words "a photo of" its class.
std::unique_ptr<const Task> MakeClassConditionalTask(const settings::Settings& settings, uint64_t sweep_seed,
                                                     SharedInputs& inputs, const sampling::SampleProgress& progress);

}  // namespace loupe::worker::tasks
