// The coordinator's durable memory, as its two sides see it: sweeps, cells, trials, attempts, results, metric points,
// artifacts, workers, requests.
#pragma once

#include "coordinator/store/journal.h"
#include "coordinator/store/store_reader.h"

namespace loupe::coordinator::store {

class Store : public Journal, public StoreReader {};

}  // namespace loupe::coordinator::store
