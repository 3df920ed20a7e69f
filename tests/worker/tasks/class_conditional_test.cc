// The task of classes: which class of the base a class of the data set is, and what a step and a score see.
#include "worker/tasks/class_conditional.h"

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/class_base.h"
#include "tests/testing/temp_folder.h"
#include "worker/base/model_store.h"
#include "worker/methods/method_registry.h"
#include "worker/runtime/user_error.h"
#include "worker/train/trainer.h"

namespace loupe::worker::tasks {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kLabels[] = R"({"0": "cat", "1": "red panda", "2": "dog"})";

void WritePicture(const std::string& path, uint8_t grey) {
  fs::create_directories(fs::path(path).parent_path());
  const auto status = io::WritePng(path, io::Image{64, 64, std::vector<uint8_t>(3 * 64 * 64, grey)});
  ASSERT_TRUE(status.ok()) << status;
}

class ClassConditionalTaskTest : public ::testing::TestWithParam<io::BaseKind> {
 protected:
  void SetUp() override { at::set_num_threads(1); }

  settings::Settings SettingsOf(const std::map<std::string, std::string>& more) {
    std::map<std::string, std::string> values = {
        {"base", folder_ / "base"},      {"scorer", "configs/scorers/emoji-clip"},
        {"task.kind", "classes"},        {"task.images", folder_ / "data"},
        {"task.caption_dropout", "0.5"}, {"method.kind", "lora"},
        {"method.targets", "linear"},    {"budget.steps", "1"},
        {"budget.batch", "4"},           {"budget.samples", "4"},
        {"train.vlb_weight", "0.001"}};
    for (const auto& [key, value] : more) values[key] = value;
    auto settings = settings::Settings::Create(values);
    TORCH_CHECK(settings.ok(), settings.status().ToString());
    return *std::move(settings);
  }

