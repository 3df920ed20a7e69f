// What a worker asks of its coordinator: the two calls of the worker protocol, as an interface, so that the agent's
// behaviour can be tested without a network.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "loupe/v1/worker.pb.h"

namespace loupe::worker::agent {

// A file to hand over.
struct ArtifactFile {
  std::string name;        // "samples.png"
  std::string media_type;  // "image/png"
  std::string path;
};

// Thread-safe: the agent synchronises from one thread and uploads from another.
class CoordinatorClient {
 public:
  virtual ~CoordinatorClient() = default;

  // One synchronisation. Errors: DEADLINE_EXCEEDED after `timeout`, CANCELLED after Interrupt, UNAVAILABLE when nobody
  // answers, else what the coordinator said; its reason as ReasonOf finds it.
  virtual absl::StatusOr<v1::SynchronizeResponse> Synchronize(const v1::SynchronizeRequest& request,
                                                              absl::Duration timeout) = 0;

  // Sends one file. Idempotent. ABORTED when the lease is lost; NOT_FOUND when the file cannot be read; DATA_LOSS when
  // it changed under way; else as above.
  virtual absl::Status Upload(const v1::LeaseKey& lease, const ArtifactFile& file, absl::Duration timeout) = 0;

  // Makes the Synchronize that is in flight, or else the next one, return CANCELLED at once.
  virtual void Interrupt() = 0;
};

}  // namespace loupe::worker::agent
