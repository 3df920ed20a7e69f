#include "coordinator/api/trial_api.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "common/ids.h"
#include "common/status_macros.h"
#include "coordinator/api/convert.h"
#include "fmt/format.h"

namespace loupe::coordinator::api {
namespace {

// How long a reader of a log is held at most: short against what proxies end.
constexpr absl::Duration kMostLogWait = absl::Seconds(10);

// FAILED_PRECONDITION while it is being deleted: its rows go one after the other.
absl::StatusOr<scheduler::SweepRecord> Readable(store::StoreReader& store, const std::string& id) {
  LOUPE_ASSIGN_OR_RETURN(scheduler::SweepRecord sweep, store.GetSweep(id));
  if (sweep.has_job(scheduler::JobKind::kDelete))
    return absl::FailedPreconditionError(fmt::format("sweep '{}' is being deleted", id));
  return sweep;
}

// The sweep's record and the trial's key, from a trial's resource name.
absl::StatusOr<std::pair<scheduler::SweepRecord, scheduler::TrialKey>> Locate(store::StoreReader& store,
                                                                              const std::string& name) {
  LOUPE_ASSIGN_OR_RETURN(const TrialId trial, TrialId::FromName(name));
  LOUPE_ASSIGN_OR_RETURN(scheduler::SweepRecord sweep, Readable(store, trial.sweep().id()));
  const scheduler::TrialKey key{sweep.key, trial.index()};
  return std::make_pair(std::move(sweep), key);
}

}  // namespace

absl::StatusOr<ArtifactSource> ArtifactSource::Open(const Backend& backend,
                                                    const v1::DownloadArtifactRequest& request) {
  LOUPE_RETURN_IF_ERROR(store::CheckArtifactName(request.artifact_name()));
  LOUPE_ASSIGN_OR_RETURN(const auto located, Locate(*backend.store, request.trial()));
  LOUPE_ASSIGN_OR_RETURN(const std::vector<scheduler::ArtifactRecord> artifacts,
                         backend.store->ListArtifacts(located.second));
  const auto found = std::find_if(artifacts.begin(), artifacts.end(), [&](const scheduler::ArtifactRecord& artifact) {
    return artifact.name == request.artifact_name();
  });
  if (found == artifacts.end()) {
    return absl::NotFoundError(fmt::format("'{}' has no artifact '{}'", request.trial(), request.artifact_name()));
  }
  LOUPE_ASSIGN_OR_RETURN(const int fd, backend.artifacts->OpenToRead(found->sha256));
  return ArtifactSource(*found, fd);
}

ArtifactSource::ArtifactSource(ArtifactSource&& other) noexcept
    : record_(std::move(other.record_)), fd_(std::exchange(other.fd_, -1)) {}

ArtifactSource::~ArtifactSource() {
  if (fd_ >= 0) ::close(fd_);
}

absl::Status ArtifactSource::Read(int64_t offset, size_t most, std::string& chunk) const {
  chunk.resize(most);
  ssize_t got = 0;
  do {
    got = ::pread(fd_, chunk.data(), chunk.size(), offset);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return absl::ErrnoToStatus(errno, fmt::format("cannot read artifact '{}'", record_.name));
  chunk.resize(static_cast<size_t>(got));
  return absl::OkStatus();
}

absl::Status TrialApi::List(const v1::ListTrialsRequest& request, v1::ListTrialsResponse& response) {
  LOUPE_ASSIGN_OR_RETURN(const SweepId id, SweepId::FromName(request.parent()));
  LOUPE_ASSIGN_OR_RETURN(const int64_t size, PageSize(request.page_size(), 100, 1000));
  store::TrialFilter filter;
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
  LOUPE_ASSIGN_OR_RETURN(const scheduler::SweepRecord sweep, Readable(*backend_.store, id.id()));
  LOUPE_ASSIGN_OR_RETURN(const std::vector<store::TrialRow> trials, backend_.store->ListTrials(sweep.key, filter));
  int64_t next = static_cast<int64_t>(trials.size()) == size ? trials.back().index + 1 : sweep.trials();
  size_t bytes = 0;
  for (const store::TrialRow& trial : trials) {
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

absl::Status TrialApi::Points(const v1::ListMetricPointsRequest& request, v1::ListMetricPointsResponse& response) {
  LOUPE_ASSIGN_OR_RETURN(const int64_t size, PageSize(request.page_size(), 1000, 10000));
  LOUPE_ASSIGN_OR_RETURN(const auto located, Locate(*backend_.store, request.parent()));
  const std::string request_key = fmt::format("ListMetricPoints {} {}", request.parent(), request.metric());
  LOUPE_ASSIGN_OR_RETURN(const std::string position, ReadPageToken(request.page_token(), request_key));
  // "epoch step metric": the attempt of the first page, so that a retry in between does not mix two.
  LOUPE_ASSIGN_OR_RETURN(const store::TrialRow trial, backend_.store->GetTrial(located.second));
  int64_t epoch = trial.epoch;
  std::optional<store::PointPosition> after;
  if (!position.empty()) {
    const size_t first = position.find(' ');
    const size_t second = position.find(' ', first + 1);
    store::PointPosition last;
    if (second == std::string::npos || !absl::SimpleAtoi(position.substr(0, first), &epoch) ||
        !absl::SimpleAtoi(position.substr(first + 1, second - first - 1), &last.step)) {
      return absl::InvalidArgumentError("page_token is damaged");
    }
    last.metric = position.substr(second + 1);
    after = last;
  }
  LOUPE_ASSIGN_OR_RETURN(const std::vector<scheduler::MetricPoint> points,
                         backend_.store->ListPoints(located.second, epoch, request.metric(), after, size));
  for (const scheduler::MetricPoint& point : points) {
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

absl::Status TrialApi::Logs(const v1::ListTrialLogsRequest& request, store::LoggedAttempt& attempt,
                            v1::ListTrialLogsResponse& response) {
  LOUPE_ASSIGN_OR_RETURN(const int64_t size, PageSize(request.page_size(), 500, 2000));
  if (request.epoch() < 0 || request.after() < 0 || request.tail() < 0)
    return absl::InvalidArgumentError("epoch, after and tail are not negative");
  if (backend_.logs == nullptr) return absl::UnimplementedError("this coordinator keeps no logs");
  LOUPE_ASSIGN_OR_RETURN(const auto located, Locate(*backend_.store, request.parent()));
  LOUPE_ASSIGN_OR_RETURN(const store::TrialRow trial, backend_.store->GetTrial(located.second));
  if (request.epoch() > trial.epoch) {
    return absl::NotFoundError(
        fmt::format("'{}' has had {} attempts, and no attempt {}", request.parent(), trial.epoch, request.epoch()));
  }
  const int64_t epoch = request.epoch() > 0 ? request.epoch() : trial.epoch;
  // A trial that has had no attempt yet may have one.
  const bool queued = trial.epoch == 0 && trial.state == TrialState::kQueued;
  const bool ended = epoch < trial.epoch || (trial.state != TrialState::kRunning && !queued);
  if (ended) {
    // The last lines came with the message that ended the attempt. They are on their way to the logs when the engine
    // has answered it, which it does before anything else that it is asked from now on.
    LOUPE_RETURN_IF_ERROR(backend_.engine
                              ->Call<bool>([](scheduler::Scheduler&, const scheduler::Now&, scheduler::Effects&) {
                                return absl::StatusOr<bool>(true);
                              })
                              .status());
  }
  attempt = {located.first.uid, trial.index, epoch};
  LOUPE_ASSIGN_OR_RETURN(const store::LogPage page,
                         backend_.logs->Read(attempt, request.after(), size, request.tail()));
  size_t bytes = 0;
  for (const store::LogLine& line : page.lines) {
    if (bytes > kPageBytes) break;
    v1::LogLine* added = response.add_lines();
    *added = ToProto(line);
    bytes += added->ByteSizeLong();
  }
  response.set_more(page.more || response.lines_size() < static_cast<int>(page.lines.size()));
  response.set_epoch(epoch);
  response.set_ended(ended);
  response.set_dropped(page.dropped);
  response.set_latest_epoch(trial.epoch);
  response.set_trial_state(static_cast<v1::Trial::State>(trial.state));
  return absl::OkStatus();
}

void TrialApi::ListTrialLogs(UnaryCall* call, const v1::ListTrialLogsRequest& request,
                             v1::ListTrialLogsResponse* response) {
  const absl::Duration most_wait = std::min(ToAbslDuration(request.max_wait()), kMostLogWait);
  const bool waits = most_wait > absl::ZeroDuration();
  if (!Enter(backend_, call, access::Role::kViewer, waits ? access::CallKind::kHeld : access::CallKind::kUnary,
             request))
    return;
  RunLater(backend_, call, [=, this, &request] {
    store::LoggedAttempt attempt;
    const absl::Status status = Logs(request, attempt, *response);
    if (!status.ok() || !waits || response->ended() || response->lines_size() > 0) return call->Answer(status);
    // A caller who hangs up is forgotten when the time is over.
    backend_.logs->Wait(attempt, request.after(), most_wait, [=, this, &request] {
      RunLater(backend_, call, [=, this, &request] {
        store::LoggedAttempt same;
        response->Clear();
        call->Answer(Logs(request, same, *response));
      });
    });
  });
}

void TrialApi::GetTrial(UnaryCall* call, const v1::GetTrialRequest& request, v1::Trial* response) {
  Serve(backend_, call, access::Role::kViewer, request, [=, this, &request]() -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(const auto located, Locate(*backend_.store, request.name()));
    LOUPE_ASSIGN_OR_RETURN(const store::TrialRow trial, backend_.store->GetTrial(located.second));
    *response = ToProto(located.first, trial);
    return absl::OkStatus();
  });
}

void TrialApi::ListTrials(UnaryCall* call, const v1::ListTrialsRequest& request, v1::ListTrialsResponse* response) {
  Serve(backend_, call, access::Role::kViewer, request, [=, this, &request] { return List(request, *response); });
}

void TrialApi::ListMetricPoints(UnaryCall* call, const v1::ListMetricPointsRequest& request,
                                v1::ListMetricPointsResponse* response) {
  Serve(backend_, call, access::Role::kViewer, request, [=, this, &request] { return Points(request, *response); });
}

void TrialApi::ListArtifacts(UnaryCall* call, const v1::ListArtifactsRequest& request,
                             v1::ListArtifactsResponse* response) {
  Serve(backend_, call, access::Role::kViewer, request, [=, this, &request]() -> absl::Status {
    LOUPE_ASSIGN_OR_RETURN(const auto located, Locate(*backend_.store, request.parent()));
    LOUPE_ASSIGN_OR_RETURN(const std::vector<scheduler::ArtifactRecord> artifacts,
                           backend_.store->ListArtifacts(located.second));
    for (const scheduler::ArtifactRecord& artifact : artifacts) *response->add_artifacts() = ToProto(artifact);
    return absl::OkStatus();
  });
}

}  // namespace loupe::coordinator::api
