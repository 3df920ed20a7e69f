// Settings of the methods that sit in a base's transformer blocks: DiffFit, prompts, bottlenecks.
#include "common/settings/setting_rules.h"

namespace loupe::settings {

std::vector<SettingRule> TransformerMethodRules() {
  using enum SettingType;
  const std::vector<std::string> difffit = {"difffit"};
  return {
      // Defaults: the paper's best row (arXiv 2304.06648, table of γ by depth: blocks 1 → 14 of 28).
      {.key = "method.gamma",
       .type = kNames,
       .default_value = "qkv proj branch",
       .choices = {"qkv", "proj", "ff", "branch", "none"},
       .condition_key = "method.kind",
       .condition_values = difffit,
       .since = 3,
       .description =
           "Where DiffFit has factors per channel: on queries, keys and values (qkv), the attentions' output layers (proj), "
           "both layers of the feed-forwards (ff), what attentions and feed-forwards add to the stream (branch); or none."},
      {.key = "method.gamma_blocks",
       .type = kInteger,
       .default_value = "14",
       .minimum = 0,
       .maximum = 100000,
       .condition_key = "method.kind",
       .condition_values = difffit,
       .since = 3,
       .description =
           "In how many transformer blocks the branches have factors (all, where the base has fewer); the other factors are "
           "in every block."},
      {.key = "method.gamma_from",
       .type = kChoice,
       .default_value = "first",
       .choices = {"first", "last"},
       .condition_key = "method.kind",
       .condition_values = difffit,
       .since = 3,
       .description = "Those blocks are counted from the input (first) or from the output (last)."},

      // The default of the authors' code (MODEL.PROMPT.NUM_TOKENS).
      {.key = "method.tokens",
       .type = kInteger,
       .default_value = "5",
       .minimum = 1,
       .maximum = 65536,
       .condition_key = "method.kind",
       .condition_values = {"vpt-deep", "vpt-shallow"},
       .since = 3,
       .description = "How many tokens stand in front of the stream."},

      // 64 is the width of both papers' code; 0.1 AdaptFormer's factor.
      {.key = "method.bottleneck",
       .type = kInteger,
       .default_value = "64",
       .minimum = 1,
       .maximum = 65536,
       .condition_key = "method.kind",
       .condition_values = {"adaptformer", "sequential-adapter"},
       .since = 3,
       .description = "Width between the adapter's two layers."},
      {.key = "method.parallel_scale",
       .type = kReal,
       .default_value = "0.1",
       .minimum = -1000,
       .maximum = 1000,
       .condition_key = "method.kind",
       .condition_values = {"adaptformer"},
       .since = 3,
       .description = "Factor of what the adapter adds."},
      {.key = "method.parallel_dropout",
       .type = kReal,
       .default_value = "0.1",
       .minimum = 0,
       .maximum = 0.999,
       .condition_key = "method.kind",
       .condition_values = {"adaptformer"},
       .since = 3,
       .description = "Share of the adapter's hidden values that a training step sets to 0."},
      {.key = "method.sublayers",
       .type = kChoice,
       .default_value = "both",
       .choices = {"both", "attention", "ff"},
       .condition_key = "method.kind",
       .condition_values = {"sequential-adapter"},
       .since = 3,
       .description =
           "An adapter follows each attention and the feed-forward of a block (both), or one of the two kinds."},
  };
}

}  // namespace loupe::settings
