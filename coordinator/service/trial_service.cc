#include "coordinator/service/trial_service.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "common/ids.h"
#include "common/status_macros.h"
#include "coordinator/service/chunk_writer.h"
#include "coordinator/service/convert.h"
#include "coordinator/service/guarded.h"
#include "fmt/format.h"

namespace loupe::coordinator {
namespace {

// Small, for each download that is open has one in memory.
constexpr size_t kDownloadChunkBytes = 256 << 10;

// FAILED_PRECONDITION while it is being deleted: its rows go one after the other.
absl::StatusOr<SweepRecord> Readable(Store& store, const std::string& id) {
  LOUPE_ASSIGN_OR_RETURN(SweepRecord sweep, store.GetSweep(id));
  if (sweep.has_job(JobKind::kDelete))
    return absl::FailedPreconditionError(fmt::format("sweep '{}' is being deleted", id));
  return sweep;
}

// The sweep's record and the trial's key, from a trial's resource name.
absl::StatusOr<std::pair<SweepRecord, TrialKey>> Locate(Store& store, const std::string& name) {
  LOUPE_ASSIGN_OR_RETURN(const TrialId trial, TrialId::FromName(name));
  LOUPE_ASSIGN_OR_RETURN(SweepRecord sweep, Readable(store, trial.sweep().id()));
  const TrialKey key{sweep.key, trial.index()};
  return std::make_pair(std::move(sweep), key);
}

// An artifact on its way out: first its description, then its bytes.
class Download {
 public:
  Download(const Backend& backend, v1::DownloadArtifactRequest request)
      : backend_(backend), request_(std::move(request)) {}
  ~Download() {
    if (fd_ >= 0) ::close(fd_);
  }
  Download(const Download&) = delete;
  Download& operator=(const Download&) = delete;

