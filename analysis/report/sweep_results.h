// Everything a report says about a sweep, as plain data: one consistent snapshot, filled by whoever holds the store.
//
// Law: a report is a pure function of this struct and ReportOptions; the same input gives the same bytes. So nothing
// here depends on when or where the report is made, and containers are in a defined order.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/trial_state.h"

namespace loupe::analysis::report {

struct SweepFactor {
  std::string name;                 // as shown: the key's last part, "scale"
  std::string key;                  // the setting it varies, "method.scale"
  std::vector<std::string> levels;  // in the order to show; positions in data-path order as in common/positions.h
  // Of a sweep over methods: the level of the factor kMethodFactor at which alone this factor exists; else empty.
  std::string within = {};
  // By level: what it sets, by setting, where a level sets several together ("cats": "task.images", …) or is a method.
  // Empty where each level is a value of `key`.
  std::vector<std::map<std::string, std::string>> settings = {};
};

// Compares the sweep's methods: the factor whose levels have factors of their own.
inline constexpr const char* kMethodFactor = "method";
// TrialRecord::levels of a factor that another method has.
inline constexpr int32_t kNoSuchFactor = -1;

struct TrialRecord {
  int64_t index = 0;  // the trial's number in the sweep; unique
  int64_t cell_index = 0;
  std::vector<int32_t> levels;  // per factor: index into its levels, or kNoSuchFactor
  int32_t replicate = 0;
  TrialState state = TrialState::kQueued;
  bool stopped_early = false;            // ended by an early-stopping rule: counted, never mixed in silently
  int64_t stopped_at_step = 0;           // steps that it was trained for then; 0 otherwise
  std::map<std::string, double> scores;  // of the accepted result; empty unless kSucceeded
  std::string failure_message;           // of the last failed attempt; empty when there was none
  int64_t attempts = 0;
  double duration_seconds = 0;  // of the accepted attempt; 0 when unknown
  double parameters = 0;        // trained ones; 0 when unknown
  double file_bytes = 0;        // of what was trained, as a file; 0 when unknown
};

struct MetricCurve {
  int64_t trial_index = 0;
  std::string metric;                              // "loss", "clip_i"
  std::vector<std::pair<int64_t, double>> points;  // (step, value), ascending by step
};

struct SweepProvenance {
  uint64_t seed = 0;
  std::string spec_text;                        // the sweep file as submitted
  std::map<std::string, std::string> settings;  // of all cells, resolved: "base", "task.kind", "budget.steps", …
  std::map<std::string, std::string> versions;  // "loupe", "libtorch", "schema", …
};

struct SweepResults {
  std::string sweep_id;      // "sweeps/cats"
  std::string display_name;  // may be empty
  std::string state;         // "ACTIVE", "COMPLETED", …
  std::vector<SweepFactor> factors;
  int32_t replicates = 1;
  std::string primary_score;                      // name in TrialRecord::scores
  std::vector<TrialRecord> trials;                // ascending by index; every planned trial is here, whatever its state
  std::vector<MetricCurve> curves;                // ascending by (metric, trial_index)
  std::map<std::string, double> baseline_scores;  // of the untuned base, by the same names; may be empty
  // By score: a whole sentence that belongs beside its values wherever they are shown ("FID from 16 generated and …").
  std::map<std::string, std::string> score_warnings;
  // PNG or JPEG bytes of a trial's sample sheet. NotFound: it has none (the grid says so). Called at most once per
  // trial, shown, from the rendering thread, in ascending order of index. Null: no trial has pictures.
  std::function<absl::StatusOr<std::string>(int64_t trial_index)> load_sample_picture;
  SweepProvenance provenance;
  std::vector<std::string> notes;  // whole sentences on how the snapshot was put together, for the reader
};

// What the sweep fixes, for its readers: a setting by its key; what a level sets with that level before it ("lora:
// method.alpha", "cats: task.images").
std::map<std::string, std::string> AllSettings(const SweepResults& results);

// The level's name; empty for kNoSuchFactor.
const std::string& LevelName(const SweepResults& results, const TrialRecord& trial, size_t factor);

// Whether less is better for this score (common/score_table.h), or for "{score}_base". False for names not there.
bool SmallerIsBetter(const std::string& score);

}  // namespace loupe::analysis::report
