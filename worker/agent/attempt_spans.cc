#include "worker/agent/attempt_spans.h"

#include <optional>
#include <utility>

#include "common/trace/trace_context.h"

namespace loupe::worker::agent {

std::unique_ptr<AttemptSpans> AttemptSpans::Begin(trace::SpanExporter* exporter, const Clock& clock,
                                                  const v1::DesiredAttempt& desired, const std::string& worker) {
  const std::optional<trace::TraceContext> context = trace::ParseTraceparent(desired.traceparent());
  if (exporter == nullptr || !context || !context->sampled) return nullptr;
  std::unique_ptr<AttemptSpans> spans(new AttemptSpans(*exporter, clock));
  spans->run_ = {.trace_id = context->trace_id,
                 .span_id = trace::NewSpanId(),
                 .parent_id = context->span_id,
                 .name = "run",
                 .start = clock.WallNow(),
                 .end = absl::InfinitePast(),
                 .attributes = {{"loupe.trial", desired.lease().trial()},
                                {"loupe.attempt", desired.lease().epoch()},
                                {"loupe.worker", worker}},
                 .error = ""};
  return spans;
}

trace::Span AttemptSpans::Child(std::string name, absl::Time start) const {
  return {.trace_id = run_.trace_id,
          .span_id = trace::NewSpanId(),
          .parent_id = run_.span_id,
          .name = std::move(name),
          .start = start,
          .end = clock_.WallNow(),
          .attributes = {{"loupe.trial", std::get<std::string>(run_.attributes.front().second)}},
          .error = ""};
}

void AttemptSpans::NotePhase(std::string_view phase, int64_t step, int64_t total_steps) {
  if (phase != phase_) {
    EndPhase();
    phase_ = phase;
    phase_start_ = clock_.WallNow();
  }
  step_ = step;
  total_steps_ = total_steps;
}

void AttemptSpans::EndPhase() {
  if (phase_.empty()) return;
  trace::Span span = Child(phase_, phase_start_);
  if (total_steps_ > 0) {
    span.attributes.emplace_back("loupe.steps", step_);
    span.attributes.emplace_back("loupe.total_steps", total_steps_);
  }
  exporter_.Add(std::move(span));
}

void AttemptSpans::NoteUpload(const std::string& artifact, absl::Time begin) {
  trace::Span span = Child("upload", begin);
  span.attributes.emplace_back("loupe.artifact", artifact);
  exporter_.Add(std::move(span));
}

void AttemptSpans::End(const executor::AttemptOutcome& outcome) {
  EndPhase();
  phase_.clear();
  run_.end = clock_.WallNow();
  if (outcome.kind == executor::AttemptOutcome::Kind::kFailure) run_.error = outcome.failure_message;
  exporter_.Add(std::move(run_));
}

}  // namespace loupe::worker::agent
