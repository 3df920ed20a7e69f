// A batch's captions are those that its conditions were encoded from: methods that train the conditioner read them.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "worker/tasks/dreambooth.h"
#include "worker/tasks/finetune.h"

namespace loupe::worker::tasks {
namespace {

TEST(BatchPromptsTest, DreamBoothsAreTheSubjectsThenTheClasss) {
  auto data = std::make_shared<DreamBoothData>();
  data->instance = {torch::zeros({3, 1, 1, 1}), {}, torch::ones({1, 1, 2}), "a photo of sks"};
  data->prior = {torch::zeros({4, 1, 1, 1}), {}, torch::zeros({1, 1, 2}), "a photo of cat face"};
  const train::Batch batch = MakeDreamBoothSource(data, 2, {1, 2, 3})->Next();
  const std::vector<std::string> expected = {"a photo of sks", "a photo of sks", "a photo of cat face",
                                             "a photo of cat face"};
  EXPECT_EQ(batch.prompts, expected);
  for (int64_t row = 0; row < 4; ++row) EXPECT_EQ(batch.context[row].sum().item<double>(), row < 2 ? 2 : 0);
}

TEST(BatchPromptsTest, FineTuningsAreEmptyWhereTheCaptionIsDropped) {
  auto data = std::make_shared<CaptionedPictures>();
  data->latents = torch::zeros({5, 1, 1, 1});
  data->captions = {"one", "two", "one", "two", "one"};
  data->contexts = torch::stack({torch::full({1, 2}, 1.), torch::full({1, 2}, 2.)});
  data->caption_of = torch::tensor({0, 1, 0, 1, 0}, torch::kInt64);
  data->empty_context = torch::zeros({1, 1, 2});
  data->caption_dropout = 0.5;
  const auto source = MakeCaptionedSource(data, 4, {1, 2, 3});
  int dropped = 0;
  for (int i = 0; i < 20; ++i) {
    const train::Batch batch = source->Next();
    ASSERT_EQ(batch.prompts.size(), 4u);
    for (size_t row = 0; row < 4; ++row) {
      const double context = batch.context[static_cast<int64_t>(row)].mean().item<double>();
      EXPECT_EQ(batch.prompts[row], context == 0 ? "" : context == 1 ? "one" : "two");
      dropped += context == 0 ? 1 : 0;
    }
  }
  EXPECT_GT(dropped, 0);
  EXPECT_LT(dropped, 80);
}

}  // namespace
}  // namespace loupe::worker::tasks
