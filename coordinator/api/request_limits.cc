#include "coordinator/api/request_limits.h"

#include <google/protobuf/descriptor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/error_details.h"
#include "fmt/format.h"

namespace loupe::coordinator::api {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

struct Limit {
  // Of one text, in bytes.
  size_t bytes = 1024;
  // Of a list or a map.
  int entries = 1000;
};

constexpr size_t kAnyBytes = SIZE_MAX;

// Of points there are thousands in the messages of a busy worker; their names are looked at where they are read. So are
// lines of logs, which are cut and never a reason to refuse a result.
bool IsLookedAtElsewhere(const FieldDescriptor& field) {
  return field.full_name() == "loupe.v1.AttemptReport.points" || field.full_name() == "loupe.v1.AttemptReport.log";
}

const Limit& LimitOf(const FieldDescriptor& field) {
  static const Limit general;
  static const std::unordered_map<std::string_view, Limit> own = {
      // Prompts are settings, and levels.
      {"loupe.v1.SweepSpec.SettingsEntry.value", {.bytes = 16 << 10}},
      {"loupe.v1.Method.SettingsEntry.value", {.bytes = 16 << 10}},
      {"loupe.v1.LevelSettings.ValuesEntry.value", {.bytes = 16 << 10}},
      {"loupe.v1.SettingDefaults.ValuesEntry.value", {.bytes = 16 << 10}},
      {"loupe.v1.SweepSpec.methods", {.entries = 100}},
      {"loupe.v1.Method.factors", {.entries = 64}},
      {"loupe.v1.Factor.settings", {.entries = 10000}},
      {"loupe.v1.Factor.levels", {.bytes = 4 << 10, .entries = 10000}},
      {"loupe.v1.SweepSpec.factors", {.entries = 64}},
      // A design that is chosen cell by cell names them all.
      {"loupe.v1.SweepSpec.selections", {.entries = 100000}},
      {"loupe.v1.SweepSpec.exclusions", {.entries = 100000}},
      {"loupe.v1.Exclusion.LevelsEntry.value", {.bytes = 4 << 10}},
      {"loupe.v1.SweepSpec.source_text", {.bytes = 1 << 20}},
      {"loupe.v1.SweepFile.text", {.bytes = 1 << 20}},
      {"loupe.v1.SweepFile.file_name", {.bytes = 4 << 10}},
      {"loupe.v1.SweepFile.working_directory", {.bytes = 4 << 10}},
      {"loupe.v1.RetryTrialsRequest.CellEntry.value", {.bytes = 4 << 10}},
      {"loupe.v1.RenderReportRequest.BaselineEntry.value", {.bytes = 4 << 10}},
      {"loupe.v1.RenderReportRequest.with", {.entries = 64}},
      {"loupe.v1.RenderReportRequest.simple_effects", {.bytes = 64 << 10, .entries = 64}},
      {"loupe.v1.RenderReportRequest.contrasts", {.bytes = 64 << 10}},
      {"loupe.v1.RenderReportRequest.terms", {.bytes = 64 << 10}},
      {"loupe.v1.GetAnovaRequest.terms", {.bytes = 64 << 10}},
      {"loupe.v1.ListTrialsRequest.states", {.entries = 16}},
      {"loupe.v1.UploadArtifactRequest.chunk", {.bytes = kAnyBytes}},
      // Counted and cut in convert.cc.
      {"loupe.v1.SynchronizeRequest.attempts", {.entries = INT32_MAX}},
      {"loupe.v1.AttemptReport.points", {.entries = INT32_MAX}},
      {"loupe.v1.AttemptReport.log", {.entries = INT32_MAX}},
      {"loupe.v1.Failure.message", {.bytes = kAnyBytes}},
      {"loupe.v1.AttemptReport.phase", {.bytes = kAnyBytes}},
      {"loupe.v1.WorkerTelemetry.gpus", {.entries = INT32_MAX}},
      {"loupe.v1.GpuTelemetry.device", {.bytes = kAnyBytes}},
      {"loupe.v1.WorkerDescription.hostname", {.bytes = kAnyBytes}},
      {"loupe.v1.WorkerDescription.device", {.bytes = kAnyBytes}},
      {"loupe.v1.WorkerDescription.version", {.bytes = kAnyBytes}},
      {"loupe.v1.Success.scores", {.entries = INT32_MAX}},
      {"loupe.v1.Success.ScoresEntry.key", {.bytes = kAnyBytes}},
      {"loupe.v1.Success.provenance", {.entries = INT32_MAX}},
      {"loupe.v1.Success.ProvenanceEntry.key", {.bytes = kAnyBytes}},
      {"loupe.v1.Success.ProvenanceEntry.value", {.bytes = kAnyBytes}},
      {"loupe.v1.MetricPoint.metric", {.bytes = kAnyBytes}},
  };
  const auto found = own.find(field.full_name());
  return found == own.end() ? general : found->second;
}

// Whether all is within its limits: what every call is asked, so without a word about where.
bool Fits(const Message& message) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const bool text = field->cpp_type() == FieldDescriptor::CPPTYPE_STRING;
    const bool nested = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (!field->is_repeated() && !text && !nested) continue;
    const Limit& limit = LimitOf(*field);
    std::string scratch;
    if (!field->is_repeated()) {
      if (text && reflection.GetStringReference(message, field, &scratch).size() > limit.bytes) return false;
      if (nested && !Fits(reflection.GetMessage(message, field))) return false;
      continue;
    }
    const int entries = reflection.FieldSize(message, field);
    if (entries > limit.entries) return false;
    if (IsLookedAtElsewhere(*field)) continue;
    for (int i = 0; i < entries; ++i) {
      if (text && reflection.GetRepeatedStringReference(message, field, i, &scratch).size() > limit.bytes) return false;
      if (nested && !Fits(reflection.GetRepeatedMessage(message, field, i))) return false;
    }
  }
  return true;
}

