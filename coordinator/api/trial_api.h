// What TrialService does, whatever front end asks: reads of trials, metric points and artifacts from the store
// (loupe/v1/trial.proto has the contract).
#pragma once

#include <string>

#include "coordinator/api/call.h"
#include "loupe/v1/trial.pb.h"

namespace loupe::coordinator::api {

// An artifact, open for reading; closed with the object. Not thread-safe.
class ArtifactSource {
 public:
  // NOT_FOUND when the trial has no artifact of that name, DATA_LOSS when its file is gone.
  static absl::StatusOr<ArtifactSource> Open(const Backend& backend, const v1::DownloadArtifactRequest& request);
  ~ArtifactSource();
  ArtifactSource(ArtifactSource&& other) noexcept;
  ArtifactSource& operator=(ArtifactSource&&) = delete;

  const scheduler::ArtifactRecord& record() const { return record_; }

  // Up to `most` bytes from `offset` on, in place of what `chunk` holds; none at the file's end.
  absl::Status Read(int64_t offset, size_t most, std::string& chunk) const;

 private:
  ArtifactSource(scheduler::ArtifactRecord record, int fd) : record_(std::move(record)), fd_(fd) {}

  scheduler::ArtifactRecord record_;
  int fd_;
};

// Thread-safe. Each unary method answers `call`; request and response live until then.
class TrialApi {
 public:
  explicit TrialApi(const Backend& backend) : backend_(backend) {}

  void GetTrial(UnaryCall* call, const v1::GetTrialRequest& request, v1::Trial* response);
  void ListTrials(UnaryCall* call, const v1::ListTrialsRequest& request, v1::ListTrialsResponse* response);
  void ListMetricPoints(UnaryCall* call, const v1::ListMetricPointsRequest& request,
                        v1::ListMetricPointsResponse* response);
  void ListArtifacts(UnaryCall* call, const v1::ListArtifactsRequest& request, v1::ListArtifactsResponse* response);
  void ListTrialLogs(UnaryCall* call, const v1::ListTrialLogsRequest& request, v1::ListTrialLogsResponse* response);

 private:
  absl::Status List(const v1::ListTrialsRequest& request, v1::ListTrialsResponse& response);
  absl::Status Points(const v1::ListMetricPointsRequest& request, v1::ListMetricPointsResponse& response);
  absl::Status Logs(const v1::ListTrialLogsRequest& request, store::LoggedAttempt& attempt,
                    v1::ListTrialLogsResponse& response);

  const Backend backend_;
};

}  // namespace loupe::coordinator::api
