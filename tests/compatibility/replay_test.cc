// What programs of the last release said to each other (recorded by pairings.py), said to those of today.
#include <absl/strings/escaping.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "common/settings/settings.h"
#include "fmt/format.h"
#include "tests/testing/mini_sweep.h"

namespace loupe {
namespace {

constexpr char kSynchronize[] = "loupe.v1.WorkerService/Synchronize";
constexpr char kUpload[] = "loupe.v1.WorkerService/UploadArtifact";
// Trials of the sweep that was recorded: SmallSpec's.
constexpr int kTrials = 6;

struct Recorded {
  std::string method;
  bool is_request = false;
  std::string bytes;
};

std::vector<Recorded> ReadRecording(const std::string& path) {
  std::vector<Recorded> messages;
  std::ifstream file(path);
  EXPECT_TRUE(file) << path << ": write it with tests/compatibility/pairings.py --record";
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json json = nlohmann::json::parse(line);
    Recorded& message = messages.emplace_back();
    message.method = json["method"];
    message.is_request = json["request"];
    EXPECT_TRUE(absl::Base64Unescape(json["base64"].get<std::string>(), &message.bytes));
  }
  return messages;
}

template <typename Message>
Message Parsed(const Recorded& recorded) {
  Message message;
  EXPECT_TRUE(message.ParseFromString(recorded.bytes));
  return message;
}

class ReplayTest : public ::testing::Test {
 protected:
  const std::vector<Recorded> recording_ = ReadRecording("tests/compatibility/recorded-4eec7dc.jsonl");
};

// Only the lease is today's: no coordinator hands out a token twice.
TEST_F(ReplayTest, AnOlderWorkersMessages) {
  testing::MiniSweep mini;
  mini.Create("adapters", testing::SmallSpec(2, 1));
  v1::LeaseKey lease;
  std::vector<v1::UploadArtifactRequest> upload;
  int accepted = 0;
  for (const Recorded& recorded : recording_) {
    if (recorded.method == kUpload && recorded.is_request) {
      upload.push_back(Parsed<v1::UploadArtifactRequest>(recorded));
      if (upload.back().has_header()) *upload.back().mutable_header()->mutable_lease() = lease;
    } else if (recorded.method == kUpload) {
      grpc::ClientContext context;
      mini.connection()->Prepare(context);
      v1::UploadArtifactResponse response;
      const auto writer = mini.workers().UploadArtifact(&context, &response);
      for (const v1::UploadArtifactRequest& part : upload) EXPECT_TRUE(writer->Write(part));
      writer->WritesDone();
      const grpc::Status status = writer->Finish();
      EXPECT_TRUE(status.ok()) << status.error_message();
      upload.clear();
    } else if (recorded.is_request && accepted < kTrials) {
      v1::SynchronizeRequest request = Parsed<v1::SynchronizeRequest>(recorded);
      EXPECT_FALSE(request.description().has_abilities());
      for (v1::AttemptReport& report : *request.mutable_attempts()) *report.mutable_lease() = lease;
      grpc::ClientContext context;
      mini.connection()->Prepare(context);
      v1::SynchronizeResponse response;
      const grpc::Status status = mini.workers().Synchronize(&context, request, &response);
      ASSERT_TRUE(status.ok()) << status.error_message();
      ASSERT_EQ(response.verdicts_size(), request.attempts_size());
      for (int i = 0; i < response.verdicts_size(); ++i) {
        EXPECT_EQ(response.verdicts(i).status().code(), 0) << response.verdicts(i).status().message();
        accepted += request.attempts(i).has_success() ? 1 : 0;
      }
      for (const v1::DesiredAttempt& desired : response.attempts()) {
        if (!desired.has_assignment()) continue;
        lease = desired.lease();
        for (const auto& [key, value] : desired.assignment().settings())
          EXPECT_EQ(settings::FindSettingRule(key)->since, 1) << key << " is unknown to an older worker";
      }
    }
  }
  EXPECT_EQ(accepted, kTrials);
  for (const v1::Trial& trial : mini.Trials("adapters")) {
    EXPECT_EQ(trial.state(), v1::Trial::SUCCEEDED) << trial.name();
    EXPECT_EQ(trial.attempts(), 1) << trial.name();
  }
}

// Answers as the older coordinator did to a worker in the same state.
class OlderCoordinator final : public worker::agent::CoordinatorClient {
 public:
  explicit OlderCoordinator(const std::vector<Recorded>& recording) {
    v1::SynchronizeRequest asked;
    for (const Recorded& recorded : recording) {
      if (recorded.method != kSynchronize) continue;
      if (recorded.is_request) {
        asked = Parsed<v1::SynchronizeRequest>(recorded);
        continue;
      }
      const auto answer = Parsed<v1::SynchronizeResponse>(recorded);
      // The worker holds one trial at a time.
      if (asked.attempts_size() == 0) {
        if (answer.attempts_size() > 0) offers_.push_back(answer);
      } else {
        const bool ends = asked.attempts(0).outcome_case() != v1::AttemptReport::OUTCOME_NOT_SET;
        (ends ? ends_ : running_)[asked.attempts(0).lease().lease_token()] = answer;
      }
      for (const v1::DesiredAttempt& desired : answer.attempts()) {
        if (desired.has_assignment()) running_.emplace(desired.lease().lease_token(), answer);
      }
    }
  }

  absl::StatusOr<v1::SynchronizeResponse> Synchronize(const v1::SynchronizeRequest& request, absl::Duration) override {
    EXPECT_GT(request.description().abilities().settings_version(), 0);
    if (request.attempts_size() == 0) {
      if (next_offer_ < offers_.size()) return offers_[next_offer_++];
      if (done) done();
      return v1::SynchronizeResponse();
    }
    const v1::AttemptReport& report = request.attempts(0);
    EXPECT_FALSE(report.has_failure()) << report.failure().message();
    const bool ends = report.outcome_case() != v1::AttemptReport::OUTCOME_NOT_SET;
    if (report.has_success()) succeeded.insert(report.lease().trial());
    const auto& answers = ends ? ends_ : running_;
    const auto found = answers.find(report.lease().lease_token());
    if (found == answers.end()) return absl::InternalError("a lease that the coordinator never gave");
    return found->second;
  }
  absl::Status Upload(const v1::LeaseKey&, const worker::agent::ArtifactFile&, absl::Duration) override {
    return absl::OkStatus();
  }
  void Interrupt() override {}

  std::function<void()> done;
  std::set<std::string> succeeded;

 private:
  std::vector<v1::SynchronizeResponse> offers_;
  size_t next_offer_ = 0;
  // By lease token.
  std::map<std::string, v1::SynchronizeResponse> running_;
  std::map<std::string, v1::SynchronizeResponse> ends_;
};

TEST_F(ReplayTest, AnOlderCoordinatorsMessages) {
  const testing::TempFolder folder;
  OlderCoordinator coordinator(recording_);
  testing::FakeExecutor executor({});
  worker::agent::AgentOptions options;
  options.worker = "workers/newer";
  options.data_folder = folder.path();
  worker::agent::Agent agent(options, {&coordinator, &executor, &SystemClock(), &SystemRandom()});
  coordinator.done = [&agent] { agent.RequestDrain(); };
  const absl::Status status = agent.Run();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(coordinator.succeeded.size(), static_cast<size_t>(kTrials));
}

}  // namespace
}  // namespace loupe
