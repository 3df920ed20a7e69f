// Textual inversion on the built-in base's text encoder: what a word's vectors change and what they leave, packs, its
// files. Held to diffusers in tests/parity.
#include "worker/methods/textual_inversion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/atomic_file.h"
#include "tests/worker/methods/small_network.h"
#include "worker/base/base_model.h"
#include "worker/io/safetensors.h"
#include "worker/io/torch_archive.h"
#include "worker/methods/method_registry.h"
#include "worker/methods/tuned_file.h"
#include "worker/models/weights.h"
#include "worker/nn/tuning_sites.h"

namespace loupe::worker::methods {
namespace {

using ::testing::HasSubstr;
using WordValues = std::map<std::string, std::string>;

WordValues Inversion(const WordValues& more = {}) {
  WordValues values = {{"method.kind", "textual-inversion"},
                       {"task.instance_prompt", "a photo of <toy> cat"},
                       {"task.class_prompt", "a photo of cat"}};
  for (const auto& [key, value] : more) values[key] = value;
  return values;
}

class TextualInversionTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    at::set_num_threads(1);
    base_ = std::make_unique<base::BaseModel>(*base::LoadBase("configs/bases/emoji-sd"));
    folder_ = ::testing::TempDir() + "textual_inversion_test/";
    std::filesystem::create_directories(folder_);
  }
  static void TearDownTestSuite() {
    base_.reset();
    std::filesystem::remove_all(folder_);
  }

