// Sweeps from creation to analysis: a coordinator and workers in one process, over real gRPC.
#include "tests/testing/mini_sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "clients/rpc/rpc_status.h"
#include "common/error_details.h"
#include "common/settings/settings.h"
#include "common/sha256.h"
#include "fmt/format.h"

namespace loupe {
namespace {

using testing::FakeScore;
using ::testing::HasSubstr;
using testing::MiniSweep;
using ::testing::Not;
using testing::SmallSpec;

coordinator::scheduler::SchedulerOptions ShortLeases() {
  coordinator::scheduler::SchedulerOptions options;
  options.lease = absl::Seconds(1);
  return options;
}

void ExpectAllScoresRight(MiniSweep& mini, const std::string& id, size_t trials) {
  const std::vector<v1::Trial> all = mini.Trials(id);
  ASSERT_EQ(all.size(), trials);
  std::set<std::pair<int64_t, int32_t>> places;
  for (const v1::Trial& trial : all) {
    EXPECT_EQ(trial.state(), v1::Trial::SUCCEEDED) << trial.name();
    const std::map<std::string, std::string> cell(trial.cell().begin(), trial.cell().end());
    EXPECT_EQ(trial.scores().at("clip_i"), FakeScore(cell, trial.replicate(), 7)) << trial.name();
    places.emplace(trial.cell_index(), trial.replicate());
  }
  EXPECT_EQ(places.size(), trials) << "every cell × replicate once";
}

// One raw Synchronize, as a worker of the tests' own would send it.
absl::StatusOr<v1::SynchronizeResponse> Sync(MiniSweep& mini, const v1::SynchronizeRequest& request) {
  grpc::ClientContext context;
  mini.connection()->Prepare(context);
  v1::SynchronizeResponse response;
  const absl::Status status = clients::rpc::FromGrpcStatus(mini.workers().Synchronize(&context, request, &response));
  if (!status.ok()) return status;
  return response;
}

v1::SynchronizeRequest RequestOf(const std::string& worker, const std::string& session) {
  v1::SynchronizeRequest request;
  request.set_worker("workers/" + worker);
  request.set_session_id(session);
  request.set_slots(1);
  return request;
}

v1::SynchronizeRequest Reporting(const v1::SynchronizeRequest& request, const v1::LeaseKey& lease, double score) {
  v1::SynchronizeRequest report = request;
  auto* attempt = report.add_attempts();
  *attempt->mutable_lease() = lease;
  (*attempt->mutable_success()->mutable_scores())["clip_i"] = score;
  return report;
}

TEST(MiniSweepTest, RunsToTheEndWithTwoWorkers) {
  MiniSweep mini;
  mini.Create("small", SmallSpec(4, 2));
  mini.AddWorker("a");
  mini.AddWorker("b");
  const v1::Sweep sweep = mini.WaitUntilEnded("small");
  EXPECT_EQ(sweep.state(), v1::Sweep::COMPLETED);
  EXPECT_EQ(sweep.counts().succeeded(), 24);
  ExpectAllScoresRight(mini, "small", 24);

  v1::GetAnovaRequest request;
  request.set_name("sweeps/small");
  grpc::ClientContext context;
  mini.connection()->Prepare(context);
  v1::GetAnovaResponse anova;
  ASSERT_TRUE(mini.connection()->Check(mini.analysis().GetAnova(&context, request, &anova)).ok());
  EXPECT_EQ(anova.observations(), 24);
  // The replicate is a block beside the two factors.
  EXPECT_EQ(anova.terms_size(), 3);
}

TEST(MiniSweepTest, ReportHtmlCarriesThePicturesAndTheWorkersWarnings) {
  MiniSweep mini;
  mini.Create("small", SmallSpec(2, 1));
  mini.AddWorker("a");
  mini.WaitUntilEnded("small");
  v1::RenderReportRequest request;
  request.set_name("sweeps/small");
  request.set_format(v1::RenderReportRequest::HTML);
  grpc::ClientContext context;
  mini.connection()->Prepare(context);
  const auto reader = mini.analysis().RenderReport(&context, request);
  std::string html;
  v1::RenderReportResponse part;
  while (reader->Read(&part)) html += part.chunk();
  ASSERT_TRUE(reader->Finish().ok());
  EXPECT_THAT(html, HasSubstr("data:image/png"));
  EXPECT_THAT(html, HasSubstr("clip_i: Nothing was trained."));
  EXPECT_THAT(html, Not(HasSubstr("warning.clip_i"))) << "among the versions";
  EXPECT_THAT(html, HasSubstr("the text tower takes 2"));
  EXPECT_THAT(html, Not(HasSubstr("note.prompts"))) << "among the versions";
}

TEST(MiniSweepTest, ReportAnswersQuestionsAboutMeans) {
  MiniSweep mini;
  mini.Create("small", SmallSpec(3, 2));
  mini.AddWorker("a");
  mini.WaitUntilEnded("small");
  const v1::Trial first = mini.Trials("small").front();
  ASSERT_EQ(first.cell_size(), 2);
  const auto& [factor, level] = *first.cell().begin();
  const std::string other = std::next(first.cell().begin())->first;
  v1::RenderReportRequest request;
  request.set_name("sweeps/small");
  request.set_format(v1::RenderReportRequest::CSV);
  request.add_contrasts(fmt::format("[{}={}]", factor, level));
  request.add_simple_effects(fmt::format("{} | {}", factor, other));
  const auto render = [&](const std::string& table) {
    request.set_table(table);
    grpc::ClientContext context;
    mini.connection()->Prepare(context);
    const auto reader = mini.analysis().RenderReport(&context, request);
    std::string csv;
    v1::RenderReportResponse part;
    while (reader->Read(&part)) csv += part.chunk();
    const absl::Status status = clients::rpc::FromGrpcStatus(reader->Finish());
    return status.ok() ? csv : std::string(status.message());
  };
  EXPECT_THAT(render("contrasts"), HasSubstr(fmt::format("\n[{}={}],", factor, level)));
  EXPECT_THAT(render("simple-effects"), HasSubstr(fmt::format("\n{},{} = ", factor, other)));
  EXPECT_THAT(render("medians"), HasSubstr("no table 'medians'; expected one of trials, anova, means"));
  request.set_format(v1::RenderReportRequest::TEXT);
  EXPECT_THAT(render("means"), HasSubstr("CSV"));
  request.clear_contrasts();
  request.add_contrasts("[no_such=1]");
  EXPECT_THAT(render(""), HasSubstr("no_such"));
}

TEST(MiniSweepTest, FailedAttemptsAreTriedAgain) {
  MiniSweep mini;
  v1::SweepSpec spec = SmallSpec(4, 2);
  spec.mutable_retry()->set_max_trial_attempts(20);
  mini.Create("flaky", spec);
  mini.AddWorker("a", {.failure_rate = 0.4});
  mini.WaitUntilEnded("flaky");
  ExpectAllScoresRight(mini, "flaky", 24);
}

TEST(MiniSweepTest, GoesOnWhereItWasAfterTheCoordinatorRestarts) {
  MiniSweep mini;
  mini.Create("longer", SmallSpec(4, 4));
  mini.AddWorker("a", {.seconds = 0.02});
  mini.AddWorker("b", {.seconds = 0.02});
  for (int i = 0; i < 3; ++i) mini.RestartCoordinator();
  mini.WaitUntilEnded("longer");
  ExpectAllScoresRight(mini, "longer", 48);
}

TEST(MiniSweepTest, ASilentWorkersTrialIsLeasedToAnotherAndItsLateResultIsRefused) {
  MiniSweep mini(ShortLeases());
  mini.Create("silent", SmallSpec(1, 1));
  const v1::SynchronizeRequest zombie = RequestOf("zombie", "s1");
  absl::StatusOr<v1::SynchronizeResponse> granted = Sync(mini, zombie);
  ASSERT_TRUE(granted.ok()) << granted.status();
  ASSERT_EQ(granted->attempts_size(), 1);
  const v1::LeaseKey lease = granted->attempts(0).lease();

  mini.AddWorker("alive");
  EXPECT_EQ(mini.WaitUntilEnded("silent").counts().succeeded(), 3);
  absl::StatusOr<v1::SynchronizeResponse> late = Sync(mini, Reporting(zombie, lease, 99.0));
  ASSERT_TRUE(late.ok()) << late.status();
  EXPECT_EQ(ReasonOf(clients::rpc::FromRpcStatus(late->verdicts(0).status())), kReasonLeaseLost);
  ExpectAllScoresRight(mini, "silent", 3);
}

TEST(MiniSweepTest, AWrongTokenIsRefusedForProgressArtifactAndCompletion) {
  MiniSweep mini;
  mini.Create("tokens", SmallSpec(1, 1));
  const v1::SynchronizeRequest request = RequestOf("w", "s1");
  absl::StatusOr<v1::SynchronizeResponse> granted = Sync(mini, request);
  ASSERT_TRUE(granted.ok()) << granted.status();
  v1::LeaseKey forged = granted->attempts(0).lease();
  forged.set_lease_token(std::string(32, '0'));

  absl::StatusOr<v1::SynchronizeResponse> answer = Sync(mini, Reporting(request, forged, 99.0));
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(ReasonOf(clients::rpc::FromRpcStatus(answer->verdicts(0).status())), kReasonLeaseLost);

  grpc::ClientContext context;
  mini.connection()->Prepare(context);
  v1::UploadArtifactResponse uploaded;
  const auto writer = mini.workers().UploadArtifact(&context, &uploaded);
  v1::UploadArtifactRequest header;
  *header.mutable_header()->mutable_lease() = forged;
  header.mutable_header()->mutable_artifact()->set_name("log.txt");
  header.mutable_header()->mutable_artifact()->set_size_bytes(1);
  header.mutable_header()->mutable_artifact()->set_sha256(Sha256Hex("x"));
  writer->Write(header);
  writer->WritesDone();
  const absl::Status status = clients::rpc::FromGrpcStatus(writer->Finish());
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(ReasonOf(status), kReasonLeaseLost);
}

TEST(MiniSweepTest, ARepeatedCompletionIsAcceptedOnceAndAnsweredAlike) {
  MiniSweep mini;
  mini.Create("repeat", SmallSpec(1, 1));
  const v1::SynchronizeRequest request = RequestOf("w", "s1");
  absl::StatusOr<v1::SynchronizeResponse> granted = Sync(mini, request);
  const v1::LeaseKey lease = granted->attempts(0).lease();
  for (int i = 0; i < 3; ++i) {
    absl::StatusOr<v1::SynchronizeResponse> answer = Sync(mini, Reporting(request, lease, 0.5));
    ASSERT_TRUE(answer.ok());
    EXPECT_EQ(answer->verdicts(0).status().code(), 0);
  }
  absl::StatusOr<v1::SynchronizeResponse> other = Sync(mini, Reporting(request, lease, 0.6));
  EXPECT_EQ(ReasonOf(clients::rpc::FromRpcStatus(other->verdicts(0).status())), kReasonLeaseLost);
  EXPECT_EQ(mini.Get("repeat").counts().succeeded(), 1);
}

v1::SynchronizeRequest ScoredWith(const v1::SynchronizeRequest& request, const v1::LeaseKey& lease, char digit) {
  v1::SynchronizeRequest report = Reporting(request, lease, 0.5);
  (*report.mutable_attempts(0)->mutable_success()->mutable_provenance())["scorer_sha256"] = std::string(64, digit);
  return report;
}

TEST(MiniSweepTest, OneSweepHasOneScorerAlsoAfterARestart) {
  MiniSweep mini;
  mini.Create("small", SmallSpec(1, 1));
  const v1::SynchronizeRequest request = RequestOf("a", "s1");
  const auto first = Sync(mini, request);
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = Sync(mini, ScoredWith(request, first->attempts(0).lease(), 'a'));
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(second->verdicts(0).status().code(), 0) << second->verdicts(0).status().message();
  const v1::LeaseKey lease = second->attempts(0).lease();
  mini.RestartCoordinator();
  const auto refused = Sync(mini, ScoredWith(request, lease, 'b'));
  ASSERT_TRUE(refused.ok()) << refused.status();
  EXPECT_EQ(ReasonOf(clients::rpc::FromRpcStatus(refused->verdicts(0).status())), kReasonInputsDiffer);
  EXPECT_THAT(refused->verdicts(0).status().message(), HasSubstr("'scorer /scorer'"));
  EXPECT_EQ(mini.Get("small").counts().succeeded(), 1);
  EXPECT_EQ(mini.Get("small").counts().failed(), 0) << "it runs again";
}

TEST(MiniSweepTest, ASuccessWithoutThePrimaryScoreIsAFailure) {
  MiniSweep mini;
  v1::SweepSpec spec = SmallSpec(1, 1);
  (*spec.mutable_settings())["score.primary"] = "clip_t";
  mini.Create("small", spec);
  const v1::SynchronizeRequest request = RequestOf("a", "s1");
  const auto first = Sync(mini, request);
  ASSERT_TRUE(first.ok()) << first.status();
  const v1::LeaseKey lease = first->attempts(0).lease();
  ASSERT_TRUE(Sync(mini, Reporting(request, lease, 0.5)).ok());
  EXPECT_EQ(mini.Get("small").counts().failed(), 1);
  for (const v1::Trial& trial : mini.Trials("small")) {
    if (trial.name() != lease.trial()) continue;
    EXPECT_THAT(trial.last_failure().message(),
                HasSubstr("lacks the sweep's primary score 'clip_t'; its scores: clip_i"));
  }
}

TEST(MiniSweepTest, ArtifactNamesThatArePathsAreRefused) {
  MiniSweep mini;
  mini.Create("paths", SmallSpec(1, 1));
  absl::StatusOr<v1::SynchronizeResponse> granted = Sync(mini, RequestOf("w", "s1"));
  for (const char* name : {"../x", "/etc/passwd", "a/b", ".hidden", "", "a\\b", "x\n"}) {
    grpc::ClientContext context;
    mini.connection()->Prepare(context);
    v1::UploadArtifactResponse uploaded;
    const auto writer = mini.workers().UploadArtifact(&context, &uploaded);
    v1::UploadArtifactRequest header;
    *header.mutable_header()->mutable_lease() = granted->attempts(0).lease();
    header.mutable_header()->mutable_artifact()->set_name(name);
    header.mutable_header()->mutable_artifact()->set_sha256(Sha256Hex(""));
    writer->Write(header);
    writer->WritesDone();
    EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT) << name;
  }
}

TEST(MiniSweepTest, ADamagedUploadIsRefusedAndLeavesNothing) {
  MiniSweep mini;
  mini.Create("damage", SmallSpec(1, 1));
  absl::StatusOr<v1::SynchronizeResponse> granted = Sync(mini, RequestOf("w", "s1"));
  grpc::ClientContext context;
  mini.connection()->Prepare(context);
  v1::UploadArtifactResponse uploaded;
  const auto writer = mini.workers().UploadArtifact(&context, &uploaded);
  v1::UploadArtifactRequest message;
  *message.mutable_header()->mutable_lease() = granted->attempts(0).lease();
  message.mutable_header()->mutable_artifact()->set_name("log.txt");
  message.mutable_header()->mutable_artifact()->set_size_bytes(5);
  message.mutable_header()->mutable_artifact()->set_sha256(Sha256Hex("hello"));
  writer->Write(message);
  message.set_chunk("hellO");
  writer->Write(message);
  writer->WritesDone();
  EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::DATA_LOSS);
  v1::ListArtifactsRequest list;
  list.set_parent(granted->attempts(0).lease().trial());
  grpc::ClientContext list_context;
  mini.connection()->Prepare(list_context);
  v1::ListArtifactsResponse artifacts;
  ASSERT_TRUE(mini.trials().ListArtifacts(&list_context, list, &artifacts).ok());
  EXPECT_EQ(artifacts.artifacts_size(), 0);
}

