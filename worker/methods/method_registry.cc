#include "worker/methods/method_registry.h"

#include <algorithm>
#include <utility>

#include "worker/methods/hypernetwork.h"
#include "worker/methods/in_out_adapter.h"
#include "worker/methods/lora.h"
#include "worker/methods/textual_inversion.h"
#include "worker/methods/tuned_file.h"
#include "worker/methods/weight_change.h"

namespace loupe::worker::methods {

// Of methods that have nothing else to tell: no header of their own.
MethodMaker MakeFull, MakeBitFit, MakeDiffFit, MakeVptDeep, MakeVptShallow, MakeAdaptFormer, MakeSequentialAdapter,
    MakeIa3, MakeOft;

namespace {

bool Never(const settings::Settings& /*settings*/) { return false; }
bool Always(const settings::Settings& /*settings*/) { return true; }
bool WhereAsked(const settings::Settings& settings) { return settings.Boolean("method.text_encoder"); }

std::map<std::string, std::string> MethodSettingsOf(const settings::Settings& settings) {
  std::map<std::string, std::string> own;
  for (const auto& [key, value] : settings.values()) {
    if (key.starts_with("method.")) own.emplace(key, value);
  }
  return own;
}

// Neighbouring runs of slots, each with its own method.
class MethodPack : public Method {
 public:
  MethodPack(std::vector<nn::SlotRange> ranges, std::vector<std::unique_ptr<Method>> methods)
      : ranges_(std::move(ranges)), methods_(std::move(methods)) {
    for (const auto& method : methods_) {
      parameters_.insert(parameters_.end(), method->parameters().begin(), method->parameters().end());
    }
  }

  int64_t slots() const override { return ranges_.front().total; }
  const std::vector<NamedParameter>& parameters() const override { return parameters_; }
  void SetEnabled(bool enabled) override {
    for (const auto& method : methods_) method->SetEnabled(enabled);
  }
  void BeginTraining(const std::vector<int64_t>& draws, const runtime::RowShare& rows, KeptMasks* kept) override {
    for (const auto& method : methods_) method->BeginTraining(draws, rows, kept);
  }
  void EndTraining() override {
    for (const auto& method : methods_) method->EndTraining();
  }
  std::map<std::string, torch::Tensor> Export(int64_t slot) const override { return Of(slot).Export(slot); }
  void Import(int64_t slot, const std::map<std::string, torch::Tensor>& arrays) override {
    Of(slot).Import(slot, arrays);
  }
  absl::Status Merge(int64_t slot, BaseWeights& weights) const override { return Of(slot).Merge(slot, weights); }

 private:
  Method& Of(int64_t slot) const {
    const auto found =
        std::find_if(ranges_.begin(), ranges_.end(), [&](const nn::SlotRange& range) { return slot < range.end(); });
    TORCH_CHECK(slot >= 0 && found != ranges_.end(), "the pack has no slot ", slot);
    return *methods_[static_cast<size_t>(found - ranges_.begin())];
  }