  // False when all has been sent.
  absl::StatusOr<bool> Next(v1::DownloadArtifactResponse& response) {
    if (fd_ < 0) {
      LOUPE_RETURN_IF_ERROR(Open(response));
      return true;
    }
    std::string& chunk = *response.mutable_chunk();
    chunk.resize(kDownloadChunkBytes);
    ssize_t got = 0;
    do {
      got = ::read(fd_, chunk.data(), chunk.size());
    } while (got < 0 && errno == EINTR);
    if (got < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot read artifact '{}'", request_.artifact_name()));
    chunk.resize(static_cast<size_t>(got));
    return got > 0;
  }

 private:
  absl::Status Open(v1::DownloadArtifactResponse& response) {
    LOUPE_RETURN_IF_ERROR(CheckArtifactName(request_.artifact_name()));
    LOUPE_ASSIGN_OR_RETURN(const auto located, Locate(*backend_.store, request_.trial()));
    LOUPE_ASSIGN_OR_RETURN(const std::vector<ArtifactRecord> artifacts, backend_.store->ListArtifacts(located.second));
    const auto found = std::find_if(artifacts.begin(), artifacts.end(), [&](const ArtifactRecord& artifact) {
      return artifact.name == request_.artifact_name();
    });
    if (found == artifacts.end()) {
      return absl::NotFoundError(fmt::format("'{}' has no artifact '{}'", request_.trial(), request_.artifact_name()));
    }
    LOUPE_ASSIGN_OR_RETURN(fd_, backend_.artifacts->OpenToRead(found->sha256));
    *response.mutable_artifact() = ToProto(*found);
    return absl::OkStatus();
  }

  const Backend& backend_;
  const v1::DownloadArtifactRequest request_;
  int fd_ = -1;
};

}  // namespace

absl::Status TrialServiceImpl::List(const v1::ListTrialsRequest& request, v1::ListTrialsResponse& response) {
  LOUPE_ASSIGN_OR_RETURN(const SweepId id, SweepId::FromName(request.parent()));
  LOUPE_ASSIGN_OR_RETURN(const int64_t size, PageSize(request.page_size(), 100, 1000));
  TrialFilter filter;
  std::string request_key = "ListTrials " + request.parent();
  for (const int state : request.states()) {
    if (state < 1 || state > 6)
      return absl::InvalidArgumentError(fmt::format("states: {} is not a trial's state", state));
    filter.states.insert(static_cast<TrialState>(state));
    request_key += fmt::format(" {}", state);
  }
  LOUPE_ASSIGN_OR_RETURN(const std::string position, ReadPageToken(request.page_token(), request_key));
  if (!position.empty() && !absl::SimpleAtoi(position, &filter.from_index)) {
    return absl::InvalidArgumentError("page_token is damaged");
  }
  filter.limit = size;
  LOUPE_ASSIGN_OR_RETURN(const SweepRecord sweep, Readable(*backend_.store, id.id()));
  LOUPE_ASSIGN_OR_RETURN(const std::vector<TrialRow> trials, backend_.store->ListTrials(sweep.key, filter));
  int64_t next = static_cast<int64_t>(trials.size()) == size ? trials.back().index + 1 : sweep.trials();
  size_t bytes = 0;
  for (const TrialRow& trial : trials) {
    if (bytes > kPageBytes) {
      next = trial.index;
      break;
    }
    v1::Trial* added = response.add_trials();
    *added = ToProto(sweep, trial);
    bytes += added->ByteSizeLong();
  }
  if (next < sweep.trials()) response.set_next_page_token(MakePageToken(fmt::format("{}", next), request_key));
  return absl::OkStatus();
}

absl::Status TrialServiceImpl::Points(const v1::ListMetricPointsRequest& request,
                                      v1::ListMetricPointsResponse& response) {
  LOUPE_ASSIGN_OR_RETURN(const int64_t size, PageSize(request.page_size(), 1000, 10000));
  LOUPE_ASSIGN_OR_RETURN(const auto located, Locate(*backend_.store, request.parent()));
  const std::string request_key = fmt::format("ListMetricPoints {} {}", request.parent(), request.metric());
  LOUPE_ASSIGN_OR_RETURN(const std::string position, ReadPageToken(request.page_token(), request_key));
  // "epoch step metric": the attempt of the first page, so that a retry in between does not mix two.
  LOUPE_ASSIGN_OR_RETURN(const TrialRow trial, backend_.store->GetTrial(located.second));
  int64_t epoch = trial.epoch;
  std::optional<PointPosition> after;
  if (!position.empty()) {
    const size_t first = position.find(' ');
    const size_t second = position.find(' ', first + 1);
    PointPosition last;
    if (second == std::string::npos || !absl::SimpleAtoi(position.substr(0, first), &epoch) ||
        !absl::SimpleAtoi(position.substr(first + 1, second - first - 1), &last.step)) {
      return absl::InvalidArgumentError("page_token is damaged");
    }
    last.metric = position.substr(second + 1);
    after = last;
  }
  LOUPE_ASSIGN_OR_RETURN(const std::vector<MetricPoint> points,
                         backend_.store->ListPoints(located.second, epoch, request.metric(), after, size));
  for (const MetricPoint& point : points) {
    v1::MetricPoint* added = response.add_points();
    added->set_metric(point.metric);
    added->set_step(point.step);
    added->set_value(point.value);
  }
  if (static_cast<int64_t>(points.size()) == size) {
    const std::string next = fmt::format("{} {} {}", epoch, points.back().step, points.back().metric);
    response.set_next_page_token(MakePageToken(next, request_key));
  }
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* TrialServiceImpl::GetTrial(grpc::CallbackServerContext* context,
                                                     const v1::GetTrialRequest* request, v1::Trial* response) {
  return Serve(backend_, context, Role::kViewer, *request, response, [=, this]() -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(const auto located, Locate(*backend_.store, request->name()));
    LOUPE_ASSIGN_OR_RETURN(const TrialRow trial, backend_.store->GetTrial(located.second));
    *response = ToProto(located.first, trial);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* TrialServiceImpl::ListTrials(grpc::CallbackServerContext* context,
                                                       const v1::ListTrialsRequest* request,
                                                       v1::ListTrialsResponse* response) {
  return Serve(backend_, context, Role::kViewer, *request, response, [=, this] { return List(*request, *response); });
}

grpc::ServerUnaryReactor* TrialServiceImpl::ListMetricPoints(grpc::CallbackServerContext* context,
                                                             const v1::ListMetricPointsRequest* request,
                                                             v1::ListMetricPointsResponse* response) {
  return Serve(backend_, context, Role::kViewer, *request, response, [=, this] { return Points(*request, *response); });
}

grpc::ServerUnaryReactor* TrialServiceImpl::ListArtifacts(grpc::CallbackServerContext* context,
                                                          const v1::ListArtifactsRequest* request,
                                                          v1::ListArtifactsResponse* response) {
  return Serve(backend_, context, Role::kViewer, *request, response, [=, this]() -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(const auto located, Locate(*backend_.store, request->parent()));
    LOUPE_ASSIGN_OR_RETURN(const std::vector<ArtifactRecord> artifacts, backend_.store->ListArtifacts(located.second));
    for (const ArtifactRecord& artifact : artifacts) *response->add_artifacts() = ToProto(artifact);
    return absl::OkStatus();
  });
}

grpc::ServerWriteReactor<v1::DownloadArtifactResponse>* TrialServiceImpl::DownloadArtifact(
    grpc::CallbackServerContext* context, const v1::DownloadArtifactRequest* request) {
  auto* writer = new ChunkWriter<v1::DownloadArtifactResponse>(backend_);
  absl::StatusOr<std::unique_ptr<OpenCall>> open =
      OpenFor(backend_, *context, Role::kViewer, CallKind::kStream, request);
  if (!open.ok()) {
    writer->End(open.status());
    return writer;
  }
  writer->SetOpen(*std::move(open));
  const absl::Status begun = Guarded([&] {
    writer->Start([download = std::make_shared<Download>(backend_, *request)](v1::DownloadArtifactResponse& response) {
      return download->Next(response);
    });
  });
  if (!begun.ok()) writer->End(begun);
  return writer;
}

}  // namespace loupe::coordinator
