// What only a sweep's plan can say of results: which setting each digest in them belongs to, and which score they must
// have.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/settings/settings.h"
#include "coordinator/engine/plan_cache.h"
#include "coordinator/scheduler/scheduler.h"
#include "coordinator/store/store_reader.h"

namespace loupe::coordinator::engine {

// A setting that names files, and the entry of a result's provenance that says what they were.
struct InputSetting {
  const char* key;         // "scorer"
  const char* provenance;  // "scorer_sha256"
};
inline constexpr InputSetting kInputSettings[] = {{"base", "base_sha256"},
                                                  {"scorer", "scorer_sha256"},
                                                  {"score.inception", "inception_sha256"},
                                                  {"score.dino", "dino_sha256"},
                                                  {"task.images", "data_sha256"},
                                                  {"task.identifier", "identifier_sha256"},
                                                  {"method.path", "method_sha256"},
                                                  {"score.efficientnet", "effnet_sha256"}};

// The input's name in Result::inputs, "scorer configs/scorers/emoji-clip"; empty when the cell does not set it.
// Captions belong to the pictures of fine-tuning alone, so that both tasks may use one folder.
std::string InputName(const InputSetting& setting, const settings::Settings& cell);

// `result` with its inputs. INVALID_ARGUMENT when it lacks the score that the sweep is about (score.primary).
absl::StatusOr<scheduler::Result> ExamineResult(const settings::Settings& cell, scheduler::Result result);

// For a report: one sentence per input of which the accepted results saw more than one state. (Of results that an
// earlier version of this program accepted; today's are refused.) And one where they were computed in more than one
// kind of arithmetic.
std::vector<std::string> InputNotes(const store::SweepSnapshot& snapshot, const plan::Plan& plan);

// The above by the plans of sweeps; on the engine's thread. `plans` must outlive it.
scheduler::ResultExaminer MakeResultExaminer(PlanCache& plans);

}  // namespace loupe::coordinator::engine
