// The spans of one attempt on its worker: the run, its phases, and the files that it hands over, under the span that
// the coordinator named (DesiredAttempt.traceparent).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/trace/span_exporter.h"
#include "loupe/v1/worker.pb.h"
#include "worker/executor/attempt.h"

namespace loupe::worker::agent {

// Not thread-safe.
class AttemptSpans {
 public:
  // Null where nobody keeps the trace, or there is no exporter. Both outlive it.
  static std::unique_ptr<AttemptSpans> Begin(trace::SpanExporter* exporter, const Clock& clock,
                                             const v1::DesiredAttempt& desired, const std::string& worker);

  // The attempt is in this phase now, so far in it. A phase that it comes back to has a span of its own.
  void NotePhase(std::string_view phase, int64_t step, int64_t total_steps);
  void NoteUpload(const std::string& artifact, absl::Time begin);
  // Once.
  void End(const executor::AttemptOutcome& outcome);

 private:
  AttemptSpans(trace::SpanExporter& exporter, const Clock& clock) : exporter_(exporter), clock_(clock) {}
  trace::Span Child(std::string name, absl::Time start) const;
  void EndPhase();

  trace::SpanExporter& exporter_;
  const Clock& clock_;
  trace::Span run_;
  std::string phase_;
  absl::Time phase_start_;
  int64_t step_ = 0;
  int64_t total_steps_ = 0;
};

}  // namespace loupe::worker::agent
