#include "coordinator/plan_proto/spec_proto.h"

#include "common/error_details.h"
#include "google/protobuf/util/time_util.h"

namespace loupe::coordinator::plan_proto {
namespace {

std::vector<plan::CellPattern> PatternsFromProto(const google::protobuf::RepeatedPtrField<v1::Exclusion>& protos) {
  std::vector<plan::CellPattern> patterns;
  for (const v1::Exclusion& proto : protos) patterns.emplace_back(proto.levels().begin(), proto.levels().end());
  return patterns;
}

void PatternsToProto(const std::vector<plan::CellPattern>& patterns,
                     google::protobuf::RepeatedPtrField<v1::Exclusion>* protos) {
  for (const plan::CellPattern& pattern : patterns) {
    v1::Exclusion* proto = protos->Add();
    for (const auto& [key, level] : pattern) (*proto->mutable_levels())[key] = level;
  }
}

std::vector<plan::SweepFactor> FactorsFromProto(const google::protobuf::RepeatedPtrField<v1::Factor>& protos) {
  std::vector<plan::SweepFactor> factors;
  for (const v1::Factor& proto : protos) {
    plan::SweepFactor& factor = factors.emplace_back(
        plan::SweepFactor{.key = proto.key(), .levels = {proto.levels().begin(), proto.levels().end()}});
    for (const v1::LevelSettings& level : proto.settings()) {
      factor.settings.emplace_back(level.values().begin(), level.values().end());
    }
  }
  return factors;
}

void FactorsToProto(const std::vector<plan::SweepFactor>& factors,
                    google::protobuf::RepeatedPtrField<v1::Factor>* protos) {
  for (const plan::SweepFactor& factor : factors) {
    v1::Factor* proto = protos->Add();
    proto->set_key(factor.key);
    for (const std::string& level : factor.levels) proto->add_levels(level);
    for (const auto& settings : factor.settings) {
      proto->add_settings()->mutable_values()->insert(settings.begin(), settings.end());
    }
  }
}

std::vector<plan::PositionPairSpec> PositionsFromProto(
    const google::protobuf::RepeatedPtrField<v1::PositionPair>& protos) {
  std::vector<plan::PositionPairSpec> positions;
  for (const v1::PositionPair& pair : protos) positions.push_back({.input = pair.input(), .output = pair.output()});
  return positions;
}

void PositionsToProto(const std::vector<plan::PositionPairSpec>& positions,
                      google::protobuf::RepeatedPtrField<v1::PositionPair>* protos) {
  for (const plan::PositionPairSpec& pair : positions) {
    v1::PositionPair* proto = protos->Add();
    proto->set_input(pair.input);
    proto->set_output(pair.output);
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

absl::StatusOr<plan::SweepSpec> SpecFromProto(const v1::SweepSpec& proto) {
  plan::SweepSpec spec;
  spec.display_name = proto.display_name();
  spec.settings.insert(proto.settings().begin(), proto.settings().end());
  spec.factors = FactorsFromProto(proto.factors());
  for (const v1::Method& method : proto.methods()) {
    spec.methods.push_back({.label = method.label(),
                            .settings = {method.settings().begin(), method.settings().end()},
                            .factors = FactorsFromProto(method.factors()),
                            .positions = PositionsFromProto(method.positions())});
  }
  spec.exclusions = PatternsFromProto(proto.exclusions());
  spec.selections = PatternsFromProto(proto.selections());
  spec.positions = PositionsFromProto(proto.positions());
  spec.replicates = proto.replicates() == 0 ? 1 : proto.replicates();
  spec.seed = proto.seed();
  spec.priority = proto.priority();
  const absl::StatusOr<absl::Duration> backoff = BackoffFromProto(proto.retry());
  if (!backoff.ok()) return backoff.status();
  spec.retry = {.max_trial_attempts = proto.retry().max_trial_attempts(),
                .max_worker_losses = proto.retry().max_worker_losses(),
                .backoff = *backoff,
                .max_failed_trials = proto.retry().max_failed_trials()};
  if (proto.has_search()) {
    const v1::Search& search = proto.search();
    spec.search = {.curve = search.curve(),
                   .direction = static_cast<plan::SearchSpec::Direction>(search.direction()),
                   .reduction = search.reduction() == 0 ? plan::SearchSpec().reduction : search.reduction(),
                   .min_steps = search.min_steps()};
  }
  spec.source_text = proto.source_text();
  spec.defaults = {.version = proto.defaults().version(),
                   .values = {proto.defaults().values().begin(), proto.defaults().values().end()}};
  return spec;
}

absl::StatusOr<plan::SweepSpec> StoredSpecFromProto(const v1::SweepSpec& proto) {
  absl::StatusOr<plan::SweepSpec> spec = SpecFromProto(proto);
  if (spec.ok() && spec->defaults == settings::SettingDefaults())
    spec->defaults = settings::SettingDefaults::OfVersion(1);
  return spec;
}

v1::SweepSpec SpecToProto(const plan::SweepSpec& spec) {
  v1::SweepSpec proto;
  proto.set_display_name(spec.display_name);
  for (const auto& [key, value] : spec.settings) (*proto.mutable_settings())[key] = value;
  FactorsToProto(spec.factors, proto.mutable_factors());
  for (const plan::MethodSpec& method : spec.methods) {
    v1::Method* added = proto.add_methods();
    added->set_label(method.label);
    added->mutable_settings()->insert(method.settings.begin(), method.settings.end());
    FactorsToProto(method.factors, added->mutable_factors());
    PositionsToProto(method.positions, added->mutable_positions());
  }
  PatternsToProto(spec.exclusions, proto.mutable_exclusions());
  PatternsToProto(spec.selections, proto.mutable_selections());
  PositionsToProto(spec.positions, proto.mutable_positions());
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
  if (spec.search) {
    v1::Search& search = *proto.mutable_search();
    search.set_curve(spec.search->curve);
    search.set_direction(static_cast<v1::Search::Direction>(spec.search->direction));
    search.set_reduction(spec.search->reduction);
    search.set_min_steps(spec.search->min_steps);
  }
  proto.set_source_text(spec.source_text);
  if (spec.defaults != settings::SettingDefaults()) {
    proto.mutable_defaults()->set_version(spec.defaults.version);
    proto.mutable_defaults()->mutable_values()->insert(spec.defaults.values.begin(), spec.defaults.values.end());
  }
  return proto;
}

}  // namespace loupe::coordinator::plan_proto
