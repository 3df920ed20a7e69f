#include "coordinator/api/analysis_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "common/atomic_file.h"
#include "common/error_details.h"
#include "tests/testing/temp_folder.h"

namespace loupe::coordinator::api {
namespace {

using ::testing::HasSubstr;

class AnalysisRunnerTest : public ::testing::Test {
 protected:
  AnalysisRunnerTest() {
    EXPECT_TRUE(WriteFileAtomically(folder_ / "answer", EncodeAnswer({absl::OkStatus(), "the report"})).ok());
    EXPECT_TRUE(WriteFileAtomically(folder_ / "refusal",
                                    EncodeAnswer({WithReason(absl::FailedPreconditionError("too few"), "TOO_FEW"), ""}))
                    .ok());
  }
  // The program is a line of shell.
  AnalysisOptions Options(const std::string& line) {
    AnalysisOptions options;
    options.program = {"/bin/sh", "-c", line};
    options.processes = 1;
    options.most_per_client = 2;
    return options;
  }
  std::string Cat(const std::string& name) { return "cat '" + (folder_ / name) + "'"; }
  static AnalysisAnswer Run(AnalysisRunner& runner, const std::string& version = "1", const std::string& client = "a") {
    std::promise<std::shared_ptr<const AnalysisAnswer>> answer;
    runner.Run(client, version, "job",
               [&](std::shared_ptr<const AnalysisAnswer> got) { answer.set_value(std::move(got)); });
    return *answer.get_future().get();
  }

  testing::TempFolder folder_;
};

TEST_F(AnalysisRunnerTest, AnswersAreKeptForTheirData) {
  AnalysisRunner runner(Options(Cat("answer")), folder_.path());
  EXPECT_EQ(Run(runner).payload, "the report");
  EXPECT_EQ(Run(runner).payload, "the report");
  EXPECT_EQ(runner.started(), 1);
  EXPECT_EQ(Run(runner, "2").payload, "the report");
  EXPECT_EQ(runner.started(), 2);
}

TEST_F(AnalysisRunnerTest, ARefusalKeepsItsReason) {
  AnalysisRunner runner(Options(Cat("refusal")), folder_.path());
  const absl::Status status = Run(runner).status;
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_EQ(ReasonOf(status), "TOO_FEW");
}

TEST_F(AnalysisRunnerTest, ACrashIsAnAnswerAndIsTriedAgain) {
  AnalysisRunner runner(Options("kill -SEGV $$"), folder_.path());
  const absl::Status status = Run(runner).status;
  EXPECT_TRUE(absl::IsInternal(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("signal 11"));
  EXPECT_TRUE(absl::IsInternal(Run(runner).status));
  EXPECT_EQ(runner.started(), 2);
}

TEST_F(AnalysisRunnerTest, AnAnswerThatIsCutOffIsNone) {
  AnalysisRunner runner(Options("head -c 9 '" + (folder_ / "answer") + "'"), folder_.path());
  EXPECT_THAT(std::string(Run(runner).status.message()), HasSubstr("no whole answer"));
  AnalysisRunner missing(Options("exec /no/such/program"), folder_.path());
  EXPECT_TRUE(absl::IsInternal(Run(missing).status));
}

TEST_F(AnalysisRunnerTest, AHungProcessEndsWithItsTime) {
  AnalysisOptions options = Options("exec sleep 1000");
  options.longest = absl::Milliseconds(100);
  AnalysisRunner runner(options, folder_.path());
  EXPECT_TRUE(absl::IsDeadlineExceeded(Run(runner).status));
}

TEST_F(AnalysisRunnerTest, WhatNobodyWaitsForEnds) {
  AnalysisRunner runner(Options("exec sleep 1000"), folder_.path());
  std::promise<absl::Status> answer;
  const uint64_t id =
      runner.Run("a", "1", "job", [&](std::shared_ptr<const AnalysisAnswer> got) { answer.set_value(got->status); });
  while (runner.started() < 1) std::this_thread::yield();
  runner.Cancel(id);
  EXPECT_TRUE(absl::IsCancelled(answer.get_future().get()));
  runner.Cancel(id);
  // The one process is free again for another's job, which would wait for ever otherwise.
  std::promise<absl::Status> stopped;
  runner.Run("b", "1", "other", [&](std::shared_ptr<const AnalysisAnswer> got) { stopped.set_value(got->status); });
  while (runner.started() < 2) std::this_thread::yield();
  runner.Stop();
  EXPECT_TRUE(absl::IsUnavailable(stopped.get_future().get()));
  EXPECT_TRUE(absl::IsUnavailable(Run(runner).status));
}

TEST_F(AnalysisRunnerTest, EqualRequestsShareAProcess) {
  AnalysisRunner runner(Options("sleep 0.2; " + Cat("answer")), folder_.path());
  std::vector<std::promise<std::string>> answers(5);
  for (auto& answer : answers) {
    runner.Run("a", "1", "job", [&](std::shared_ptr<const AnalysisAnswer> got) { answer.set_value(got->payload); });
  }
  for (auto& answer : answers) EXPECT_EQ(answer.get_future().get(), "the report");
  EXPECT_EQ(runner.started(), 1);
}

TEST_F(AnalysisRunnerTest, AClientHasSoManyAndNoMore) {
  AnalysisRunner runner(Options("exec sleep 1000"), folder_.path());
  for (const char* job : {"1", "2"}) runner.Run("a", "1", job, [](std::shared_ptr<const AnalysisAnswer>) {});
  std::promise<absl::Status> refused;
  runner.Run("a", "1", "3", [&](std::shared_ptr<const AnalysisAnswer> got) { refused.set_value(got->status); });
  const absl::Status status = refused.get_future().get();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(ReasonOf(status), kReasonRateLimited);
}

}  // namespace
}  // namespace loupe::coordinator::api
