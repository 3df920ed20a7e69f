// What a trial is trained for.
#include "common/settings/setting_rules.h"

namespace loupe::settings {

std::vector<SettingRule> TaskRules() {
  using enum SettingType;
  const std::vector<std::string> dreambooth = {"dreambooth"};
  const std::vector<std::string> data_set = {"finetune", "classes"};
  return {
      {.key = "task.kind",
       .type = kChoice,
       .default_value = "dreambooth",
       .choices = {"dreambooth", "finetune", "classes"},
       .choices_since = {{"classes", 3}},
       .description =
           "What is trained for: dreambooth, one subject from a few images; finetune, a data set with captions; classes, "
           "a data set of classes, on a base whose prompts are classes (DiT, DiffuSSM)."},
      {.key = "task.images",
       .type = kPath,
       .required = true,
       .description =
           "Folder of the training images (docs/compatibility.md). For finetune with captions: metadata.jsonl, a .txt file "
           "beside each image, or one folder per class."},
      {.key = "task.instance_prompt",
       .type = kText,
       .required = true,
       .condition_key = "task.kind",
       .condition_values = dreambooth,
       .description = "Caption of the subject, with the rare-token identifier: the word itself, or {identifier}."},
      {.key = "task.class_prompt",
       .type = kText,
       .required = true,
       .condition_key = "task.kind",
       .condition_values = dreambooth,
       .description = "Caption of the subject's class, for prior preservation."},
      // Nothing is put in by default: a prompt without {identifier} means what it always meant.
      {.key = "task.identifier",
       .type = kText,
       .condition_key = "task.kind",
       .condition_values = dreambooth,
       .since = 3,
       .description =
           "What stands for {identifier} in the instance prompt: a word, or auto for the token of three letters or fewer "
           "that the base knows least."},
      {.key = "task.class_images",
       .type = kInteger,
       .default_value = "32",
       .minimum = 0,
       .maximum = 100000,
       .condition_key = "task.kind",
       .condition_values = dreambooth,
       .description = "Images of the class to sample from the frozen base; 0 turns prior preservation off."},
      {.key = "task.prior_weight",
       .type = kReal,
       .default_value = "1",
       .minimum = 0,
       .maximum = 1000,
       .condition_key = "task.kind",
       .condition_values = dreambooth,
       .description = "Weight of the class images' loss beside the subject's."},
      {.key = "task.caption_dropout",
       .type = kReal,
       .default_value = "0.1",
       .minimum = 0,
       .maximum = 1,
       .condition_key = "task.kind",
       .condition_values = data_set,
       .description =
           "Share of training rows whose caption is replaced by the empty one, or whose class by the null class, for "
           "classifier-free guidance."},
      {.key = "task.picture_size",
       .type = kInteger,
       .default_value = "0",
       .minimum = 0,
       .maximum = 8192,
       .since = 3,
       .neutral = "0",
       .description = "Side of the pictures in pixels, for training and sampling; 0: what the base was trained on."},
      {.key = "task.positions",
       .type = kChoice,
       .default_value = "stretched",
       .choices = {"stretched", "counted"},
       .since = 3,
       .neutral = "stretched",
       .description =
           "What a DiT or DiffuSSM is told of places at another picture_size: stretched, the trained coordinates over the "
           "whole picture (at twice the size halved: DiffFit's trick, arXiv 2304.06648); counted, one more for each "
           "place, as in DiT's own code."},
      {.key = "task.flip",
       .type = kBoolean,
       .default_value = "true",
       .description = "Mirror each training image left to right with probability one half."},
  };
}

}  // namespace loupe::settings