// Names what does not.
class Walk {
 public:
  const std::vector<FieldViolation>& violations() const { return violations_; }

  void Look(const Message& message, const std::string& path) {
    const Reflection& reflection = *message.GetReflection();
    std::vector<const FieldDescriptor*> fields;
    reflection.ListFields(message, &fields);
    for (const FieldDescriptor* field : fields) {
      if (violations_.size() >= kMostViolations) return;
      const std::string name = path.empty() ? field->name() : path + "." + field->name();
      if (field->is_repeated()) {
        LookAtEach(message, *field, name);
      } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
        std::string scratch;
        LookAtText(reflection.GetStringReference(message, field, &scratch), *field, name);
      } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        Look(reflection.GetMessage(message, field), name);
      }
    }
  }

 private:
  static constexpr size_t kMostViolations = 16;

  void LookAtEach(const Message& message, const FieldDescriptor& field, const std::string& name) {
    const Reflection& reflection = *message.GetReflection();
    const int entries = reflection.FieldSize(message, &field);
    const int most = LimitOf(field).entries;
    if (entries > most) {
      violations_.push_back({name, fmt::format("{} entries, at most {} are allowed", entries, most)});
      return;
    }
    if (IsLookedAtElsewhere(field)) return;
    for (int i = 0; i < entries && violations_.size() < kMostViolations; ++i) {
      const std::string one = fmt::format("{}[{}]", name, i);
      if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
        Look(reflection.GetRepeatedMessage(message, &field, i), one);
      } else if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
        std::string scratch;
        LookAtText(reflection.GetRepeatedStringReference(message, &field, i, &scratch), field, one);
      }
    }
  }

  void LookAtText(const std::string& text, const FieldDescriptor& field, const std::string& name) {
    const size_t most = LimitOf(field).bytes;
    if (text.size() > most)
      violations_.push_back({name, fmt::format("{} bytes, at most {} are allowed", text.size(), most)});
  }

  std::vector<FieldViolation> violations_;
};

}  // namespace

absl::Status CheckLimits(const Message& request) {
  if (Fits(request)) return absl::OkStatus();
  Walk walk;
  walk.Look(request, "");
  const FieldViolation& first = walk.violations().front();
  return WithFieldViolations(absl::InvalidArgumentError(fmt::format("{}: {}", first.field, first.description)),
                             walk.violations());
}

}  // namespace loupe::coordinator::api
