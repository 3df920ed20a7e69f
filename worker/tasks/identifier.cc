#include "worker/tasks/identifier.h"

#include <torch/utils.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/logging.h"
#include "common/sha256.h"
#include "fmt/format.h"
#include "worker/nn/tuning_sites.h"
#include "worker/runtime/finite.h"
#include "worker/runtime/random_stream.h"
#include "worker/runtime/user_error.h"
#include "worker/sampling/prediction_difference.h"

namespace loupe::worker::tasks {
namespace {

constexpr char kPlace[] = "{identifier}";
// Below it a word is a common one.
constexpr double kRare = 0.5;
constexpr size_t kMostLetters = 3;
// Each costs a pass through the network.
constexpr size_t kMostCandidates = 64;

const io::ClipTokenizer& TokenizerOf(base::BaseModel& base) {
  const nn::PromptSite* const prompts = base.conditioner->prompts();
  if (prompts != nullptr) return *prompts->tokenizer;
  throw runtime::UserError(
      fmt::format("{}: its prompts are no texts, so there is no task.identifier to put in", base.folder));
}

std::string With(const std::string& prompt, const std::string& word) {
  std::string text = absl::StrReplaceAll(prompt, {{kPlace, word}});
  if (word.empty()) text = absl::StrReplaceAll(text, {{"  ", " "}});
  return text;
}

bool HasWord(const std::string& text, const std::string& word) {
  const std::vector<std::string> words = absl::StrSplit(text, ' ');
  return std::find(words.begin(), words.end(), word) != words.end();
}

// The rarest first.
std::vector<io::ClipTokenizer::Word> Candidates(const io::ClipTokenizer& tokenizer,
                                                const settings::Settings& settings) {
  std::vector<io::ClipTokenizer::Word> words = tokenizer.Words();
  std::erase_if(words, [&](const io::ClipTokenizer::Word& word) {
    return word.text.size() > kMostLetters || word.rarity < kRare ||
           HasWord(settings.Text("task.instance_prompt"), word.text) ||
           HasWord(settings.Text("task.class_prompt"), word.text);
  });
  std::stable_sort(words.begin(), words.end(),
                   [](const auto& a, const auto& b) { return a.rarity != b.rarity ? a.rarity > b.rarity : false; });
  if (words.size() > kMostCandidates) words.resize(kMostCandidates);
  return words;
}

// Mean |ε̂(prompt with the word) − ε̂(prompt without)| for each of the words.
std::vector<double> Priors(base::BaseModel& base, const std::string& prompt,
                           const std::vector<io::ClipTokenizer::Word>& words,
                           const sampling::SampleProgress& progress) {
  const torch::NoGradGuard no_grad;
  constexpr int64_t kDraws = 2;
  constexpr uint64_t kSeed = 20230315;
  const auto timesteps = torch::tensor(sampling::DifferenceTimesteps(base), torch::kInt64)
                             .repeat_interleave(kDraws)
                             .to(base.denoiser->device());
  const torch::Tensor noise =
      runtime::RandomStream(kSeed).Normal(sampling::NoiseShape(base, timesteps.size(0))).to(timesteps.device());
  const torch::Tensor noisy = base.schedule.AddNoise(torch::zeros_like(noise), noise, timesteps);
  const auto predicted = [&](const std::string& text) {
    const auto output = base.denoiser->Forward(noisy, timesteps, base::RowsOf(base.EncodeText({text}), noisy.size(0)));
    runtime::CheckFinite(output,
                         fmt::format("{}: what the {} predicts for '{}'", base.folder, base.denoiser->name(), text));
    return base.schedule.EpsFromOutput(noisy, base.denoiser->NoisePart(output), timesteps);
  };
  const torch::Tensor without = predicted(With(prompt, ""));
  std::vector<double> priors;
  for (const io::ClipTokenizer::Word& word : words) {
    priors.push_back((predicted(With(prompt, word.text)) - without).abs().mean().item<double>());
    if (progress) progress(static_cast<int64_t>(priors.size()), static_cast<int64_t>(words.size()));
  }
  return priors;
}

std::string WeakestWord(const settings::Settings& settings, SharedInputs& inputs,
                        const sampling::SampleProgress& progress) {
  base::BaseModel& base = inputs.Base(settings);
  const std::vector<io::ClipTokenizer::Word> words = Candidates(TokenizerOf(base), settings);
  if (words.empty()) {
    throw runtime::UserError(fmt::format(
        "task.identifier: the tokenizer of {} has no rare word of {} letters or fewer as one token; give a word",
        base.folder, kMostLetters));
  }
  const std::string& prompt = settings.Text("task.instance_prompt");
  const auto make = [&]() -> train::TensorMap {
    return {{"priors", torch::tensor(Priors(base, prompt, words, progress), torch::kFloat64)}};
  };
  std::string key = fmt::format("identifier-v1\n{}\n{}", inputs.BaseDigest(settings), prompt);
  for (const io::ClipTokenizer::Word& word : words) key += "\n" + word.text;
  const torch::Tensor priors = inputs.Kept("identifier", key, make, progress).at("priors");
  // Three digits: machines round differently, and must not choose differently for that.
  const auto rounded = [&](size_t i) {
    const double prior = priors[static_cast<int64_t>(i)].item<double>();
    const double unit = std::pow(10, std::floor(std::log10(std::max(prior, 1e-300))) - 2);
    return std::round(prior / unit) * unit;
  };
  size_t best = 0;
  for (size_t i = 1; i < words.size(); ++i) {
    if (rounded(i) < rounded(best)) best = i;
  }
  return words[best].text;
}

std::vector<std::string> NotesOn(const std::string& word, const io::ClipTokenizer& tokenizer) {
  const size_t tokens = tokenizer.Tokenise(word).size();
  if (tokens > 1) {
    return {fmt::format(
        "the identifier '{}' is {} tokens of the base's tokenizer: the subject will be tied to each of them, which mean "
        "something by themselves; task.identifier auto picks a single rare one",
        word, tokens)};
  }
  for (const io::ClipTokenizer::Word& known : tokenizer.Words()) {
    if (known.text != word || known.rarity >= kRare) continue;
    return {fmt::format(
        "the identifier '{}' is a common word of the base's tokenizer: the base has a meaning for it that training must "
        "work against; task.identifier auto picks a rare one",
        word)};
  }
  return {};
}

}  // namespace

Identified PutInIdentifier(const settings::Settings& settings, SharedInputs& inputs,
                           const sampling::SampleProgress& progress) {
  if (!settings.Has("task.instance_prompt")) return {settings, "", {}};
  const std::string& prompt = settings.Text("task.instance_prompt");
  const bool given = settings.Has("task.identifier");
  const bool in_prompt = prompt.find(kPlace) != std::string::npos;
  if (settings.Text("task.class_prompt").find(kPlace) != std::string::npos) {
    throw runtime::UserError(
        "task.class_prompt has {identifier}, but the class has none; only task.instance_prompt may");
  }
  if (in_prompt && !given) {
    throw runtime::UserError(
        "task.instance_prompt has {identifier}, but task.identifier is not set; set it to a word or to auto");
  }
  if (given && !in_prompt) {
    throw runtime::UserError(
        fmt::format("task.identifier is {}, but task.instance_prompt '{}' has no {{identifier}} for it to stand in",
                    settings.Text("task.identifier"), prompt));
  }
  if (!given) return {settings, "", {}};
  Identified found;
  found.word = settings.Text("task.identifier");
  if (found.word == "auto") {
    found.word = WeakestWord(settings, inputs, progress);
    LogInfo("task.identifier auto is '{}', the word that {} knows least", found.word, settings.Text("base"));
  } else {
    found.notes = NotesOn(found.word, TokenizerOf(inputs.Base(settings)));
  }
  found.settings = settings.With({{"task.identifier", found.word}, {"task.instance_prompt", With(prompt, found.word)}});
  return found;
}

}  // namespace loupe::worker::tasks
