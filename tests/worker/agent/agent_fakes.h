// A coordinator and an executor under the test's control, for the agent's tests.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/random_source.h"
#include "worker/agent/coordinator_client.h"
#include "worker/executor/attempt.h"

namespace loupe::worker::agent {

class FakeClock : public Clock {
 public:
  absl::Duration MonotonicNow() const override {
    const std::lock_guard lock(mutex_);
    return now_;
  }
  absl::Time WallNow() const override { return absl::UnixEpoch() + MonotonicNow(); }
  void Advance(absl::Duration time) {
    const std::lock_guard lock(mutex_);
    now_ += time;
  }

 private:
  mutable std::mutex mutex_;
  absl::Duration now_ = absl::Hours(1);
};

// Counts up: every token is new.
class CountingRandom : public RandomSource {
 public:
  Token128 NextToken() override {
    Token128 token{};
    const std::lock_guard lock(mutex_);
    token[15] = static_cast<uint8_t>(++count_);
    return token;
  }

 private:
  std::mutex mutex_;
  int count_ = 0;
};

// Answers each synchronisation with `answer`, which the test sets; records requests and uploads.
class FakeCoordinatorClient : public CoordinatorClient {
 public:
  using Answer = std::function<absl::StatusOr<v1::SynchronizeResponse>(const v1::SynchronizeRequest&)>;

  void SetAnswer(Answer answer) {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(answer);
  }
  absl::StatusOr<v1::SynchronizeResponse> Synchronize(const v1::SynchronizeRequest& request,
                                                      absl::Duration /*timeout*/) override {
    Answer answer;
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
      answer = answer_;
    }
    return answer(request);
  }
  absl::Status Upload(const v1::LeaseKey& lease, const ArtifactFile& file, absl::Duration /*timeout*/) override {
    const std::lock_guard lock(mutex_);
    uploads_.push_back(lease.trial() + ":" + file.name);
    if (upload_results_.empty()) return absl::OkStatus();
    absl::Status status = upload_results_.front();
    upload_results_.pop_front();
    return status;
  }
  void Interrupt() override {}

  void SetUploadResults(std::deque<absl::Status> results) {
    const std::lock_guard lock(mutex_);
    upload_results_ = std::move(results);
  }
  std::vector<std::string> uploads() const {
    const std::lock_guard lock(mutex_);
    return uploads_;
  }
  std::vector<v1::SynchronizeRequest> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  mutable std::mutex mutex_;
  Answer answer_;
  std::vector<v1::SynchronizeRequest> requests_;
  std::vector<std::string> uploads_;
  std::deque<absl::Status> upload_results_;
};

// Runs `body` for every attempt.
class FakeExecutor : public executor::Executor {
 public:
  using Body = std::function<executor::AttemptOutcome(const executor::AttemptSpec&, executor::AttemptObserver&)>;
  explicit FakeExecutor(Body body) : body_(std::move(body)) {}
  executor::AttemptOutcome Run(const executor::AttemptSpec& spec, executor::AttemptObserver& observer) override {
    return body_(spec, observer);
  }
  std::string DeviceDescription() const override { return "fake"; }
  void ReadInputsAnew() override { ++times_read_anew; }
  executor::WorkerAbilities Abilities() const override { return abilities; }
  std::string WhyUnable() const override { return unable ? "a part of it is gone" : ""; }

  executor::WorkerAbilities abilities;
  std::atomic<bool> unable{false};
  std::atomic<int> times_read_anew{0};

 private:
  const Body body_;
};

inline v1::LeaseKey Lease(const std::string& trial, int64_t epoch = 1) {
  v1::LeaseKey lease;
  lease.set_trial(trial);
  lease.set_epoch(epoch);
  lease.set_lease_token(std::string(32, 'a'));
  return lease;
}

inline v1::DesiredAttempt Desired(const v1::LeaseKey& lease) {
  v1::DesiredAttempt desired;
  *desired.mutable_lease() = lease;
  desired.mutable_lease_duration()->set_seconds(30);
  // Complete, as a coordinator sends them.
  const auto settings = settings::Settings::Create({{"base", "b"},
                                                    {"scorer", "s"},
                                                    {"task.images", "i"},
                                                    {"task.instance_prompt", "a sks"},
                                                    {"task.class_prompt", "a"},
                                                    {"method.input", "CA_out"},
                                                    {"method.output", "FFN_in"},
                                                    {"method.width", "4"},
                                                    {"budget.steps", "3"}});
  EXPECT_TRUE(settings.ok()) << settings.status();
  for (const auto& [key, value] : settings->values()) (*desired.mutable_assignment()->mutable_settings())[key] = value;
  desired.mutable_assignment()->set_settings_version(settings::kSettingsVersion);
  desired.mutable_assignment()->set_sweep_seed(7);
  desired.mutable_assignment()->set_replicate(2);
  return desired;
}

// OK for every report, and all points acknowledged.
inline v1::SynchronizeResponse Acknowledge(const v1::SynchronizeRequest& request) {
  v1::SynchronizeResponse response;
  for (const auto& report : request.attempts()) {
    auto& verdict = *response.add_verdicts();
    *verdict.mutable_lease() = report.lease();
    verdict.mutable_status()->set_code(0);
    verdict.set_acknowledged_point_sequence(report.point_sequence());
  }
  return response;
}

}  // namespace loupe::worker::agent
