// How pictures are drawn.
#include "common/settings/setting_rules.h"

namespace loupe::settings {

std::vector<SettingRule> SampleRules() {
  using enum SettingType;
  return {
      {.key = "sample.steps",
       .type = kInteger,
       .default_value = "25",
       .minimum = 1,
       .maximum = 1000,
       .description = "Steps of the sampler."},
      {.key = "sample.guidance",
       .type = kReal,
       .default_value = "7",
       .minimum = 0,
       .maximum = 1000,
       .description = "Scale of classifier-free guidance; 1 turns it off."},
      {.key = "sample.guided_channels",
       .type = kInteger,
       .default_value = "0",
       .minimum = 0,
       .maximum = 1024,
       .since = 3,
       .neutral = "0",
       .description =
           "How many of the latents' channels guidance moves; 0: all. 3 repeats DiT's published code, which leaves the "
           "fourth as it is predicted for the class."},
      {.key = "sample.sampler",
       .type = kChoice,
       .default_value = "dpm-solver++",
       .choices = {"dpm-solver++", "ddim"},
       .description = "Sampler of class images and scored images."},
      {.key = "sample.chunk",
       .type = kInteger,
       .default_value = "8",
       .minimum = 1,
       .maximum = 65536,
       .description = "Pictures sampled at a time: bounds memory; changes results by rounding only."},
      {.key = "sample.precision",
       .type = kChoice,
       .default_value = "float32",
       .choices = {"float32", "bf16", "fp16"},
       .since = 4,
       .neutral = "float32",
       .description =
           "Of the denoiser's forward pass: bf16 and fp16 run products and convolutions in 16 bits (autocast), which "
           "pays where the device has units for them; the sampler's own arithmetic and the decoder stay float32."},
  };
}

}  // namespace loupe::settings
