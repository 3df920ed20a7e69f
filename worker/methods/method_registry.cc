#include "worker/methods/method_registry.h"

#include <map>
#include <string>

#include "worker/methods/in_out_adapter.h"

namespace loupe::worker {
namespace {

using Factory = std::unique_ptr<Method> (*)(const std::vector<TappableBlock>&, const std::vector<SlotOptions>&,
                                            torch::Device);

// One line per method.
const std::map<std::string, Factory>& Factories() {
  static const std::map<std::string, Factory> factories = {
      {"adapter", MakeInOutAdapter},
  };
  return factories;
}

}  // namespace

int64_t Method::ParametersOf(int64_t slot) const {
  int64_t count = 0;
  for (const NamedParameter& parameter : parameters()) {
    if (parameter.Holds(slot)) count += parameter.value[0].numel();
  }
  return count;
}

std::unique_ptr<Method> MakeMethod(const std::vector<TappableBlock>& blocks, const std::vector<SlotOptions>& slots,
                                   torch::Device device) {
  TORCH_CHECK(!slots.empty(), "a pack needs at least one slot");
  const std::string& kind = slots.front().settings.Text("method.kind");
  for (const SlotOptions& slot : slots) {
    TORCH_CHECK(slot.settings.Text("method.kind") == kind, "a pack holds trials of one method only: '", kind, "' and '",
                slot.settings.Text("method.kind"), "' were given");
  }
  const auto found = Factories().find(kind);
  TORCH_CHECK(found != Factories().end(), "method.kind '", kind, "' is not known to this worker");
  return found->second(blocks, slots, device);
}

}  // namespace loupe::worker
