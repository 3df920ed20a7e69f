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
class WatchedStore final : public co::Store {
 public:
  // `slow`: time that passes in every commit.
  WatchedStore(std::unique_ptr<co::SqliteStore> store, std::vector<std::string>& violations, SimulatorResult& result,
               std::function<void()> slow)
      : store_(std::move(store)), violations_(violations), result_(result), slow_(std::move(slow)) {}

  absl::Status Commit(const co::Effects& effects) override {
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
  absl::Status Recover(co::RecoverySink& sink) override { return store_->Recover(sink); }
  absl::StatusOr<co::SweepRecord> GetSweep(const std::string& id) override { return store_->GetSweep(id); }
  absl::StatusOr<std::vector<co::SweepRecord>> ListSweeps(co::SweepKey before, int64_t limit) override {
    return store_->ListSweeps(before, limit);
  }
  absl::StatusOr<co::TrialCounts> CountTrials(co::SweepKey sweep) override { return store_->CountTrials(sweep); }
  absl::StatusOr<co::TrialRow> GetTrial(co::TrialKey trial) override { return store_->GetTrial(trial); }
  absl::StatusOr<std::vector<co::TrialRow>> ListTrials(co::SweepKey sweep, const co::TrialFilter& filter) override {
    return store_->ListTrials(sweep, filter);
  }
  absl::StatusOr<std::string> GetCellLevelsJson(co::SweepKey sweep, int64_t cell) override {
    return store_->GetCellLevelsJson(sweep, cell);
  }
  absl::StatusOr<std::vector<int64_t>> FindTrials(co::SweepKey sweep, const std::set<TrialState>& states) override {
    return store_->FindTrials(sweep, states);
  }
  absl::StatusOr<std::vector<co::MetricPoint>> ListPoints(co::TrialKey trial, int64_t epoch, const std::string& metric,
                                                          const std::optional<co::PointPosition>& after,
                                                          int64_t limit) override {
    return store_->ListPoints(trial, epoch, metric, after, limit);
  }
  absl::StatusOr<std::vector<co::ArtifactRecord>> ListArtifacts(co::TrialKey trial) override {
    return store_->ListArtifacts(trial);
  }
  absl::StatusOr<co::ArtifactRecord> GetArtifact(co::TrialKey trial, int64_t epoch, const std::string& name) override {
    return store_->GetArtifact(trial, epoch, name);
  }
  absl::StatusOr<std::vector<co::AttemptRow>> ListAttempts(const co::AttemptFilter& filter) override {
    return store_->ListAttempts(filter);
  }
  absl::StatusOr<co::TrialColumns> ReadColumns(co::SweepKey sweep, int64_t first, int64_t limit) override {
    return store_->ReadColumns(sweep, first, limit);
  }
  absl::StatusOr<std::vector<co::ResultSeconds>> ListResultSeconds(co::SweepKey sweep, int64_t limit) override {
    return store_->ListResultSeconds(sweep, limit);
  }
  absl::StatusOr<co::ScoreSummary> SummariseScore(co::SweepKey sweep, const std::string& score,
                                                  bool smaller_is_better) override {
    return store_->SummariseScore(sweep, score, smaller_is_better);
  }
  absl::StatusOr<int64_t> CountAcceptedSince(co::SweepKey sweep, absl::Time since) override {
    return store_->CountAcceptedSince(sweep, since);
  }
  absl::StatusOr<std::map<std::string, std::string>> GetProvenance(co::TrialKey trial) override {
    return store_->GetProvenance(trial);
  }
  absl::StatusOr<co::SweepSnapshot> Snapshot(const std::string& id) override { return store_->Snapshot(id); }

 private:
  const std::unique_ptr<co::SqliteStore> store_;
  std::vector<std::string>& violations_;
  SimulatorResult& result_;
  const std::function<void()> slow_;
};

}  // namespace loupe::simulation
