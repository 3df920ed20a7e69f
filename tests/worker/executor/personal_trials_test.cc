// Whole trials of the methods for one subject on the built-in base: resumed bit for bit, files that are scored as they
// are, the identifier that is picked.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/atomic_file.h"
#include "common/sha256.h"
#include "tests/worker/executor/trial_fixture.h"
#include "worker/base/model_store.h"
#include "worker/io/clip_tokenizer.h"
#include "worker/io/safetensors.h"
#include "worker/runtime/user_error.h"
#include "worker/tasks/identifier.h"

namespace loupe::worker::executor {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using PersonalValues = std::map<std::string, std::string>;

class PersonalTrialsTest : public TrialTest {
 protected:
  static void SetUpTestSuite() {
    MakeFolder("personal_trials_test");
    executor_ = MakeExecutor("cpu", /*threads=*/1);
    ASSERT_NE(executor_, nullptr);
  }
  static void TearDownTestSuite() {
    executor_.reset();
    TrialTest::TearDownTestSuite();
  }
  AttemptSpec Of(const std::string& name, PersonalValues changes) {
    for (const char* key : {"method.input", "method.output", "method.width"}) changes[key] = "";
    return Spec(name, changes);
  }
  static AttemptOutcome Run(const AttemptSpec& spec, RecordingObserver& observer) {
    return executor_->Run(spec, observer);
  }

  inline static std::unique_ptr<Executor> executor_;
};

TEST_F(PersonalTrialsTest, StoppedTrialsGoOnToTheSameFiles) {
  for (const std::string kind : {"textual-inversion", "hypernetwork"}) {
    SCOPED_TRACE(kind);
    PersonalValues values = {{"method.kind", kind}};
    if (kind == "hypernetwork") values.insert({{"method.dropout", "0.3"}, {"method.layer_structure", "1 2 2 1"}});
    RecordingObserver whole(root_ + "/whole-" + kind), stopped(root_ + "/stopped-" + kind, /*stop_at_step=*/2),
        resumed(root_ + "/resumed-" + kind);
    const AttemptOutcome outcome = Run(Of("whole-" + kind, values), whole);
    ASSERT_EQ(outcome.kind, AttemptOutcome::Kind::kSuccess) << outcome.failure_message;
    EXPECT_EQ(Run(Of("resumed-" + kind, values), stopped).kind, AttemptOutcome::Kind::kStopped);
    ASSERT_EQ(Run(Of("resumed-" + kind, values), resumed).kind, AttemptOutcome::Kind::kSuccess);
    EXPECT_EQ(resumed.losses.size(), 1u) << "only the third step is left";
    EXPECT_EQ(*ReadFile(resumed.File("adapter.safetensors")), *ReadFile(whole.File("adapter.safetensors")));
    EXPECT_EQ(*ReadFile(resumed.File("embeddings.npy")), *ReadFile(whole.File("embeddings.npy")));
  }
}

TEST_F(PersonalTrialsTest, AFileIsScoredAsTheTrialThatTrainedIt) {
  RecordingObserver trained(root_ + "/trained"), scored(root_ + "/scored");
  const AttemptOutcome expected = Run(Of("trained", {{"method.kind", "textual-inversion"}}), trained);
  ASSERT_EQ(expected.kind, AttemptOutcome::Kind::kSuccess) << expected.failure_message;
  const std::string path = trained.File("adapter.safetensors");
  const AttemptOutcome found = Run(Of("scored", {{"method.kind", "file"}, {"method.path", path}}), scored);
  ASSERT_EQ(found.kind, AttemptOutcome::Kind::kSuccess) << found.failure_message;
  EXPECT_EQ(found.scores, expected.scores);
  EXPECT_EQ(found.provenance.at("method_sha256"), *Sha256HexOfFile(path));
  EXPECT_EQ(found.provenance.at("trainable_parameters"), "128");
  EXPECT_THAT(scored.phases, Not(Contains("train")));
  EXPECT_TRUE(scored.losses.empty());
  EXPECT_FALSE(std::filesystem::exists(scored.File("adapter.safetensors"))) << "the file is where it came from";
  RecordingObserver missing(root_ + "/missing");
  const AttemptOutcome refused =
      Run(Of("missing", {{"method.kind", "file"}, {"method.path", root_ + "/none.pt"}}), missing);
  EXPECT_EQ(refused.failure_class, FailureClass::kUserError);
  EXPECT_THAT(refused.failure_message, HasSubstr("none.pt"));
}

TEST_F(PersonalTrialsTest, TheIdentifierIsInThePromptAndTheProvenance) {
  AttemptSpec spec = Of("auto", {{"method.kind", "bitfit"}, {"budget.steps", "1"}});
  spec.settings =
      spec.settings.With({{"task.identifier", "auto"}, {"task.instance_prompt", "a photo of {identifier} face"}});
  RecordingObserver observer(root_ + "/auto");
  const AttemptOutcome outcome = Run(spec, observer);
  ASSERT_EQ(outcome.kind, AttemptOutcome::Kind::kSuccess) << outcome.failure_message;
  const std::string word = outcome.provenance.at("identifier");
  EXPECT_EQ(outcome.provenance.at("identifier_sha256"), Sha256Hex(word));
  EXPECT_FALSE(outcome.provenance.contains("note.identifier"));
  const auto file = io::SafetensorsFile::Open(observer.File("adapter.safetensors"));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(file->metadata().at("loupe.settings"), HasSubstr("a photo of " + word + " face"));
}

// Without a trial around it.
class IdentifierTest : public TrialTest {
 protected:
  IdentifierTest()
      : models_(torch::kCPU), inputs_(models_, tasks::TensorCache(::testing::TempDir() + "identifier_test")) {}
  ~IdentifierTest() override { std::filesystem::remove_all(::testing::TempDir() + "identifier_test"); }

