#include "coordinator/plan_proto/spec_proto.h"

#include "common/error_details.h"
#include "google/protobuf/util/time_util.h"

namespace loupe::coordinator {
namespace {

std::vector<CellPattern> PatternsFromProto(const google::protobuf::RepeatedPtrField<v1::Exclusion>& protos) {
  std::vector<CellPattern> patterns;
  for (const v1::Exclusion& proto : protos) patterns.emplace_back(proto.levels().begin(), proto.levels().end());
  return patterns;
}

void PatternsToProto(const std::vector<CellPattern>& patterns,
                     google::protobuf::RepeatedPtrField<v1::Exclusion>* protos) {
  for (const CellPattern& pattern : patterns) {
    v1::Exclusion* proto = protos->Add();
    for (const auto& [key, level] : pattern) (*proto->mutable_levels())[key] = level;
  }
}

absl::StatusOr<absl::Duration> BackoffFromProto(const v1::RetryPolicy& proto) {
  const google::protobuf::Duration& backoff = proto.backoff();
  // The bounds of google.protobuf.Duration's own documentation, tightened to what a wait can sensibly be.
  const bool valid =
      backoff.seconds() >= 0 && backoff.seconds() <= 86400 && backoff.nanos() >= 0 && backoff.nanos() < 1'000'000'000;
  if (!valid) {
    const std::string description = "expected a duration from 0 to 24 hours";
    return WithFieldViolations(absl::InvalidArgumentError("spec.retry.backoff: " + description),
                               {{"spec.retry.backoff", description}});
  }
  return absl::Seconds(backoff.seconds()) + absl::Nanoseconds(backoff.nanos());
}

}  // namespace

absl::StatusOr<SweepSpec> SpecFromProto(const v1::SweepSpec& proto) {
  SweepSpec spec;
  spec.display_name = proto.display_name();
  spec.settings.insert(proto.settings().begin(), proto.settings().end());
  for (const v1::Factor& factor : proto.factors()) {
    spec.factors.push_back({.key = factor.key(), .levels = {factor.levels().begin(), factor.levels().end()}});
  }
  spec.exclusions = PatternsFromProto(proto.exclusions());
  spec.selections = PatternsFromProto(proto.selections());
  for (const v1::PositionPair& pair : proto.positions()) {
    spec.positions.push_back({.input = pair.input(), .output = pair.output()});
  }
  spec.replicates = proto.replicates() == 0 ? 1 : proto.replicates();
  spec.seed = proto.seed();
  spec.priority = proto.priority();
  const absl::StatusOr<absl::Duration> backoff = BackoffFromProto(proto.retry());
  if (!backoff.ok()) return backoff.status();
  spec.retry = {.max_trial_attempts = proto.retry().max_trial_attempts(),
                .max_worker_losses = proto.retry().max_worker_losses(),
                .backoff = *backoff,
                .max_failed_trials = proto.retry().max_failed_trials()};
  spec.source_text = proto.source_text();
  spec.defaults = {.version = proto.defaults().version(),
                   .values = {proto.defaults().values().begin(), proto.defaults().values().end()}};
  return spec;
}

absl::StatusOr<SweepSpec> StoredSpecFromProto(const v1::SweepSpec& proto) {
  absl::StatusOr<SweepSpec> spec = SpecFromProto(proto);
  if (spec.ok() && spec->defaults == SettingDefaults()) spec->defaults = SettingDefaults::OfVersion(1);
  return spec;
}

v1::SweepSpec SpecToProto(const SweepSpec& spec) {
  v1::SweepSpec proto;
  proto.set_display_name(spec.display_name);
  for (const auto& [key, value] : spec.settings) (*proto.mutable_settings())[key] = value;
  for (const SweepFactor& factor : spec.factors) {
    v1::Factor* added = proto.add_factors();
    added->set_key(factor.key);
    for (const std::string& level : factor.levels) added->add_levels(level);
  }
  PatternsToProto(spec.exclusions, proto.mutable_exclusions());
  PatternsToProto(spec.selections, proto.mutable_selections());
  for (const PositionPairSpec& pair : spec.positions) {
    v1::PositionPair* added = proto.add_positions();
    added->set_input(pair.input);
    added->set_output(pair.output);
  }
  proto.set_replicates(spec.replicates);
  proto.set_seed(spec.seed);
  proto.set_priority(spec.priority);
  v1::RetryPolicy& retry = *proto.mutable_retry();
  retry.set_max_trial_attempts(spec.retry.max_trial_attempts);
  retry.set_max_worker_losses(spec.retry.max_worker_losses);
  retry.set_max_failed_trials(spec.retry.max_failed_trials);
  if (spec.retry.backoff != absl::ZeroDuration()) {
    *retry.mutable_backoff() =
        google::protobuf::util::TimeUtil::NanosecondsToDuration(absl::ToInt64Nanoseconds(spec.retry.backoff));
  }
  proto.set_source_text(spec.source_text);
  if (spec.defaults != SettingDefaults()) {
    proto.mutable_defaults()->set_version(spec.defaults.version);
    proto.mutable_defaults()->mutable_values()->insert(spec.defaults.values.begin(), spec.defaults.values.end());
  }
  return proto;
}

}  // namespace loupe::coordinator
