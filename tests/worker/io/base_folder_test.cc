// Which kind of base a folder is, and what its prompts mean.
#include "worker/io/base_folder.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_folder.h"

namespace loupe::worker::io {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

void WriteText(const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path) << text;
}

TEST(BaseFolderTest, KindIsWhatTheIndexNames) {
  const testing::TempFolder folder;
  EXPECT_EQ(*BaseKindOf(folder.path()), BaseKind::kUNet);
  WriteText(folder / "transformer/config.json", "{}");
  EXPECT_EQ(*BaseKindOf(folder.path()), BaseKind::kDiT);
  WriteText(folder / "model_index.json", R"({"ssm": ["loupe", "DiffuSSMModel"], "unet": null})");
  EXPECT_EQ(*BaseKindOf(folder.path()), BaseKind::kDiffuSSM);
  WriteText(folder / "model_index.json", "{");
  EXPECT_THAT(std::string(BaseKindOf(folder.path()).status().message()), HasSubstr("model_index.json"));
  EXPECT_EQ(*BaseKindOf("configs/bases/emoji-sd"), BaseKind::kUNet);
}

TEST(ClassNamesTest, PromptsAreNumbersOrNames) {
  const testing::TempFolder folder;
  WriteText(folder / "model_index.json", R"({"id2label": {"0": "crane, bird", "2": "crane", "3": "red panda"}})");
  const auto names = ClassNames::Read(folder.path(), 4);
  ASSERT_TRUE(names.ok()) << names.status();
  EXPECT_EQ(*names->Find(" Red Panda "), 3);
  EXPECT_EQ(*names->Find("crane"), 0);
  EXPECT_EQ(*names->Find("1"), 1);
  EXPECT_EQ(*names->Find(""), 4);
  EXPECT_EQ(names->NameOf(0), "crane");
  EXPECT_EQ(names->NameOf(1), "1");
  for (const char* wrong : {"4", "-1", "red pandas"}) {
    EXPECT_THAT(std::string(names->Find(wrong).status().message()), AllOf(HasSubstr(wrong), HasSubstr("0 to 3")));
  }
  EXPECT_THAT(std::string(names->Find("red pandas").status().message()), HasSubstr("did you mean 'red panda'?"));
  EXPECT_EQ(*ClassNames::Read(folder / "nowhere", 1)->Find(""), 0) << "one class: unconditional";
}

TEST(ClassNamesTest, LabelsOfNoClassAreRefused) {
  const testing::TempFolder folder;
  for (const char* labels : {R"({"4": "x"})", R"({"one": "x"})", R"({"0": 3})"}) {
    WriteText(folder / "model_index.json", std::string(R"({"id2label": )") + labels + "}");
    EXPECT_THAT(std::string(ClassNames::Read(folder.path(), 4).status().message()),
                AllOf(HasSubstr("model_index.json"), HasSubstr("from 0 to 3")))
        << labels;
  }
}

}  // namespace
}  // namespace loupe::worker::io
