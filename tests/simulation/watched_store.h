// The store between the engine and SQLite: counts commits, takes its time, and notes what should never be.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/store/sqlite_store.h"
#include "fmt/format.h"
#include "tests/simulation/simulator.h"

namespace loupe::simulation {

namespace co = loupe::coordinator;

// Notes commits that a constraint refused: the schema is the last line of defence, and must never be needed.
class WatchedStore final : public coordinator::store::Store {
 public:
  // `slow`: time that passes in every commit.
  WatchedStore(std::unique_ptr<coordinator::store::SqliteStore> store, std::vector<std::string>& violations,
               SimulatorResult& result, std::function<void()> slow)
      : store_(std::move(store)), violations_(violations), result_(result), slow_(std::move(slow)) {}

  absl::Status Commit(const coordinator::scheduler::Effects& effects) override {
    const absl::Status status = store_->Commit(effects);
    if (!effects.empty()) {
      ++result_.commits;
      slow_();
    }
    if (!status.ok()) ++result_.failed_commits;
    if (status.code() == absl::StatusCode::kAlreadyExists || status.code() == absl::StatusCode::kInternal) {
      violations_.push_back(fmt::format("I1: the schema had to refuse a commit: {}", std::string(status.message())));
    }
    return status;
  }
  absl::Status Recover(coordinator::store::RecoverySink& sink) override { return store_->Recover(sink); }
  absl::StatusOr<coordinator::scheduler::SweepRecord> GetSweep(const std::string& id) override {
    return store_->GetSweep(id);
  }
  absl::StatusOr<std::vector<coordinator::scheduler::SweepRecord>> ListSweeps(coordinator::scheduler::SweepKey before,
                                                                              int64_t limit) override {
    return store_->ListSweeps(before, limit);
  }
  absl::StatusOr<coordinator::scheduler::TrialCounts> CountTrials(coordinator::scheduler::SweepKey sweep) override {
    return store_->CountTrials(sweep);
  }
  absl::StatusOr<coordinator::store::TrialRow> GetTrial(coordinator::scheduler::TrialKey trial) override {
    return store_->GetTrial(trial);
  }
  absl::StatusOr<std::vector<coordinator::store::TrialRow>> ListTrials(
      coordinator::scheduler::SweepKey sweep, const coordinator::store::TrialFilter& filter) override {
    return store_->ListTrials(sweep, filter);
  }
  absl::StatusOr<std::string> GetCellLevelsJson(coordinator::scheduler::SweepKey sweep, int64_t cell) override {
    return store_->GetCellLevelsJson(sweep, cell);
  }
  absl::StatusOr<std::vector<int64_t>> FindTrials(coordinator::scheduler::SweepKey sweep,
                                                  const std::set<TrialState>& states) override {
    return store_->FindTrials(sweep, states);
  }
  absl::StatusOr<std::vector<coordinator::scheduler::MetricPoint>> ListPoints(
      coordinator::scheduler::TrialKey trial, int64_t epoch, const std::string& metric,
      const std::optional<coordinator::store::PointPosition>& after, int64_t limit) override {
    return store_->ListPoints(trial, epoch, metric, after, limit);
  }
  absl::StatusOr<std::vector<coordinator::scheduler::ArtifactRecord>> ListArtifacts(
      coordinator::scheduler::TrialKey trial) override {
    return store_->ListArtifacts(trial);
  }
  absl::StatusOr<coordinator::scheduler::ArtifactRecord> GetArtifact(coordinator::scheduler::TrialKey trial,
                                                                     int64_t epoch, const std::string& name) override {
    return store_->GetArtifact(trial, epoch, name);
  }
  absl::StatusOr<std::vector<coordinator::store::AttemptRow>> ListAttempts(
      const coordinator::store::AttemptFilter& filter) override {
    return store_->ListAttempts(filter);
  }
  absl::StatusOr<coordinator::store::TrialColumns> ReadColumns(coordinator::scheduler::SweepKey sweep, int64_t first,
                                                               int64_t limit) override {
    return store_->ReadColumns(sweep, first, limit);
  }
  absl::StatusOr<std::vector<coordinator::store::ResultSeconds>> ListResultSeconds(
      coordinator::scheduler::SweepKey sweep, int64_t limit) override {
    return store_->ListResultSeconds(sweep, limit);
  }
  absl::StatusOr<coordinator::store::ScoreSummary> SummariseScore(coordinator::scheduler::SweepKey sweep,
                                                                  const std::string& score,
                                                                  bool smaller_is_better) override {
    return store_->SummariseScore(sweep, score, smaller_is_better);
  }
  absl::StatusOr<int64_t> CountAcceptedSince(coordinator::scheduler::SweepKey sweep, absl::Time since) override {
    return store_->CountAcceptedSince(sweep, since);
  }
  absl::StatusOr<std::map<std::string, std::string>> GetProvenance(coordinator::scheduler::TrialKey trial) override {
    return store_->GetProvenance(trial);
  }
  absl::StatusOr<coordinator::store::SweepSnapshot> Snapshot(const std::string& id) override {
    return store_->Snapshot(id);
  }

 private:
  const std::unique_ptr<coordinator::store::SqliteStore> store_;
  std::vector<std::string>& violations_;
  SimulatorResult& result_;
  const std::function<void()> slow_;
};

}  // namespace loupe::simulation
