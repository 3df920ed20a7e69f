// What is tuned, and each method's own settings.
#include "common/positions.h"
#include "common/settings/setting_rules.h"

namespace loupe::settings {
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
  const std::vector<std::string> changes = {"lora", "loha", "lokr"}, targeted = {"lora", "loha", "lokr", "oft"};
  const std::vector<std::string> inversion = {"textual-inversion"};
  const std::vector<std::string> hypernetwork = {"hypernetwork"};
  return {
      {.key = "method.kind",
       .type = kChoice,
       .default_value = "adapter",
       .choices = {"adapter", "lora", "full", "bitfit", "difffit", "vpt-deep", "vpt-shallow", "adaptformer",
                   "sequential-adapter", "ia3", "loha", "lokr", "oft", "textual-inversion", "hypernetwork", "file"},
       .choices_since = {{"lora", 2},
                         {"full", 2},
                         {"bitfit", 2},
                         {"difffit", 3},
                         {"vpt-deep", 3},
                         {"vpt-shallow", 3},
                         {"adaptformer", 3},
                         {"sequential-adapter", 3},
                         {"ia3", 3},
                         {"loha", 3},
                         {"lokr", 3},
                         {"oft", 3},
                         {"textual-inversion", 3},
                         {"hypernetwork", 3},
                         {"file", 3}},
       .description =
           "What is tuned: adapter, a small network that reads and writes at named positions (arXiv 2303.18181); lora, a "
           "low-rank change of layers' weights (arXiv 2106.09685); full, the weights themselves; bitfit, the biases "
           "alone (arXiv 2106.10199); difffit, biases, norms and factors per channel (arXiv 2304.06648); vpt-deep and "
           "vpt-shallow, tokens in front of every transformer block's or the first's stream (arXiv 2203.12119); "
           "adaptformer, a bottleneck beside each feed-forward (arXiv 2205.13535); sequential-adapter, one after each "
           "attention and feed-forward (arXiv 1902.00751); ia3, factors on keys, values and feed-forwards (arXiv "
           "2205.05638); loha and lokr, changes of layers' weights by an elementwise or a Kronecker product (arXiv "
           "2309.14859); oft, rotations of layers' inputs (arXiv 2306.07280); textual-inversion, the vectors of one word (arXiv 2208.01618); hypernetwork, small "
           "networks before to_k and to_v, as AUTOMATIC1111's web UI has them; file, nothing: a file that was trained "
           "elsewhere is scored."},
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
       .condition_values = changes,
       .since = 2,
       .description = "Rank of every layer's change: of its factors, for loha and lokr."},
      {.key = "method.alpha",
       .type = kReal,
       .minimum = 0.0001,
       .maximum = 1e6,
       .condition_key = "method.kind",
       .condition_values = changes,
       .since = 2,
       .description = "The change is multiplied by alpha / rank. Not set, it is the rank: a factor of 1."},
      {.key = "method.dropout",
       .type = kReal,
       .default_value = "0",
       .minimum = 0,
       .maximum = 0.999,
       .condition_key = "method.kind",
       .condition_values = {"lora", "hypernetwork"},
       .since = 2,
       .description =
           "Share of what a training step sets to 0: of a LoRA's inputs, of a hypernetwork's hidden values."},
      {.key = "method.targets",
       .type = kNames,
       .default_value = "attention",
       .condition_key = "method.kind",
       .condition_values = targeted,
       .since = 2,
       .description =
           "The layers that are changed: attention (to_q, to_k, to_v and to_out.0 of every attention); cross-attention "
           "(of those to the text alone); linear (every linear layer of the transformers); all (linear and "
           "convolutions too); or names of layers."},
      {.key = "method.factor",
       .type = kInteger,
       .minimum = 2,
       .maximum = 65536,
       .condition_key = "method.kind",
       .condition_values = {"lokr"},
       .since = 3,
       .description =
           "Largest size of the first factor of a Kronecker product. Not set, both factors are as near to the root as they "
           "can be."},
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
       .condition_values = {"lora", "full", "loha", "lokr", "oft"},
       .since = 2,
       .description = "Tunes the text encoder as well."},
      {.key = "method.block_size",
       .type = kInteger,
       .default_value = "32",
       .minimum = 2,
       .maximum = 65536,
       .condition_key = "method.kind",
       .condition_values = {"oft"},
       .since = 3,
       .description =
           "Channels that are turned together; where it does not divide a layer's inputs, the nearest number that does."},
      {.key = "method.cayley",
       .type = kChoice,
       .default_value = "exact",
       .choices = {"exact", "neumann"},
       .condition_key = "method.kind",
       .condition_values = {"oft"},
       .since = 3,
       .description =
           "How a rotation is made of what is trained: exact, by an inverse; neumann, by the first five terms of its series "
           "(arXiv 2506.19847), which is faster and nearly a rotation."},

      // Defaults as in diffusers' script for textual inversion: one vector, which starts as that of a word.
      {.key = "method.token",
       .type = kText,
       .condition_key = "method.kind",
       .condition_values = {"textual-inversion", "file"},
       .since = 3,
       .description =
           "The word whose vectors are learned, or that a file's embedding stands for; a word that the tokenizer does not "
           "have as one token is added to it. Not set, it is the words of the instance prompt that the class prompt "
           "lacks."},
      {.key = "method.vectors",
       .type = kInteger,
       .default_value = "1",
       .minimum = 1,
       .maximum = 75,
       .condition_key = "method.kind",
       .condition_values = inversion,
       .since = 3,
       .description = "How many vectors the word has: it takes as many places of a prompt."},
      {.key = "method.initialiser",
       .type = kText,
       .condition_key = "method.kind",
       .condition_values = inversion,
       .since = 3,
       .description =
           "The words whose vectors are the initial ones. Not set, it is the last word of the class prompt that is one "
           "token."},

      // Names and defaults as in the web UI's form for a new hypernetwork.
      {.key = "method.layer_structure",
       .type = kText,
       .default_value = "1, 2, 1",
       .condition_key = "method.kind",
       .condition_values = hypernetwork,
       .since = 3,
       .description = "Widths of a hypernetwork's layers as multiples of the context's width: from 1 to 1."},
      {.key = "method.hidden_activation",
       .type = kChoice,
       .default_value = "linear",
       .choices = {"linear", "relu", "leakyrelu", "elu", "swish", "tanh", "sigmoid", "gelu", "silu", "mish",
                   "softsign"},
       .condition_key = "method.kind",
       .condition_values = hypernetwork,
       .since = 3,
       .description = "Function after each of a hypernetwork's layers but the last; linear: none; swish: hard-swish."},
      {.key = "method.activate_output",
       .type = kBoolean,
       .default_value = "false",
       .condition_key = "method.kind",
       .condition_values = hypernetwork,
       .since = 3,
       .description = "The function comes after the last layer too."},
      {.key = "method.layer_norm",
       .type = kBoolean,
       .default_value = "false",
       .condition_key = "method.kind",
       .condition_values = hypernetwork,
       .since = 3,
       .description = "A layer norm after each of a hypernetwork's layers."},
      {.key = "method.weight_init",
       .type = kChoice,
       .default_value = "normal",
       .choices = {"normal", "xavier-uniform", "xavier-normal", "kaiming-uniform", "kaiming-normal"},
       .condition_key = "method.kind",
       .condition_values = hypernetwork,
       .since = 3,
       .description = "What a hypernetwork's weights are drawn from; normal: N(0, 0.01²). Biases start at 0."},
      {.key = "method.widths",
       .type = kNames,
       .default_value = "all",
       .condition_key = "method.kind",
       .condition_values = hypernetwork,
       .since = 3,
       .description =
           "The context widths that get a hypernetwork, as numbers (768 is Stable Diffusion v1's text), or all."},

      {.key = "method.path",
       .type = kPath,
       .required = true,
       .condition_key = "method.kind",
       .condition_values = {"file"},
       .since = 3,
       .description =
           "A LoRA, an embedding, a hypernetwork or a trial's adapter.safetensors, of this or another program: what is "
           "scored as it is, without training."},
  };
}

}  // namespace loupe::settings
