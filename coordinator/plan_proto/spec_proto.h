// SweepSpec between plain data and the wire.
#pragma once

#include "absl/status/statusor.h"
#include "coordinator/plan/sweep_spec.h"
#include "loupe/v1/sweep.pb.h"

namespace loupe::coordinator::plan_proto {

// Field for field; checks only what plain data cannot hold (a negative or overlong backoff): INVALID_ARGUMENT with the
// field. Plan::Create checks the rest. replicates 0 (unset) means 1.
absl::StatusOr<plan::SweepSpec> SpecFromProto(const v1::SweepSpec& proto);

// The same for the specification of a sweep that is stored. Coordinators that stored no defaults took those of version
// 1 of the settings.
absl::StatusOr<plan::SweepSpec> StoredSpecFromProto(const v1::SweepSpec& proto);

// The inverse: SpecFromProto(SpecToProto(s)) == s for every spec whose replicates are at least 1.
v1::SweepSpec SpecToProto(const plan::SweepSpec& spec);

}  // namespace loupe::coordinator::plan_proto
