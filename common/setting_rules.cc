// The table of settings: one row per key, in the order of the documentation.
#include "common/positions.h"
#include "common/settings.h"

namespace loupe {
namespace {

std::vector<std::string> Names(const std::vector<Position>& positions) {
  std::vector<std::string> names;
  for (const Position position : positions) names.emplace_back(PositionName(position));
  return names;
}

std::vector<SettingRule> MakeRules() {
  using enum SettingType;
  const std::vector<std::string> dreambooth = {"dreambooth"};
  const std::vector<std::string> finetune = {"finetune"};
  const std::vector<std::string> adapter = {"adapter"};
  return {
      {.key = "base", .type = kPath, .required = true,
       .description = "Folder of the frozen base model, in the diffusers layout of Stable Diffusion v1."},
      {.key = "scorer", .type = kPath, .required = true,
       .description = "Folder of the CLIP model that scores, in the transformers layout, with both towers."},

      {.key = "task.kind", .type = kChoice, .default_value = "dreambooth", .choices = {"dreambooth", "finetune"},
       .description = "What is trained for: dreambooth, one subject from a few images; finetune, a data set with captions."},
      {.key = "task.images", .type = kPath, .required = true,
       .description = "Folder of the training images (docs/compatibility.md). For finetune with captions: metadata.jsonl, a .txt file "
                      "beside each image, or one folder per class."},
      {.key = "task.instance_prompt", .type = kText, .required = true, .condition_key = "task.kind",
       .condition_values = dreambooth, .description = "Caption of the subject, with the rare-token identifier."},
      {.key = "task.class_prompt", .type = kText, .required = true, .condition_key = "task.kind",
       .condition_values = dreambooth, .description = "Caption of the subject's class, for prior preservation."},
      {.key = "task.class_images", .type = kInteger, .default_value = "32", .minimum = 0, .maximum = 100000,
       .condition_key = "task.kind", .condition_values = dreambooth,
       .description = "Images of the class to sample from the frozen base; 0 turns prior preservation off."},
      {.key = "task.prior_weight", .type = kReal, .default_value = "1", .minimum = 0, .maximum = 1000,
       .condition_key = "task.kind", .condition_values = dreambooth,
       .description = "Weight of the class images' loss beside the subject's."},
      {.key = "task.caption_dropout", .type = kReal, .default_value = "0.1", .minimum = 0, .maximum = 1,
       .condition_key = "task.kind", .condition_values = finetune,
       .description = "Share of training rows whose caption is replaced by the empty one, for classifier-free guidance."},
      {.key = "task.flip", .type = kBoolean, .default_value = "true",
       .description = "Mirror each training image left to right with probability one half."},

      {.key = "method.kind", .type = kChoice, .default_value = "adapter", .choices = {"adapter"},
       .description = "What is tuned."},
      {.key = "method.input", .type = kChoice, .required = true, .choices = Names(InputPositions()),
       .condition_key = "method.kind", .condition_values = adapter, .description = "Position that the adapter reads."},
      {.key = "method.output", .type = kChoice, .required = true, .choices = Names(OutputPositions()),
       .condition_key = "method.kind", .condition_values = adapter, .description = "Position that the adapter writes to."},
      {.key = "method.activation", .type = kChoice, .default_value = "relu",
       .choices = {"relu", "sigmoid", "silu", "identity"}, .condition_key = "method.kind", .condition_values = adapter,
       .description = "Function between the adapter's two layers."},
      {.key = "method.scale", .type = kReal, .default_value = "1", .minimum = -1000, .maximum = 1000,
       .condition_key = "method.kind", .condition_values = adapter,
       .description = "Factor s in x + s·A(x)."},
      {.key = "method.width", .type = kInteger, .minimum = 1, .maximum = 65536, .condition_key = "method.kind",
       .condition_values = adapter, .alternative_key = "method.parameters",
       .description = "Bottleneck width of every adapter. Give this or method.parameters, not both."},
      {.key = "method.parameters", .type = kInteger, .minimum = 1, .maximum = 1e12, .condition_key = "method.kind",
       .condition_values = adapter, .alternative_key = "method.width",
       .description = "Parameter budget: the width is the one that comes nearest to it for the cell's positions."},
      {.key = "method.init", .type = kChoice, .default_value = "torch", .choices = {"torch", "zero"},
       .condition_key = "method.kind", .condition_values = adapter,
       .description = "torch: PyTorch's default for both layers, as in the paper's code; zero: the second layer starts at 0."},

      {.key = "budget.steps", .type = kInteger, .required = true, .minimum = 1, .maximum = 1e9,
       .description = "Optimiser steps."},
      {.key = "budget.batch", .type = kInteger, .default_value = "4", .minimum = 1, .maximum = 4096,
       .description = "Subject images per step (as many class images are added under prior preservation)."},
      {.key = "budget.samples", .type = kInteger, .default_value = "16", .minimum = 2, .maximum = 1000000,
       .description = "Images generated to score a trial."},

      {.key = "train.learning_rate", .type = kReal, .default_value = "0.0001", .minimum = 0, .maximum = 100,
       .description = "AdamW's step size."},
      {.key = "train.beta1", .type = kReal, .default_value = "0.9", .minimum = 0, .maximum = 0.999999,
       .description = "AdamW's decay of the first moment."},
      {.key = "train.beta2", .type = kReal, .default_value = "0.999", .minimum = 0, .maximum = 0.999999,
       .description = "AdamW's decay of the second moment."},
      {.key = "train.epsilon", .type = kReal, .default_value = "1e-08", .minimum = 0, .maximum = 1,
       .description = "AdamW's denominator floor."},
      {.key = "train.weight_decay", .type = kReal, .default_value = "0.01", .minimum = 0, .maximum = 100,
       .description = "AdamW's decoupled weight decay."},
      {.key = "train.clip_norm", .type = kReal, .default_value = "0", .minimum = 0, .maximum = 1e9,
       .description = "Largest norm of a trial's gradient; 0 turns clipping off."},
      {.key = "train.schedule", .type = kChoice, .default_value = "constant", .choices = {"constant", "cosine"},
       .description = "The learning rate after the warm-up: constant, or falling to 0 along half a cosine."},
      {.key = "train.warmup_steps", .type = kInteger, .default_value = "0", .minimum = 0, .maximum = 1e9,
       .description = "Steps over which the learning rate rises evenly from 0."},
      {.key = "train.accumulation", .type = kInteger, .default_value = "1", .minimum = 1, .maximum = 65536,
       .description = "Batches whose gradients are averaged before one optimiser step."},
      {.key = "train.min_snr_gamma", .type = kReal, .default_value = "0", .minimum = 0, .maximum = 1e6,
       .description = "Weights each row's loss by min(SNR, gamma)/SNR (arXiv 2303.09556); 0 turns it off."},
      {.key = "train.vlb_weight", .type = kReal, .default_value = "0", .minimum = 0, .maximum = 1e6,
       .description = "Weight of the bound that trains a predicted variance (L_hybrid of arXiv 2102.09672, there 0.001); only "
                      "for a base that predicts one; 0 turns it off."},
      {.key = "train.noise_offset", .type = kReal, .default_value = "0", .minimum = 0, .maximum = 10,
       .description = "Adds noise of this size that is constant over each channel of a row; 0 turns it off."},
      {.key = "train.ema_decay", .type = kReal, .default_value = "0", .minimum = 0, .maximum = 0.999999,
       .description = "Decay of the running average of the trained values that is sampled from and saved; 0 turns it off."},
      {.key = "train.precision", .type = kChoice, .default_value = "float32", .choices = {"float32", "bf16", "fp16"},
       .description = "Of the network's forward and backward pass: bf16 and fp16 run products and convolutions in 16 bits "
                      "(autocast), fp16 with a loss scale that adapts itself; fp16 needs a GPU."},
      {.key = "train.gradient_checkpointing", .type = kBoolean, .default_value = "false",
       .description = "Computes each block a second time in the backward pass instead of remembering it: less memory, "
                      "about half more time."},
      {.key = "train.max_error", .type = kReal, .default_value = "0.9", .minimum = 0, .maximum = 1e9,
       .description = "Ends the attempt as diverged when the squared error of the prediction, averaged over about 20 steps, has "
                      "risen above this many times that of predicting nothing; 0 turns it off."},
      {.key = "train.validate_every", .type = kInteger, .default_value = "0", .minimum = 0, .maximum = 1e9,
       .description = "Steps between losses on fixed images, noise and timesteps (metric validation_loss); 0 turns it off."},
      {.key = "train.checkpoint_every", .type = kInteger, .default_value = "50", .minimum = 0, .maximum = 1e9,
       .description = "Steps between checkpoints; 0 writes none."},

      {.key = "sample.steps", .type = kInteger, .default_value = "25", .minimum = 1, .maximum = 1000,
       .description = "Steps of the sampler."},
      {.key = "sample.guidance", .type = kReal, .default_value = "7", .minimum = 0, .maximum = 1000,
       .description = "Scale of classifier-free guidance; 1 turns it off."},
      {.key = "sample.sampler", .type = kChoice, .default_value = "dpm-solver++", .choices = {"dpm-solver++", "ddim"},
       .description = "Sampler of class images and scored images."},
      {.key = "sample.chunk", .type = kInteger, .default_value = "8", .minimum = 1, .maximum = 65536,
       .description = "Pictures sampled at a time: bounds memory; changes results by rounding only."},

      {.key = "score.every", .type = kInteger, .default_value = "0", .minimum = 0, .maximum = 1e9,
       .description = "Steps between samplings during training that give curves of all scores; 0 turns it off."},
      {.key = "score.prior_samples", .type = kInteger, .default_value = "0", .minimum = 0, .maximum = 1000000,
       .condition_key = "task.kind", .condition_values = dreambooth,
       .description = "Pictures of the class prompt to sample from the tuned model for clip_pres and dino_pres (likeness to the "
                      "subject: lower is better) and clip_div and dino_div (their diversity), 2 or more; 0 turns it off."},
      {.key = "score.dino", .type = kPath,
       .description = "Folder of a ViT in the transformers layout, such as DINO's ViT-S/16 (facebook/dino-vits16): adds dino_i, "
                      "dino_nearest and dino_diversity, and with score.prior_samples dino_pres and dino_div."},
      {.key = "score.inception", .type = kPath,
       .description = "Weights of the Inception network of published FID values (pt_inception-2015-12-05-6726825d.pth, or the "
                      "same as .safetensors): adds fid, kid, precision and recall on its features."},
      {.key = "score.inception_resize", .type = kChoice, .default_value = "pytorch-fid",
       .choices = {"pytorch-fid", "clean-fid"},
       .description = "How pictures come to Inception's 299 pixels: values are comparable only at the same choice."},
      {.key = "score.primary", .type = kChoice, .default_value = "clip_i",
       .choices = {"clip_i", "clip_t", "clip_fid", "clip_kid", "clip_fid_class", "clip_kid_class", "clip_nearest",
                   "clip_diversity", "clip_precision", "clip_recall", "clip_pres", "clip_div", "noise_difference", "dino_i",
                   "dino_nearest", "dino_diversity", "dino_pres", "dino_div", "fid", "kid", "precision", "recall"},
       .choice_needs = {{"clip_fid_class", {"task.class_images"}}, {"clip_kid_class", {"task.class_images"}},
                        {"clip_pres", {"score.prior_samples"}}, {"clip_div", {"score.prior_samples"}},
                        {"noise_difference", {"task.class_images"}}, {"dino_i", {"score.dino"}},
                        {"dino_nearest", {"score.dino"}}, {"dino_diversity", {"score.dino"}},
                        {"dino_pres", {"score.dino", "score.prior_samples"}},
                        {"dino_div", {"score.dino", "score.prior_samples"}}, {"fid", {"score.inception"}},
                        {"kid", {"score.inception"}}, {"precision", {"score.inception"}}, {"recall", {"score.inception"}}},
       .description = "The score that reports use unless told otherwise."},
  };
}

}  // namespace

const std::vector<SettingRule>& SettingRules() {
  static const std::vector<SettingRule> rules = MakeRules();
  return rules;
}

}  // namespace loupe