  const std::vector<nn::SlotRange> ranges_;  // ascending, without gaps
  const std::vector<std::unique_ptr<Method>> methods_;
  std::vector<NamedParameter> parameters_;
};

}  // namespace

const std::vector<MethodTraits>& Methods() {
  using enum ExportLayout;
  static const std::vector<MethodTraits> methods = {
      {"adapter", /*packable=*/true, Never, {kMerged, kModules}, MakeInOutAdapter, /*mixes=*/true},
      {"lora", /*packable=*/true, WhereAsked, {kMerged, kDiffusers, kPeft, kKohya}, MakeLora, /*mixes=*/true},
      {"full", /*packable=*/false, WhereAsked, {kMerged}, MakeFull, /*mixes=*/true},
      {"bitfit", /*packable=*/true, Never, {kMerged}, MakeBitFit, /*mixes=*/true},
      {"difffit", /*packable=*/true, Never, {kMerged}, MakeDiffFit},
      // Packable among themselves: taps.h, BlockPass::Prefix.
      {.name = "vpt-deep", .trains_conditioner = Never, .make = MakeVptDeep, .same_in_pass = "method.tokens"},
      {.name = "vpt-shallow", .trains_conditioner = Never, .make = MakeVptShallow, .same_in_pass = "method.tokens"},
      {"adaptformer", /*packable=*/true, Never, {}, MakeAdaptFormer},
      {"sequential-adapter", /*packable=*/true, Never, {}, MakeSequentialAdapter},
      {"ia3", /*packable=*/true, Never, {kMerged}, MakeIa3},
      {"loha", /*packable=*/true, WhereAsked, {kMerged, kKohya}, MakeLoHa},
      {"lokr", /*packable=*/true, WhereAsked, {kMerged, kKohya}, MakeLoKr},
      {"oft", /*packable=*/true, WhereAsked, {kMerged}, MakeOft},
      {"textual-inversion",
       /*packable=*/true,
       Always,
       {kMerged, kDiffusers, kA1111, kKohya},
       MakeTextualInversion,
       /*mixes=*/true},
      {"hypernetwork", /*packable=*/true, Never, {kA1111}, MakeHypernetwork, /*mixes=*/true},
      // Each file is another method: alone.
      {"file", /*packable=*/false, Never, {}, MakeOfFile, /*mixes=*/true, /*trains=*/false},
  };
  return methods;
}

const MethodTraits* FindMethod(std::string_view name) {
  const auto& all = Methods();
  const auto found = std::find_if(all.begin(), all.end(), [&](const MethodTraits& m) { return m.name == name; });
  return found == all.end() ? nullptr : &*found;
}

const MethodTraits& MethodOf(const settings::Settings& settings) {
  const std::string& kind = settings.Text("method.kind");
  const MethodTraits* found = FindMethod(kind);
  TORCH_CHECK(found != nullptr, "method.kind '", kind, "' is not known to this worker");
  return *found;
}

bool CanSharePass(const settings::Settings& a, const settings::Settings& b) {
  const MethodTraits& traits = MethodOf(a);
  return traits.packable && traits.name == MethodOf(b).name &&
         (traits.same_in_pass == nullptr || a.Text(traits.same_in_pass) == b.Text(traits.same_in_pass));
}

bool MethodTraits::Writes(ExportLayout layout) const {
  return layout == ExportLayout::kBundle || std::find(files.begin(), files.end(), layout) != files.end();
}

int64_t Method::ParametersOf(int64_t slot) const {
  int64_t count = 0;
  for (const NamedParameter& parameter : parameters()) {
    if (parameter.Holds(slot)) count += parameter.value[0].numel();
  }
  return count;
}

std::unique_ptr<Method> MakeMethod(const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                                   torch::Device device, SlotOperators operators) {
  TORCH_CHECK(!slots.empty(), "a pack needs at least one slot");
  std::vector<nn::SlotRange> ranges;
  std::vector<std::unique_ptr<Method>> methods;
  const auto total = static_cast<int64_t>(slots.size());
  for (auto first = slots.begin(); first != slots.end();) {
    const MethodTraits& traits = MethodOf(first->settings);
    const auto end = std::find_if(first + 1, slots.end(), [&](const SlotOptions& slot) {
      if (operators == SlotOperators::kOwn) return true;
      return traits.mixes ? slot.settings.Text("method.kind") != traits.name
                          : MethodSettingsOf(slot.settings) != MethodSettingsOf(first->settings);
    });
    ranges.push_back({first - slots.begin(), end - first, total});
    methods.push_back(traits.make(sites, {first, end}, ranges.back(), device));
    first = end;
  }
  if (methods.size() == 1) return std::move(methods.front());
  return std::make_unique<MethodPack>(std::move(ranges), std::move(methods));
}

}  // namespace loupe::worker::methods