  testing::TempFolder folder_;
};

TEST_P(ClassConditionalTaskTest, StepAndScoresSeeTheClasses) {
  WriteClassBase(folder_ / "base", GetParam(), kLabels, 3);
  WritePicture(folder_ / "data/dog/a.png", 10);
  WritePicture(folder_ / "data/dog/b.png", 20);
  WritePicture(folder_ / "data/red-panda/c.png", 200);
  base::ModelStore models(torch::kCPU);
  SharedInputs inputs(models, TensorCache(folder_ / "cache"));
  const settings::Settings settings = SettingsOf({});
  const auto task = MakeClassConditionalTask(settings, 1, inputs, {});
  EXPECT_THAT(task->captions(), ElementsAre("2", "2", "1"));
  EXPECT_TRUE(task->contexts().equal(torch::tensor({{2}, {2}, {1}})));
  EXPECT_TRUE(task->picture_notes().empty());

  const TrialSeeds seeds{1, 0};
  const auto run = task->Begin(settings, seeds, inputs);
  EXPECT_EQ(run->prompts().size(), 4u);
  EXPECT_EQ(run->references().subject.clip.rows, 3);
  EXPECT_EQ(run->references().texts.rows, 4);
  const auto source = run->MakeSource(4);
  bool null_class = false, own_class = false;
  for (int i = 0; i < 5; ++i) {
    const train::Batch batch = source->Next();
    for (size_t row = 0; row < 4; ++row) {
      const int64_t id = batch.context[static_cast<int64_t>(row)].item<int64_t>();
      EXPECT_EQ(batch.prompts[row], id == 3 ? "" : std::to_string(id));
      null_class = null_class || id == 3;
      own_class = own_class || id < 3;
    }
  }
  EXPECT_TRUE(null_class && own_class);

  // One step of LoRA with L_hybrid, and a guided picture.
  base::BaseModel& base = inputs.Base(settings);
  const auto method = methods::MakeMethod(nn::SitesIn(base.denoiser->network(), &base.conditioner->network()),
                                          {{settings, 5}}, torch::kCPU);
  std::vector<train::TrainSlot> slots;
  slots.push_back({.source = run->MakeSource(4),
                   .noise = runtime::RandomStream(3),
                   .timesteps = runtime::RandomStream(4),
                   .options = {.vlb_weight = 0.001}});
  train::Trainer trainer(base, *method, std::move(slots));
  const std::vector<train::SlotStep> step = trainer.Step();
  EXPECT_EQ(step[0].kind, train::SlotStep::Kind::kStepped);
  sampling::SampleOptions options;
  options.steps = 2;
  options.guidance = 2;
  const torch::Tensor noise = runtime::RandomStream(6).Normal(sampling::NoiseShape(base, 2));
  EXPECT_EQ(sampling::SamplePictures(base, {"dog", "1"}, noise, options).size(), 2u);
  // In 16 bits: the same but for their rounding.
  const torch::Tensor whole = sampling::SampleLatents(base, {"dog", "1"}, noise, options);
  options.precision = torch::kBFloat16;
  const torch::Tensor half = sampling::SampleLatents(base, {"dog", "1"}, noise, options);
  EXPECT_EQ(half.scalar_type(), torch::kFloat32);
  EXPECT_FALSE(torch::equal(half, whole));
  EXPECT_LT((half - whole).abs().max().item<double>(), 0.05 * whole.abs().max().item<double>()) << "8 bits, 4 passes";
}

TEST_P(ClassConditionalTaskTest, UnknownClassesAreMatchedInOrder) {
  WriteClassBase(folder_ / "base", GetParam(), kLabels, 3);
  WritePicture(folder_ / "data/roses/a.png", 10);
  WritePicture(folder_ / "data/daisies/b.png", 20);
  base::ModelStore models(torch::kCPU);
  SharedInputs inputs(models, TensorCache(folder_ / "cache"));
  const auto task = MakeClassConditionalTask(SettingsOf({}), 1, inputs, {});
  EXPECT_THAT(task->captions(), ElementsAre("0", "1"));
  EXPECT_THAT(task->picture_notes(), ElementsAre(HasSubstr("knows none of its classes by name")));
}

TEST_P(ClassConditionalTaskTest, UnconditionalBaseTakesAnyFolder) {
  WriteClassBase(folder_ / "base", GetParam(), "{}", 1);
  WritePicture(folder_ / "data/a.png", 10);
  WritePicture(folder_ / "data/b.png", 200);
  base::ModelStore models(torch::kCPU);
  SharedInputs inputs(models, TensorCache(folder_ / "cache"));
  const settings::Settings settings = SettingsOf({});
  const auto task = MakeClassConditionalTask(settings, 1, inputs, {});
  EXPECT_THAT(task->captions(), ElementsAre("0", "0"));
  EXPECT_EQ(inputs.Contexts(settings, {""}).item<int64_t>(), 0);
}

TEST_P(ClassConditionalTaskTest, PicturesOfAnotherSize) {
  WriteClassBase(folder_ / "base", GetParam(), kLabels, 3);
  WritePicture(folder_ / "data/dog/a.png", 10);
  WritePicture(folder_ / "data/cat/b.png", 200);
  base::ModelStore models(torch::kCPU);
  SharedInputs inputs(models, TensorCache(folder_ / "cache"));
  const settings::Settings stretched = SettingsOf({{"task.picture_size", "128"}});
  const settings::Settings counted = SettingsOf({{"task.picture_size", "128"}, {"task.positions", "counted"}});
  EXPECT_EQ(MakeClassConditionalTask(stretched, 1, inputs, {})->latents().sizes(),
            (std::vector<int64_t>{2, 4, 32, 32}));
  base::BaseModel& base = inputs.Base(stretched);
  EXPECT_EQ(base.image_size(), 128);
  EXPECT_EQ(&base, &inputs.Base(stretched));
  const auto x = torch::randn({1, 4, 32, 32});
  const auto t = torch::tensor({5}), classes = torch::tensor({{1}});
  torch::NoGradGuard no_grad;
  EXPECT_FALSE(base.denoiser->Forward(x, t, classes).equal(inputs.Base(counted).denoiser->Forward(x, t, classes)));
  // At the trained size both are what the base is.
  EXPECT_EQ(inputs.Base(SettingsOf({})).image_size(), 64);
  const settings::Settings odd = SettingsOf({{"task.picture_size", "66"}});
  EXPECT_THROW(inputs.Base(odd), runtime::UserError);
}

INSTANTIATE_TEST_SUITE_P(Kinds, ClassConditionalTaskTest,
                         ::testing::Values(io::BaseKind::kDiT, io::BaseKind::kDiffuSSM),
                         [](const auto& info) { return std::string(io::BaseKindName(info.param)); });

TEST(MatchClassesTest, HalfKnownNamesAreRefused) {
  const testing::TempFolder folder;
  std::ofstream(folder / "model_index.json") << "{\"id2label\": " << kLabels << "}";
  const auto base = io::ClassNames::Read(folder.path(), 3);
  ASSERT_TRUE(base.ok());
  EXPECT_THAT(MatchClasses(*base, {"dog", "red_panda", "0"})->ids, ElementsAre(2, 1, 0));
  EXPECT_THAT(std::string(MatchClasses(*base, {"cat", "fox"}).status().message()), HasSubstr("none called 'fox'"));
  EXPECT_THAT(std::string(MatchClasses(*base, {"a", "b", "c", "d"}).status().message()), HasSubstr("more than the 3"));
  EXPECT_THAT(MatchClasses(*base, {"a", "b"})->ids, ElementsAre(0, 1));
}

}  // namespace
}  // namespace loupe::worker::tasks
