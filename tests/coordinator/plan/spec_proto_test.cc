#include "coordinator/plan_proto/spec_proto.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error_details.h"

namespace loupe::coordinator::plan {
namespace {

SweepSpec EveryFieldSet() {
  SweepSpec spec;
  spec.display_name = "A look";
  spec.settings = {{"base", "/b"}, {"budget.steps", "5"}};
  spec.factors = {{"method.scale", {"0.5", "1"}}, {"method.activation", {"relu"}}};
  spec.exclusions = {{{"method.scale", "1"}, {"method.activation", "relu"}}};
  spec.selections = {{{"method.scale", "0.5"}}, {{"method.scale", "1"}}};
  spec.positions = {{"CA_out", "FFN_in"}};
  spec.replicates = 4;
  spec.seed = 0xffff'ffff'ffff'fff0u;
  spec.priority = -3;
  spec.retry = {
      .max_trial_attempts = 5, .max_worker_losses = 6, .backoff = absl::Milliseconds(1500), .max_failed_trials = 7};
  spec.source_text = "name: a\n";
  spec.methods = {{.label = "low rank",
                   .settings = {{"method.kind", "lora"}},
                   .factors = {{"method.rank", {"4", "16"}}},
                   .positions = {{"CA_out", "FFN_in"}}}};
  spec.factors.push_back({"subject", {"cats", "dogs"}, {{{"task.images", "/c"}}, {{"task.images", "/d"}}}});
  spec.defaults = {.version = 1, .values = {{"budget.batch", "4"}}};
  spec.search = {.curve = "clip_i", .direction = SearchSpec::Direction::kMaximize, .reduction = 4, .min_steps = 100};
  return spec;
}

TEST(SpecProtoTest, EveryFieldSurvivesTheRoundTrip) {
  const SweepSpec spec = EveryFieldSet();
  const absl::StatusOr<SweepSpec> back = plan_proto::SpecFromProto(plan_proto::SpecToProto(spec));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, spec);
}

TEST(SpecProtoTest, EveryFieldOfTheMessageIsWritten) {
  // Fails when a field is added to the message and forgotten here.
  const v1::SweepSpec proto = plan_proto::SpecToProto(EveryFieldSet());
  const auto* descriptor = v1::SweepSpec::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const auto* field = descriptor->field(i);
    const bool set = field->is_repeated() ? proto.GetReflection()->FieldSize(proto, field) > 0
                                          : proto.GetReflection()->HasField(proto, field);
    EXPECT_TRUE(set) << field->name();
  }
}

TEST(SpecProtoTest, UnsetReplicatesMeansOne) {
  const absl::StatusOr<SweepSpec> spec = plan_proto::SpecFromProto(v1::SweepSpec());
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(spec->replicates, 1);
}

TEST(SpecProtoTest, NegativeBackoffIsRefusedByName) {
  v1::SweepSpec proto;
  proto.mutable_retry()->mutable_backoff()->set_seconds(-1);
  const absl::StatusOr<SweepSpec> spec = plan_proto::SpecFromProto(proto);
  EXPECT_EQ(spec.status().code(), absl::StatusCode::kInvalidArgument);
  ASSERT_EQ(FieldViolationsOf(spec.status()).size(), 1u);
  EXPECT_EQ(FieldViolationsOf(spec.status())[0].field, "spec.retry.backoff");
}

// What a coordinator stored before sweeps had their defaults.
TEST(SpecProtoTest, StoredSpecWithoutDefaultsHasVersion1s) {
  SweepSpec spec = EveryFieldSet();
  spec.defaults = {};
  EXPECT_EQ(plan_proto::SpecFromProto(plan_proto::SpecToProto(spec))->defaults, settings::SettingDefaults());
  EXPECT_EQ(plan_proto::StoredSpecFromProto(plan_proto::SpecToProto(spec))->defaults,
            settings::SettingDefaults::OfVersion(1));
  EXPECT_EQ(*plan_proto::StoredSpecFromProto(plan_proto::SpecToProto(EveryFieldSet())), EveryFieldSet());
}

}  // namespace
}  // namespace loupe::coordinator::plan