TEST(MiniSweepTest, CallsWithoutTheTokenAreRefused) {
  MiniSweep mini;
  grpc::ClientContext context;
  v1::ListSweepsResponse response;
  EXPECT_EQ(mini.sweeps().ListSweeps(&context, v1::ListSweepsRequest(), &response).error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
  grpc::ClientContext sync_context;
  sync_context.AddMetadata("authorization", "Bearer wrong");
  v1::SynchronizeResponse sync;
  EXPECT_EQ(mini.workers().Synchronize(&sync_context, RequestOf("w", "s"), &sync).error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
}

TEST(MiniSweepTest, CancelStopsWhatRunsAndItsResultIsRefused) {
  MiniSweep mini;
  mini.Create("stopme", SmallSpec(1, 1));
  const v1::SynchronizeRequest request = RequestOf("w", "s1");
  absl::StatusOr<v1::SynchronizeResponse> granted = Sync(mini, request);
  v1::SweepVerbRequest verb;
  verb.set_name("sweeps/stopme");
  grpc::ClientContext context;
  mini.connection()->Prepare(context);
  v1::Sweep sweep;
  ASSERT_TRUE(mini.sweeps().CancelSweep(&context, verb, &sweep).ok());
  EXPECT_EQ(sweep.state(), v1::Sweep::CANCELLED);
  EXPECT_EQ(sweep.counts().cancelled(), 3);
  absl::StatusOr<v1::SynchronizeResponse> answer = Sync(mini, Reporting(request, granted->attempts(0).lease(), 1.0));
  EXPECT_EQ(ReasonOf(clients::rpc::FromRpcStatus(answer->verdicts(0).status())), kReasonLeaseLost);
  EXPECT_EQ(answer->attempts_size(), 0);
}

TEST(MiniSweepTest, ASecondProcessWithTheSameNameSupersedesTheFirst) {
  MiniSweep mini;
  mini.Create("names", SmallSpec(1, 1));
  absl::StatusOr<v1::SynchronizeResponse> first = Sync(mini, RequestOf("w", "s1"));
  absl::StatusOr<v1::SynchronizeResponse> second = Sync(mini, RequestOf("w", "s2"));
  ASSERT_TRUE(second.ok());
  EXPECT_NE(first->attempts(0).lease().lease_token(), second->attempts(0).lease().lease_token());
  absl::StatusOr<v1::SynchronizeResponse> again = Sync(mini, RequestOf("w", "s1"));
  EXPECT_EQ(again.status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(ReasonOf(again.status()), kReasonSessionSuperseded);
}

// From a sweep's specification to its report: who is worse at the rung is told to end, also by a coordinator that was
// restarted since; its result says so, and the F table is without it unless asked.
TEST(MiniSweepTest, ASearchEndsTrialsEarly) {
  MiniSweep mini;
  v1::SweepSpec spec = SmallSpec(4, 1);
  spec.mutable_search()->set_curve("loss");
  spec.mutable_search()->set_reduction(2);
  spec.mutable_search()->set_min_steps(3);
  EXPECT_EQ(mini.Create("search", spec).spec().search().direction(), v1::Search::MINIMIZE);
  v1::SynchronizeRequest request = RequestOf("a", "s1");
  request.mutable_description()->mutable_abilities()->set_settings_version(settings::kSettingsVersion);
  request.mutable_description()->mutable_abilities()->add_methods("adapter");
  request.mutable_description()->mutable_abilities()->add_tasks("dreambooth");
  int early = 0;
  for (const double loss : {4.0, 5.0, 3.0, 6.0, 2.0, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4}) {
    const auto given = Sync(mini, request);
    ASSERT_TRUE(given.ok() && given->attempts_size() == 1) << given.status();
    v1::SynchronizeRequest report = request;
    auto* attempt = report.add_attempts();
    *attempt->mutable_lease() = given->attempts(0).lease();
    v1::MetricPoint* point = attempt->add_points();
    point->set_metric("loss");
    point->set_step(3);
    point->set_value(loss);
    attempt->set_point_sequence(1);
    const auto told = Sync(mini, report);
    ASSERT_TRUE(told.ok()) << told.status();
    const int64_t step = told->attempts(0).finish_after_step();
    EXPECT_EQ(step, loss >= 5 ? 3 : 0) << loss;
    if (step > 0 && early == 0) mini.RestartCoordinator();
    const auto again = Sync(mini, report);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->attempts(0).finish_after_step(), step);
    attempt->mutable_success()->set_stopped_at_step(step > 0 ? 4 : 0);
    (*attempt->mutable_success()->mutable_scores())["clip_i"] = 0.1 * std::sqrt(loss);
    ASSERT_TRUE(Sync(mini, report).ok());
    early += step > 0 ? 1 : 0;
  }
  const std::vector<v1::Trial> trials = mini.Trials("search");
  EXPECT_EQ(std::count_if(trials.begin(), trials.end(), [](const v1::Trial& t) { return t.stopped_at_step() == 4; }),
            early);
  EXPECT_EQ(early, 2);
  v1::GetAnovaRequest anova;
  anova.set_name("sweeps/search");
  for (const bool include : {false, true}) {
    anova.set_include_stopped_early(include);
    grpc::ClientContext context;
    mini.connection()->Prepare(context);
    v1::GetAnovaResponse response;
    const absl::Status status = clients::rpc::FromGrpcStatus(mini.analysis().GetAnova(&context, anova, &response));
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(response.observations(), include ? 12 : 10);
  }
}

}  // namespace
}  // namespace loupe
