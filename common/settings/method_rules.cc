// What is tuned, and each method's own settings.
#include "common/positions.h"
#include "common/settings/setting_rules.h"

namespace loupe {
namespace {

std::vector<std::string> Names(const std::vector<Position>& positions) {
  std::vector<std::string> names;
  for (const Position position : positions) names.emplace_back(PositionName(position));
  return names;
}

}  // namespace

std::vector<SettingRule> MethodRules() {
  using enum SettingType;
  const std::vector<std::string> adapter = {"adapter"};
  const std::vector<std::string> lora = {"lora"};
  return {
      {.key = "method.kind",
       .type = kChoice,
       .default_value = "adapter",
       .choices = {"adapter", "lora", "full", "bitfit"},
       .choices_since = {{"lora", 2}, {"full", 2}, {"bitfit", 2}},
       .description =
           "What is tuned: adapter, a small network that reads and writes at named positions (arXiv 2303.18181); lora, a "
           "low-rank change of layers' weights (arXiv 2106.09685); full, the weights themselves; bitfit, the biases "
           "alone (arXiv 2106.10199)."},
      {.key = "method.input",
       .type = kChoice,
       .required = true,
       .choices = Names(InputPositions()),
       .condition_key = "method.kind",
       .condition_values = adapter,
       .description = "Position that the adapter reads."},
      {.key = "method.output",
       .type = kChoice,
       .required = true,
       .choices = Names(OutputPositions()),
       .condition_key = "method.kind",
       .condition_values = adapter,
       .description = "Position that the adapter writes to."},
      {.key = "method.activation",
       .type = kChoice,
       .default_value = "relu",
       .choices = {"relu", "sigmoid", "silu", "identity"},
       .condition_key = "method.kind",
       .condition_values = adapter,
       .description = "Function between the adapter's two layers."},
      {.key = "method.scale",
       .type = kReal,
       .default_value = "1",
       .minimum = -1000,
       .maximum = 1000,
       .condition_key = "method.kind",
       .condition_values = adapter,
       .description = "Factor s in x + s·A(x)."},
      {.key = "method.width",
       .type = kInteger,
       .minimum = 1,
       .maximum = 65536,
       .condition_key = "method.kind",
       .condition_values = adapter,
       .alternative_key = "method.parameters",
       .description = "Bottleneck width of every adapter. Give this or method.parameters, not both."},
      {.key = "method.parameters",
       .type = kInteger,
       .minimum = 1,
       .maximum = 1e12,
       .condition_key = "method.kind",
       .condition_values = adapter,
       .alternative_key = "method.width",
       .description = "Parameter budget: the width is the one that comes nearest to it for the cell's positions."},
      {.key = "method.init",
       .type = kChoice,
       .default_value = "torch",
       .choices = {"torch", "zero"},
       .condition_key = "method.kind",
       .condition_values = adapter,
       .description =
           "torch: PyTorch's default for both layers, as in the paper's code; zero: the second layer starts at 0."},

      // Defaults as in diffusers' and PEFT's training scripts for Stable Diffusion v1 (rank 4, alpha = rank).
      {.key = "method.rank",
       .type = kInteger,
       .default_value = "4",
       .minimum = 1,
       .maximum = 65536,
       .condition_key = "method.kind",
       .condition_values = lora,
       .since = 2,
       .description = "Rank of every layer's change."},
      {.key = "method.alpha",
       .type = kReal,
       .minimum = 0.0001,
       .maximum = 1e6,
       .condition_key = "method.kind",
       .condition_values = lora,
       .since = 2,
       .description = "The change is multiplied by alpha / rank. Not set, it is the rank: a factor of 1."},
      {.key = "method.dropout",
       .type = kReal,
       .default_value = "0",
       .minimum = 0,
       .maximum = 0.999,
       .condition_key = "method.kind",
       .condition_values = lora,
       .since = 2,
       .description = "Share of the change's inputs that a training step sets to 0."},
      {.key = "method.targets",
       .type = kNames,
       .default_value = "attention",
       .condition_key = "method.kind",
       .condition_values = lora,
       .since = 2,
       .description =
           "The layers that are changed: attention (to_q, to_k, to_v and to_out.0 of every attention); cross-attention "
           "(of those to the text alone); linear (every linear layer of the transformers); all (linear and "
           "convolutions too); or names of layers."},
      {.key = "method.rslora",
       .type = kBoolean,
       .default_value = "false",
       .condition_key = "method.kind",
       .condition_values = lora,
       .since = 2,
       .description = "Multiplies by alpha / √rank instead (rank-stabilised LoRA, arXiv 2312.03732)."},
      {.key = "method.dora",
       .type = kBoolean,
       .default_value = "false",
       .condition_key = "method.kind",
       .condition_values = lora,
       .since = 2,
       .description = "Trains the size of each output's weights apart from their direction (DoRA, arXiv 2402.09353)."},
      {.key = "method.layers",
       .type = kNames,
       .default_value = "all",
       .condition_key = "method.kind",
       .condition_values = {"full"},
       .since = 2,
       .description = "The weights that are trained: all, or names of layers or weights as in the checkpoint."},
      {.key = "method.text_encoder",
       .type = kBoolean,
       .default_value = "false",
       .condition_key = "method.kind",
       .condition_values = {"lora", "full"},
       .since = 2,
       .description = "Tunes the text encoder as well."},
  };
}

}  // namespace loupe
