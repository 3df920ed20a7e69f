// What the histories' sweeps need of workers, and what their workers can: methods that not all run, packs that not all
// hold.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "coordinator/engine/engine.h"

namespace loupe::simulation {

namespace co = loupe::coordinator;

// What a job needs of a sweep's plan.
absl::StatusOr<coordinator::scheduler::CellFunctions> CellsOf(const coordinator::scheduler::SweepRecord& sweep);

// The sweep "main" is a study, "side" is a search; both mix methods. Those that come and go ("brief…") need nothing.
const std::shared_ptr<const coordinator::scheduler::SweepNeeds>& NeedsOfSweep(const std::string& id);
std::shared_ptr<const coordinator::scheduler::SweepNeeds> NeedsOf(const coordinator::scheduler::SweepRecord& sweep);

// The first worker is an older program, the second runs the newer method alone, the third is now the one and now the
// other with everything, from process to process.
coordinator::scheduler::WorkerAbilities AbilitiesOf(int index, int session);

// How many trials it holds as a pack. The first worker is older than packs: 0.
int32_t MostTogether(int index);

}  // namespace loupe::simulation
