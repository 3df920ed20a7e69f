// Methods that change chosen layers' weights by a product of small arrays: y = W x + b + s·Δ x, with Δ of W's shape.
// The layers are method.targets', s = alpha/rank.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/methods/files/lycoris_files.h"
#include "worker/methods/own_weights.h"

namespace loupe::worker::methods {

// What one of Δ's arrays starts from.
enum class StartingValues {
  kZero,
  kUniform,      // U(±1/√columns), which is kaiming_uniform with a = √5
  kNormal,       // N(0, 1)
  kSmallNormal,  // N(0, 0.1²)
};

struct ChangeArray {
  std::string name;            // after the layer's: "hada_w1_a"
  std::vector<int64_t> shape;  // a matrix's, or a convolution's filters
  StartingValues start = StartingValues::kZero;
};

// A kind of Δ.
struct WeightChange {
  // The arrays for a weight of this shape, in the order in which they are drawn, exported and given to `delta`.
  std::vector<ChangeArray> (*arrays)(const settings::Settings& settings, const std::vector<int64_t>& weight);
  // Δ of those values, [out, in] or, of a convolution, [out, in·k·k].
  torch::Tensor (*delta)(const std::vector<torch::Tensor>& values);
  // Whether s counts for as many arrays; else it is 1.
  bool (*is_scaled)(size_t arrays);
};

class WeightChangeMethod : public ParameterMethod {
 public:
  // All slots have the first's settings of the method. Throws c10::Error as TargetLayers does.
  WeightChangeMethod(const WeightChange& change, const nn::TuningSites& sites, const std::vector<SlotOptions>& slots,
                     const nn::SlotRange& range, torch::Device device);
  // One slot with a file's values. Throws c10::Error naming a layer that does not fit the base.
  WeightChangeMethod(const WeightChange& change, const nn::TuningSites& sites, const files::LycorisFile& file,
                     const nn::SlotRange& range, torch::Device device);

  absl::Status Merge(int64_t slot, BaseWeights& weights) const override;

 private:
  struct Placed {
    std::string name;
    std::vector<torch::Tensor> values;  // each [K, …]
    double scale;
  };
  void Place(const NamedSite& site, const std::vector<std::string>& names, std::vector<torch::Tensor> values,
             double scale);

  const WeightChange change_;
  std::vector<Placed> placed_;
};

MethodMaker MakeLoHa, MakeLoKr;

// A LoHa or LoKr of another program, as the slot range.first.
std::unique_ptr<Method> MakeLycorisOf(const files::LycorisFile& file, const nn::TuningSites& sites,
                                      const nn::SlotRange& range, torch::Device device);

// alpha / rank of a trial's settings.
double AlphaOverRank(const settings::Settings& settings);

// How the two change a weight.
extern const WeightChange kLoHaChange, kLoKrChange;

}  // namespace loupe::worker::methods
