#include "worker/methods/textual_inversion.h"

#include <torch/utils.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "fmt/format.h"
#include "worker/io/clip_tokenizer.h"
#include "worker/methods/layer_names.h"
#include "worker/methods/own_weights.h"

namespace loupe::worker::methods {
namespace {

std::vector<std::string> WordsOf(const std::string& text) {
  return absl::StrSplit(text, absl::ByAnyChar(" \t"), absl::SkipEmpty());
}

std::string Prompt(const settings::Settings& settings, const char* key) {
  return settings.Has(key) ? settings.Text(key) : "";
}

// The base's parts that the method needs.
struct TokenSites {
  nn::PromptSite& prompts;
  nn::LayerSite embedding;

  const io::ClipTokenizer& tokenizer() const { return *prompts.tokenizer; }
  int64_t vocabulary() const { return embedding.layer->weight.size(0); }
  int64_t width() const { return embedding.layer->weight.size(1); }
};

TokenSites TokenSitesOf(const nn::TuningSites& sites) {
  const auto found = std::find_if(sites.conditioner.begin(), sites.conditioner.end(), [](const nn::LayerSite& site) {
    return settings::FitsName("token_embedding", site.name);
  });
  TORCH_CHECK(sites.prompts != nullptr && found != sites.conditioner.end(),
              "the base has no text encoder with a token embedding: it has no words to learn");
  return {*sites.prompts, *found};
}

// What a slot learns.
struct SlotWord {
  std::string token;
  torch::Tensor initial;  // [n, width]
  // Where its rows are among ids: one of the vocabulary's own, or the first behind it.
  int64_t first = 0;
  bool added = false;
};

SlotWord Place(const TokenSites& sites, std::string token, torch::Tensor initial) {
  SlotWord word{std::move(token), std::move(initial), sites.vocabulary(), true};
  const std::vector<int64_t> ids = sites.tokenizer().Tokenise(word.token);
  if (ids.size() == 1 && word.initial.size(0) == 1) {
    word.first = ids.front();
    word.added = false;
  }
  return word;
}

// n rows for the words of `text`: spread over them as the web UI does, which for one token is n times its row.
torch::Tensor RowsOfWords(const TokenSites& sites, const std::string& text, int64_t n) {
  const std::vector<int64_t> ids = sites.tokenizer().Tokenise(text);
  const auto count = static_cast<int64_t>(ids.size());
  TORCH_CHECK(count > 0 && count <= n, "method.initialiser '", text, "' is ", count,
              " tokens of the base's tokenizer, but ", "method.vectors is ", n,
              ": give a shorter word or more vectors");
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < n; ++i) rows.push_back(ids[static_cast<size_t>(i * count / n)]);
  const torch::Tensor weight = sites.embedding.layer->weight.detach();
  return weight.index_select(0, torch::tensor(rows, torch::kInt64).to(weight.device())).to(torch::kFloat32);
}

std::string DefaultInitialiser(const TokenSites& sites, const settings::Settings& settings) {
  const std::vector<std::string> words = WordsOf(Prompt(settings, "task.class_prompt"));
  const auto found = std::find_if(words.rbegin(), words.rend(), [&](const std::string& word) {
    return sites.tokenizer().Tokenise(word).size() == 1;
  });
  TORCH_CHECK(found != words.rend(),
              "no word of the class prompt is one token of the base's tokenizer: give method.initialiser");
  return *found;
}

// That training reaches the word at all.
void CheckInPrompt(const TokenSites& sites, const SlotWord& word, const settings::Settings& settings) {
  if (!settings.Has("task.instance_prompt")) return;
  const std::string& prompt = settings.Text("task.instance_prompt");
  std::vector<int64_t> ids = sites.tokenizer().Tokenise(prompt);
  if (word.added) {
    const auto with = sites.tokenizer().WithWord(word.token, word.first, word.initial.size(0));
    TORCH_CHECK(with.ok(), "method.token: ", std::string(with.status().message()));
    ids = with->Tokenise(prompt);
  }
  TORCH_CHECK(std::find(ids.begin(), ids.end(), word.first) != ids.end(), "method.token '", word.token,
              "' is not in the instance prompt '", prompt, "': nothing would be learned");
}

SlotWord WordOf(const TokenSites& sites, const settings::Settings& settings) {
  const std::string token = settings.Has("method.token") ? settings.Text("method.token") : WordOfPrompts(settings);
  TORCH_CHECK(
      !token.empty(),
      "the word to learn does not follow from the prompts (the words that the instance prompt has and the class "
      "prompt lacks, side by side): give method.token");
  const std::string initialiser =
      settings.Has("method.initialiser") ? settings.Text("method.initialiser") : DefaultInitialiser(sites, settings);
  SlotWord word = Place(sites, token, RowsOfWords(sites, initialiser, settings.Integer("method.vectors")));
  CheckInPrompt(sites, word, settings);
  return word;
}

// Slot by slot: each has its own rows at its own ids.
class WordHook : public nn::LayerHook {
 public:
  WordHook(const nn::LeafLayer& layer, std::vector<int64_t> firsts, std::vector<torch::Tensor> vectors)
      : layer_(layer), firsts_(std::move(firsts)), vectors_(std::move(vectors)) {}

  bool extends() const override { return false; }

