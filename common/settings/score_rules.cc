// What a trial is judged by.
#include "common/score_table.h"
#include "common/settings/setting_rules.h"

namespace loupe::settings {
namespace {

std::vector<std::string> PrimaryScores() {
  std::vector<std::string> names;
  for (const ScoreEntry& score : kScores) {
    if (score.primary()) names.emplace_back(score.name);
  }
  return names;
}

std::map<std::string, std::vector<std::string>> NeedsOfScores() {
  std::map<std::string, std::vector<std::string>> needs;
  for (const ScoreEntry& score : kScores) {
    for (const std::string_view setting : score.needs) {
      if (score.primary() && !setting.empty()) needs[std::string(score.name)].emplace_back(setting);
    }
  }
  return needs;
}

std::map<std::string, int32_t> LaterScores() {
  std::map<std::string, int32_t> since;
  for (const ScoreEntry& score : kScores) {
    if (score.primary_since > 1) since.emplace(score.name, score.primary_since);
  }
  return since;
}

}  // namespace

std::vector<SettingRule> ScoreRules() {
  using enum SettingType;
  const std::vector<std::string> dreambooth = {"dreambooth"};
  return {
      {.key = "score.every",
       .type = kInteger,
       .default_value = "0",
       .minimum = 0,
       .maximum = 1e9,
       .description = "Steps between samplings during training that give curves of all scores; 0 turns it off."},
      {.key = "score.prior_samples",
       .type = kInteger,
       .default_value = "0",
       .minimum = 0,
       .maximum = 1000000,
       .condition_key = "task.kind",
       .condition_values = dreambooth,
       .description =
           "Pictures of the class prompt to sample from the tuned model for clip_pres and dino_pres (likeness to the "
           "subject: lower is better) and clip_div and dino_div (their diversity), 2 or more; 0 turns it off."},
      {.key = "score.dino",
       .type = kPath,
       .description =
           "Folder of a ViT in the transformers layout, such as DINO's ViT-S/16 (facebook/dino-vits16): adds dino_i, "
           "dino_nearest, dino_diversity and dino_fd, and with score.prior_samples dino_pres and dino_div."},
      {.key = "score.inception",
       .type = kPath,
       .description =
           "Weights of the Inception network of published FID values (pt_inception-2015-12-05-6726825d.pth, or the "
           "same as .safetensors): adds fid, kid, precision and recall on its features."},
      {.key = "score.inception_resize",
       .type = kChoice,
       .default_value = "pytorch-fid",
       .choices = {"pytorch-fid", "clean-fid"},
       .description = "How pictures come to Inception's 299 pixels: values are comparable only at the same choice."},
      {.key = "score.efficientnet",
       .type = kPath,
       .since = 4,
       .description =
           "Folder of an EfficientNet-Lite that was trained on photographs (deploy/image-network.sh makes one): adds "
           "effnet_i, effnet_nearest, effnet_diversity and effnet_fd."},
      {.key = "score.primary",
       .type = kChoice,
       .default_value = "clip_i",
       .choices = PrimaryScores(),
       .choice_needs = NeedsOfScores(),
       .choices_since = LaterScores(),
       .description = "The score that reports use unless told otherwise."},
  };
}

}  // namespace loupe::settings
