// A base of a few thousand weights, random, with every kind of block: for tests of training that must be quick.
#pragma once

#include <memory>

#include "worker/base/base_model.h"
#include "worker/base/clip_unet.h"
#include "worker/runtime/random_stream.h"
#include "worker/tasks/dreambooth.h"

namespace loupe::worker::train {

inline models::UNet2DConditionConfig SmallUNetConfig(bool variance = false) {
  models::UNet2DConditionConfig config;
  if (variance) config.out_channels = 8;
  config.sample_size = 8;
  config.cross_attention_dim = 16;
  config.norm_num_groups = 8;
  config.levels = {{.channels = 32, .heads = 2, .resnets = 1, .down_attention = true, .up_attention = true},
                   {.channels = 32, .heads = 2, .resnets = 1}};
  return config;
}

// Only the UNet and the schedule: what the Trainer uses. With `variance`, one that predicts its variance.
inline base::BaseModel MakeSmallBase(bool variance = false) {
  base::BaseModel base{.folder = "small",
                       .denoiser = nullptr,
                       .conditioner = nullptr,
                       .unet = models::UNet2DConditionModel(SmallUNetConfig(variance)),
                       .classes = {},
                       .schedule = diffusion::NoiseSchedule(diffusion::NoiseScheduleConfig{})};
  runtime::RandomStream stream(11);
  nn::InitialiseAsTorch(*base.unet, stream.generator());
  base.denoiser = base::MakeUNetDenoiser(base.unet);
  return base;
}

inline std::shared_ptr<const tasks::DreamBoothData> MakeSmallData(bool prior, double weight = 0.5) {
  runtime::RandomStream stream(12);
  auto data = std::make_shared<tasks::DreamBoothData>();
  data->instance = {stream.Normal({3, 4, 8, 8}), stream.Normal({3, 4, 8, 8}), stream.Normal({1, 5, 16})};
  if (prior) data->prior = {stream.Normal({4, 4, 8, 8}), stream.Normal({4, 4, 8, 8}), stream.Normal({1, 5, 16})};
  data->prior_weight = weight;
  return data;
}

}  // namespace loupe::worker::train
