// What SweepService does, whatever front end asks (loupe/v1/sweep.proto has the contract).
#pragma once

#include <functional>
#include <string>

#include "coordinator/api/call.h"
#include "coordinator/scheduler/scheduler.h"
#include "loupe/v1/sweep.pb.h"

namespace loupe::coordinator::api {

// Thread-safe. Each unary method answers `call`; request and response live until then.
class SweepApi {
 public:
  explicit SweepApi(const Backend& backend) : backend_(backend) {}

  void CreateSweep(UnaryCall* call, const v1::CreateSweepRequest& request, v1::CreateSweepResponse* response);
  void GetSweep(UnaryCall* call, const v1::GetSweepRequest& request, v1::Sweep* response);
  void ListSweeps(UnaryCall* call, const v1::ListSweepsRequest& request, v1::ListSweepsResponse* response);
  void DeleteSweep(UnaryCall* call, const v1::DeleteSweepRequest& request, v1::DeleteSweepResponse* response);
  void PauseSweep(UnaryCall* call, const v1::SweepVerbRequest& request, v1::Sweep* response);
  void ResumeSweep(UnaryCall* call, const v1::SweepVerbRequest& request, v1::Sweep* response);
  void StopSweep(UnaryCall* call, const v1::SweepVerbRequest& request, v1::Sweep* response);
  void CancelSweep(UnaryCall* call, const v1::SweepVerbRequest& request, v1::Sweep* response);
  void RetryTrials(UnaryCall* call, const v1::RetryTrialsRequest& request, v1::RetryTrialsResponse* response);

  struct News {
    v1::WatchSweepResponse message;
    // Nothing changes after it: the sweep has ended.
    bool last = false;
  };
  // Returns false when it wants no more. After an error there is no more.
  using OnNews = std::function<bool(absl::StatusOr<News>)>;
  // Has `on_news` called with the sweep's state, at once and after changes, mostly on the engine's thread: it must be
  // quick. `client` (OpenCall::client): whose it is. INVALID_ARGUMENT for what is no sweep's name.
  absl::Status WatchSweep(const std::string& client, const v1::WatchSweepRequest& request, OnNews on_news);

 private:
  // `client`: whose jobs they are.
  absl::Status Create(const v1::CreateSweepRequest& request, const std::string& client, const std::string& traceparent,
                      v1::CreateSweepResponse& response);
  absl::Status List(const v1::ListSweepsRequest& request, v1::ListSweepsResponse& response);
  absl::Status Retry(const v1::RetryTrialsRequest& request, const std::string& client,
                     v1::RetryTrialsResponse& response);
  void Verb(UnaryCall* call, const v1::SweepVerbRequest& request, scheduler::SweepVerb verb, v1::Sweep& response);
  absl::StatusOr<v1::Sweep> View(const std::string& sweep_id);
  News NewsOf(const engine::WatchUpdate& update) const;

  const Backend backend_;
};

}  // namespace loupe::coordinator::api