  static nn::TuningSites Sites() {
    return nn::SitesIn(base_->denoiser->network(), &base_->conditioner->network(), base_->conditioner->prompts());
  }
  static std::unique_ptr<Method> Attach(const std::vector<WordValues>& slots) {
    std::vector<SlotOptions> options;
    for (const WordValues& values : slots) options.push_back({MethodSettings(values), 40 + options.size()});
    return MakeMethod(Sites(), options, torch::kCPU);
  }
  static void Move(Method& method, double by) {
    const torch::NoGradGuard no_grad;
    for (const NamedParameter& parameter : method.parameters()) {
      torch::Tensor value = parameter.value;
      value.add_(by);
    }
  }
  static torch::Tensor Encode(const std::vector<std::string>& prompts) {
    const torch::NoGradGuard no_grad;
    return base_->conditioner->Encode(prompts);
  }
  static std::string Refusal(const WordValues& values) {
    try {
      Attach({values});
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "";
  }

  inline static std::unique_ptr<base::BaseModel> base_;
  inline static std::string folder_;
};

TEST_F(TextualInversionTest, ANewWordBeginsAsItsInitialiser) {
  const auto expected = Encode({"a photo of cat cat", "a cat"});
  const auto method = Attach({Inversion()});
  EXPECT_EQ(method->ParametersOf(0), 128) << "half a kilobyte";
  EXPECT_TRUE(Encode({"a photo of <toy> cat", "a <toy>"}).equal(expected));
  EXPECT_TRUE(MethodOf(MethodSettings(Inversion())).trains_conditioner(MethodSettings(Inversion())));
}

TEST_F(TextualInversionTest, OnlyItsOwnRowsChange) {
  const std::vector<std::string> others = {"a photo of cat", "", "red heart", "a toy"};
  const auto plain = Encode(others);
  const auto broken_up = Encode({"a <toy>"});
  const auto table = base_->text_encoder->named_parameters()["embeddings.token_embedding.weight"].clone();
  const auto method = Attach({Inversion({{"method.vectors", "3"}})});
  const auto before = Encode({"a <toy>"});
  Move(*method, 0.5);
  EXPECT_FALSE(Encode({"a <toy>"}).equal(before));
  EXPECT_TRUE(Encode(others).equal(plain));
  EXPECT_TRUE(base_->text_encoder->named_parameters()["embeddings.token_embedding.weight"].equal(table));
  // Three places of the prompt.
  const auto ids = base_->conditioner->Ids({"a <toy> cat"})[0];
  EXPECT_EQ(ids[2].item<int64_t>(), table.size(0));
  EXPECT_EQ(ids[4].item<int64_t>(), table.size(0) + 2);
  const MethodDisabled off(method.get());
  EXPECT_TRUE(Encode({"a <toy>"}).equal(broken_up)) << "the word is no word any more";
}

TEST_F(TextualInversionTest, AWordOfTheTokenizerIsLearnedInPlace) {
  const WordValues values = Inversion({{"method.token", "heart"}, {"task.instance_prompt", "a heart"}});
  BaseWeights weights;
  for (const auto& item : base_->text_encoder->named_parameters()) weights.conditioner[item.key()] = item.value();
  const auto ids = base_->conditioner->Ids({"a heart"});
  auto method = Attach({values});
  EXPECT_TRUE(base_->conditioner->Ids({"a heart"}).equal(ids));
  Move(*method, 0.25);
  ASSERT_TRUE(method->Merge(0, weights).ok());
  const auto& merged = weights.conditioner.at("embeddings.token_embedding.weight");
  const auto changed =
      (merged - base_->text_encoder->named_parameters()["embeddings.token_embedding.weight"]).abs().sum(1);
  EXPECT_EQ(changed.gt(0).sum().item<int64_t>(), 1);
  EXPECT_TRUE(merged[ids[0][2].item<int64_t>()].equal(method->Export(0).at("heart")[0]));
  method.reset();
  EXPECT_THAT(std::string(Attach({Inversion()})->Merge(0, weights).message()),
              HasSubstr("new to the base's tokenizer"));
}

TEST_F(TextualInversionTest, WordAndInitialiserFollowFromThePrompts) {
  const auto word = [](const std::string& instance, const std::string& class_prompt) {
    return WordOfPrompts(MethodSettings(
        {{"task.instance_prompt", instance}, {"task.class_prompt", class_prompt}, {"method.kind", "bitfit"}}));
  };
  EXPECT_EQ(word("a photo of sks dog", "a photo of dog"), "sks");
  EXPECT_EQ(word("a photo of my old dog", "a photo of dog"), "my old");
  EXPECT_EQ(word("my photo of sks dog", "a photo of dog"), "") << "not side by side";
  EXPECT_EQ(word("a dog", "a photo of dog"), "");
  EXPECT_THAT(Refusal(Inversion({{"task.instance_prompt", "a photo of cat"}})), HasSubstr("give method.token"));
  EXPECT_THAT(Refusal(Inversion({{"method.token", "<other>"}})), HasSubstr("is not in the instance prompt"));
  EXPECT_THAT(Refusal(Inversion({{"method.initialiser", "a red cat"}})), HasSubstr("is 3 tokens"));
  EXPECT_EQ(Refusal(Inversion({{"method.initialiser", "a red cat"}, {"method.vectors", "3"}})), "");
  EXPECT_THAT(Refusal(Inversion({{"method.token", "cat"}, {"method.vectors", "76"}})), HasSubstr("1 to 75"));
}

// Two words with different numbers of vectors and a trial that reads prompts as the base does, against solo runs.
TEST_F(TextualInversionTest, SlotsOfAPackReadPromptsAsAloneTheyWould) {
  const std::vector<WordValues> slots = {
      Inversion({{"method.vectors", "2"}}),
      {{"method.kind", "lora"}, {"method.text_encoder", "true"}},
      Inversion({{"method.token", "sks"}, {"task.instance_prompt", "a photo of sks cat"}})};
  const std::vector<std::string> prompts = {"a photo of <toy> cat", "a sks <toy>"};
  std::vector<torch::Tensor> solo, gradients;
  const auto backward = [](const torch::Tensor& encoded) { encoded.square().sum().backward(); };
  for (const WordValues& values : slots) {
    const auto method = Attach({values});
    const auto encoded = base_->conditioner->Encode(prompts);
    backward(encoded);
    solo.push_back(encoded.detach());
    const torch::Tensor& gradient = method->parameters().front().value.grad();
    gradients.push_back(gradient.defined() ? gradient[0].clone() : torch::Tensor());
  }
  const auto pack = Attach(slots);
  std::vector<std::string> together;
  for (size_t k = 0; k < slots.size(); ++k) together.insert(together.end(), prompts.begin(), prompts.end());
  const auto encoded = base_->conditioner->Encode(together);
  // Rounding of products over more rows.
  EXPECT_LT((encoded.detach() - torch::cat(solo)).abs().max().item<double>(), 1e-4);
  backward(encoded);
  for (int64_t k : {0, 2}) {
    for (const NamedParameter& parameter : pack->parameters()) {
      if (!parameter.Holds(k) || parameter.first_slot != k) continue;
      const auto& expected = gradients[static_cast<size_t>(k)];
      EXPECT_LT((parameter.value.grad()[0] - expected).abs().max().item<double>(),
                1e-3 * expected.abs().max().item<double>());
    }
  }
}

TEST_F(TextualInversionTest, EveryFormReadsBackAsItWasWritten) {
  const files::EmbeddingFile written{
      .token = "<toy>", .vectors = torch::randn({2, 128}), .form = "", .step = 70, .checkpoint = "x"};
  const auto check = [&](const std::string& path, const std::string& token, const std::string& form) {
    const auto read = files::ReadEmbedding(path);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->token, token);
    EXPECT_EQ(read->form, form);
    EXPECT_TRUE(read->vectors.equal(written.vectors));
    EXPECT_EQ(*RecogniseTunedFile(path), TunedFileKind::kEmbedding);
    const auto file = ReadTunedFile(path, Sites());
    ASSERT_TRUE(file.ok()) << file.status();
    const auto method = MakeMethodOf(*file, "", Sites(), nn::SlotRange{}, torch::kCPU);
    EXPECT_EQ(base_->conditioner->Ids({token})[0][2].item<int64_t>(), 2016) << form;
  };
  ASSERT_TRUE(files::WriteDiffusersEmbedding(folder_ + "learned_embeds.safetensors", written).ok());
  check(folder_ + "learned_embeds.safetensors", "<toy>", "diffusers");
  ASSERT_TRUE(files::WriteA1111Embedding(folder_ + "other.pt", written).ok());
  check(folder_ + "other.pt", "<toy>", "a1111");
  EXPECT_EQ(files::ReadEmbedding(folder_ + "other.pt")->step, 70);
  EXPECT_EQ(files::ReadEmbedding(folder_ + "other.pt")->checkpoint, "x");
  ASSERT_TRUE(files::WriteKohyaEmbedding(folder_ + "toy.safetensors", written).ok());
  check(folder_ + "toy.safetensors", "toy", "kohya");
  EXPECT_EQ(files::FileNameOf("<cat-toy>"), "cat-toy");
  EXPECT_EQ(files::FileNameOf("../<>"), "embedding");
}

