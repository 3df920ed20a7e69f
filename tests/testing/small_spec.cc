#include "tests/testing/small_spec.h"

#include "fmt/format.h"

namespace loupe::testing {

v1::SweepSpec SmallSpec(int scales, int replicates) {
  v1::SweepSpec spec;
  auto& settings = *spec.mutable_settings();
  settings["base"] = "/base";
  settings["scorer"] = "/scorer";
  settings["task.images"] = "/images";
  settings["task.instance_prompt"] = "a photo of sks";
  settings["task.class_prompt"] = "a photo of cat face";
  settings["method.width"] = "8";
  settings["method.output"] = "Trans_out";
  settings["budget.steps"] = "5";
  auto* input = spec.add_factors();
  input->set_key("method.input");
  for (const char* level : {"SA_in", "CA_in", "CA_out"}) input->add_levels(level);
  auto* scale = spec.add_factors();
  scale->set_key("method.scale");
  for (int i = 0; i < scales; ++i) scale->add_levels(fmt::format("{}", i + 1));
  spec.set_replicates(replicates);
  spec.set_seed(7);
  spec.mutable_retry()->mutable_backoff()->set_nanos(1'000'000);
  return spec;
}

}  // namespace loupe::testing
