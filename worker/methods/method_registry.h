// The tuning methods by the name that `method.kind` gives them. A new one is one file and one line here, in five steps
// of which bitfit.cc is the example:
//   1. its name among the choices of method.kind (common/settings/method_rules.cc), and its settings, there or in
//      transformer_method_rules.cc
//   2. a file that makes a Method: hooks on layers (leaf_layers.h) or taps on blocks (taps.h) that own its values, put
//      in place by an Attachment. A ParameterMethod (own_weights.h) has all but Merge. A MethodMaker at its end
//   3. its line of traits in method_registry.cc, and the file in CMakeLists.txt
//   4. its arrays' names in docs/formats.md
//   5. tests: a line in the list of tests/worker/methods/transformer_methods_test.cc (start, packs, recomputed blocks,
//      autocast, merging, files) and of trainer_test.cc's resuming, and a case of tests/parity/methods.py
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "worker/methods/export_layout.h"
#include "worker/methods/method.h"

namespace loupe::worker::methods {

// What the rest of the program must know of a method.
struct MethodTraits {
  std::string name;
  // Whether a pack with it is worth it: its values are small beside the base.
  bool packable = true;
  // Whether trials with these settings change what the conditioner makes of a prompt: its encodings must then neither
  // be cached nor made without gradients while the method is on.
  bool (*trains_conditioner)(const settings::Settings& settings) = nullptr;
  // Layouts that it has beside kBundle, which all have.
  std::vector<ExportLayout> files;
  MethodMaker* make = nullptr;
  // Whether slots whose settings of the method differ are made together. Else each run of neighbours with equal ones is
  // made alone, and `make` may take the first's settings for all.
  bool mixes = false;
  // Whether it is trained at all: else a trial begins with its scores.
  bool trains = true;
  // A setting that slots which share a pass must agree in; null: none.
  const char* same_in_pass = nullptr;

  bool Writes(ExportLayout layout) const;
};

// Whether trials with these settings of one base can go through it as one batch, as far as their methods go.
bool CanSharePass(const settings::Settings& a, const settings::Settings& b);

// In the order of `method.kind`'s choices; lives for the process.
const std::vector<MethodTraits>& Methods();
// nullptr when this program has none of that name.
const MethodTraits* FindMethod(std::string_view name);
// What the settings' method.kind names; throws c10::Error when there is none.
const MethodTraits& MethodOf(const settings::Settings& settings);

// How a pack's slots are computed: neighbours that can be made together by one operator for all of them, or each slot
// by operators of its own, whose arithmetic then knows nothing of the neighbours.
enum class SlotOperators { kJoined, kOwn };

// The methods that the slots' `method.kind`s name, attached to `sites`: one per run of neighbours that are made
// together. Throws c10::Error with a sentence for the user when the settings do not fit the network, or a place is
// taken.
std::unique_ptr<Method> MakeMethod(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                                   torch::Device device, SlotOperators operators = SlotOperators::kJoined);

}  // namespace loupe::worker::methods