TEST_F(TextualInversionTest, FilesThatAreNoEmbeddingsAreRefused) {
  const auto refusal = [&](const std::string& name, const std::map<std::string, torch::Tensor>& arrays) {
    const std::string path = folder_ + name;
    const auto views = models::ToArrays(arrays);
    const auto written =
        name.ends_with(".pt") ? io::WriteTorchArchive(path, views.views) : io::WriteSafetensors(path, views.views, {});
    EXPECT_TRUE(written.ok()) << written;
    const auto read = ReadTunedFile(path, Sites());
    if (!read.ok()) return std::string(read.status().message());
    try {
      MakeMethodOf(*read, "", Sites(), nn::SlotRange{}, torch::kCPU);
    } catch (const c10::Error& error) {
      return std::string(error.what_without_backtrace());
    }
    return std::string();
  };
  EXPECT_THAT(refusal("a.safetensors", {{"clip_l", torch::ones({1, 128})}, {"clip_g", torch::ones({1, 160})}}),
              HasSubstr("two text encoders"));
  EXPECT_THAT(refusal("b.pt", {{"x", torch::ones({1, 768})}}), HasSubstr("768 numbers, but those of the base's"));
  EXPECT_THAT(refusal("c.pt", {{"x", torch::full({1, 128}, std::nan(""))}}), HasSubstr("the embedding is broken"));
  EXPECT_THAT(refusal("d.safetensors", {{"x", torch::ones({128}, torch::kInt64)}}), HasSubstr("expected floats"));
  EXPECT_THAT(refusal("e.safetensors", {{"x", torch::ones({2, 2})}, {"y", torch::ones({2, 2})}}),
              HasSubstr("no array of a LoRA"));
  ASSERT_TRUE(WriteFileAtomically(folder_ + "f.png", "\x89PNG").ok());
  EXPECT_THAT(std::string(RecogniseTunedFile(folder_ + "f.png").status().message()), HasSubstr("within pictures"));
  ASSERT_TRUE(WriteFileAtomically(folder_ + "g.pt", "cos\nsystem\n(X\x02\0\0\0lstR.").ok());
  EXPECT_FALSE(RecogniseTunedFile(folder_ + "g.pt").ok());
  EXPECT_EQ(RecogniseTunedFile(folder_ + "none.pt").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace loupe::worker::methods
