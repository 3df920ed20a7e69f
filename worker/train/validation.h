// The loss on fixed rows: one that can be compared between steps and trials.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "worker/base/base_model.h"

namespace loupe::worker::train {

// The mean squared error of the base's (and its method's) prediction. Without gradients; nothing is drawn.
struct ValidationRows {
  torch::Tensor latents, context, noise, timesteps;
  // Where the method trains the conditioner: each row's caption, which is encoded instead of taking `context`.
  std::vector<std::string> prompts;
};
double ValidationLoss(base::BaseModel& base, const ValidationRows& rows);
// The same by slot of the attached method, in passes of all of them: alike in their numbers of rows and prompts.
std::vector<double> ValidationLosses(base::BaseModel& base, const std::vector<const ValidationRows*>& slots);

// The same in parts of rows that go through the base together, for several processes: the loss is made of the sums of
// all parts in their order.
int64_t ValidationParts(const ValidationRows& rows);
std::vector<double> ValidationSums(base::BaseModel& base, const ValidationRows& rows, int64_t first_part,
                                   int64_t parts);
double ValidationLossFrom(const std::vector<double>& sums, const ValidationRows& rows);

}  // namespace loupe::worker::train
