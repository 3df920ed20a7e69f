// What a sweep's trials ask of workers, from its plan.
#pragma once

#include <memory>

#include "coordinator/engine/plan_cache.h"
#include "coordinator/plan/plan.h"
#include "coordinator/scheduler/model.h"

namespace loupe::coordinator::engine {

// Of one trial, by its complete settings.
scheduler::TrialNeeds NeedsOf(const settings::Settings& settings);

// Of all cells of the plan. Takes some 10 ns a cell where they differ, and nothing where a look at the factors shows
// that they do not. Beyond 256 kinds the last ones are taken together, by the newest settings of any, and fit none.
std::shared_ptr<const scheduler::SweepNeeds> NeedsOf(const plan::Plan& plan);

// The same from the stored specification, without a plan where one is not needed to know. A specification that makes no
// plan any more asks for nothing: whoever is given its trials says what is wrong.
std::shared_ptr<const scheduler::SweepNeeds> NeedsOf(PlanCache& plans, const scheduler::SweepRecord& sweep);

}  // namespace loupe::coordinator::engine
