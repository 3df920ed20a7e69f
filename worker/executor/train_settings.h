// The settings train.… as the trainer takes them.
#pragma once

#include <torch/types.h>

#include "common/settings/settings.h"
#include "worker/base/base_model.h"
#include "worker/train/trainer.h"

namespace loupe::worker::executor {

// Throws UserError where a setting does not suit the base or the device.
train::TrainOptions TrainOptionsFrom(const settings::Settings& settings, const base::BaseModel& base,
                                     torch::Device device);

}  // namespace loupe::worker::executor