  torch::Tensor Forward(const torch::Tensor& ids, const torch::Tensor& /*own*/) const override {
    const auto count = static_cast<int64_t>(vectors_.size());
    std::vector<torch::Tensor> pieces;
    for (int64_t k = 0; k < count; ++k) {
      const auto at = static_cast<size_t>(k);
      const torch::Tensor rows = nn::SlotRange{k, 1, count}.Rows(ids), vectors = vectors_[at][0];
      const auto place = rows - firsts_[at];
      const auto ours = place.ge(0).logical_and(place.lt(vectors.size(0))).unsqueeze(-1);
      // Ids behind the vocabulary are ours, whatever row stands in for them.
      const auto plain = layer_.Apply(rows.clamp_max(layer_.weight.size(0) - 1), layer_.weight, {});
      const auto learned = torch::embedding(vectors, place.clamp(0, vectors.size(0) - 1));
      pieces.push_back(torch::where(ours, learned.to(plain.scalar_type()), plain));
    }
    return pieces.size() == 1 ? pieces.front() : torch::cat(pieces);
  }

 private:
  const nn::LeafLayer& layer_;
  const std::vector<int64_t> firsts_;         // per slot
  const std::vector<torch::Tensor> vectors_;  // per slot, [1, n, width]
};

class TextualInversion : public ParameterMethod {
 public:
  TextualInversion(const TokenSites& sites, std::vector<SlotWord> words, const nn::SlotRange& range,
                   torch::Device device)
      : ParameterMethod(range), words_(std::move(words)) {
    std::vector<int64_t> firsts;
    std::vector<torch::Tensor> vectors;
    for (size_t k = 0; k < words_.size(); ++k) {
      const SlotWord& word = words_[k];
      const int64_t slot = range.first + static_cast<int64_t>(k);
      vectors.push_back(word.initial.to(device, torch::kFloat32, /*non_blocking=*/false, /*copy=*/true)
                            .unsqueeze(0)
                            .set_requires_grad(true));
      firsts.push_back(word.first);
      // Under the word's own name: diffusers' learned_embeds.safetensors is the same.
      parameters_.push_back({word.token, vectors.back(), slot});
      if (!word.added) continue;
      auto tokenizer = sites.tokenizer().WithWord(word.token, word.first, word.initial.size(0));
      TORCH_CHECK(tokenizer.ok(), "method.token: ", std::string(tokenizer.status().message()));
      readers_.push_back(std::make_unique<Attachment>(nn::SlotRange{slot, 1, range.total}));
      readers_.back()->Add(sites.prompts, std::make_shared<const io::ClipTokenizer>(*std::move(tokenizer)));
    }
    embedding_ = kTextEncoderPrefix;
    embedding_ += sites.embedding.name + ".weight";
    attachment_.Add(sites.embedding, std::make_shared<WordHook>(*sites.embedding.layer, firsts, vectors));
  }

  void SetEnabled(bool enabled) override {
    ParameterMethod::SetEnabled(enabled);
    for (const auto& reader : readers_) reader->SetEnabled(enabled);
  }

  absl::Status Merge(int64_t slot, BaseWeights& weights) const override {
    const SlotWord& word = words_[static_cast<size_t>(slot - range_.first)];
    if (word.added) {
      return absl::InvalidArgumentError(fmt::format(
          "the word '{}' is new to the base's tokenizer, so its vectors have no row to be merged into: export it as "
          "diffusers, a1111 or kohya",
          word.token));
    }
    torch::Tensor* const table = FindWeight(weights, embedding_);
    TORCH_CHECK(table != nullptr, "the base has no weight '", embedding_, "'");
    const torch::NoGradGuard no_grad;
    torch::Tensor merged = table->detach().clone();
    merged[word.first].copy_(parameters_[static_cast<size_t>(slot - range_.first)].value[0][0]);
    *table = merged;
    return absl::OkStatus();
  }

 private:
  const std::vector<SlotWord> words_;  // per slot
  std::string embedding_;
  std::vector<std::unique_ptr<Attachment>> readers_;
};

}  // namespace

std::string WordOfPrompts(const settings::Settings& settings) {
  const std::vector<std::string> words = WordsOf(Prompt(settings, "task.instance_prompt"));
  const std::vector<std::string> of_class = WordsOf(Prompt(settings, "task.class_prompt"));
  if (of_class.empty()) return "";
  const auto is_own = [&](const std::string& word) {
    return std::find(of_class.begin(), of_class.end(), word) == of_class.end();
  };
  const auto first = std::find_if(words.begin(), words.end(), is_own);
  const auto end = std::find_if_not(first, words.end(), is_own);
  if (std::find_if(end, words.end(), is_own) != words.end()) return "";
  return absl::StrJoin(first, end, " ");
}

std::unique_ptr<Method> MakeTextualInversion(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                                             const nn::SlotRange& range, torch::Device device) {
  const TokenSites tokens = TokenSitesOf(sites);
  std::vector<SlotWord> words;
  for (const SlotOptions& slot : slots) words.push_back(WordOf(tokens, slot.settings));
  return std::make_unique<TextualInversion>(tokens, std::move(words), range, device);
}

std::unique_ptr<Method> MakeInversionOf(const files::EmbeddingFile& file, const std::string& token,
                                        const nn::TuningSites& sites, const nn::SlotRange& range,
                                        torch::Device device) {
  const TokenSites tokens = TokenSitesOf(sites);
  TORCH_CHECK(file.vectors.size(1) == tokens.width(), "the embedding's vectors have ", file.vectors.size(1),
              " numbers, but those of the base's text encoder ", tokens.width(), ": it was made for another base");
  return std::make_unique<TextualInversion>(tokens, std::vector{Place(tokens, token, file.vectors)}, range, device);
}

}  // namespace loupe::worker::methods