  tasks::Identified Of(const std::string& identifier, const std::string& prompt) {
    PersonalValues values = {{"task.instance_prompt", prompt}};
    if (!identifier.empty()) values["task.identifier"] = identifier;
    return tasks::PutInIdentifier(Spec("identifier").settings.With(values), inputs_, {});
  }
  std::string Refusal(const std::string& identifier, const std::string& prompt) {
    try {
      Of(identifier, prompt);
    } catch (const runtime::UserError& error) {
      return error.what();
    }
    return "";
  }

  base::ModelStore models_;
  tasks::SharedInputs inputs_;
};

TEST_F(IdentifierTest, AutoIsARareTokenAndTheSameEachTime) {
  const tasks::Identified found = Of("auto", "a photo of {identifier} face");
  EXPECT_LE(found.word.size(), 3u);
  EXPECT_EQ(io::ClipTokenizer::Load("configs/bases/emoji-sd/tokenizer")->Tokenise(found.word).size(), 1u) << found.word;
  EXPECT_EQ(found.settings.Text("task.instance_prompt"), "a photo of " + found.word + " face");
  EXPECT_EQ(found.settings.Text("task.identifier"), found.word);
  EXPECT_TRUE(found.notes.empty());
  EXPECT_EQ(Of("auto", "a photo of {identifier} face").word, found.word);
  EXPECT_TRUE(Of(found.word, "a {identifier}").notes.empty());
}

TEST_F(IdentifierTest, WordsThatAreCommonOrManyTokensAreNoted) {
  EXPECT_THAT(Of("face", "a {identifier}").notes, ::testing::ElementsAre(HasSubstr("is a common word")));
  EXPECT_THAT(Of("qzxjv", "a {identifier}").notes, ::testing::ElementsAre(HasSubstr("tokens of the base's tokenizer")));
}

TEST_F(IdentifierTest, PromptAndSettingMustGoTogether) {
  EXPECT_EQ(Of("", "a photo of sks").settings.Text("task.instance_prompt"), "a photo of sks");
  EXPECT_EQ(Of("", "a photo of sks").word, "");
  EXPECT_THAT(Refusal("", "a {identifier}"), HasSubstr("task.identifier is not set"));
  EXPECT_THAT(Refusal("sks", "a photo of sks"), HasSubstr("has no {identifier}"));
}

}  // namespace
}  // namespace loupe::worker::executor
