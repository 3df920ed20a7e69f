#include "cli/run_order.h"

#include "coordinator/scheduler/run_queue.h"

namespace loupe::cli {

std::vector<int64_t> RunOrder(const coordinator::plan::Plan& plan) {
  coordinator::scheduler::RunQueue queue(plan.cell_count(), plan.spec().replicates, plan.spec().seed);
  for (int64_t trial = 0; trial < plan.trial_count(); ++trial) queue.AddFresh(trial);
  std::vector<int64_t> order;
  order.reserve(static_cast<size_t>(plan.trial_count()));
  while (const auto trial = queue.Pop()) order.push_back(*trial);
  return order;
}

}  // namespace loupe::cli
