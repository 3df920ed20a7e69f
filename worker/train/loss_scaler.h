// Dynamic loss scaling for float16 (Micikevicius et al. 2018, arXiv 1710.03740 §3.2), with torch.amp.GradScaler's rule:
// the loss is multiplied by S, so that small gradients do not vanish; a step whose gradients overflow is skipped and
// halves S, and 2,000 good steps in a row double it.
#pragma once

#include <cstdint>

namespace loupe::worker::train {

class LossScaler {
 public:
  static constexpr double kInitialScale = 65536;
  static constexpr int64_t kGrowthInterval = 2000;
  // Gradients that overflow at this scale are not the scale's fault.
  static constexpr double kLeastScale = 1.0 / 65536;

  explicit LossScaler(double scale = kInitialScale, int64_t good_steps = 0) : scale_(scale), good_steps_(good_steps) {}

  double scale() const { return scale_; }
  int64_t good_steps() const { return good_steps_; }  // since the scale last changed
  bool exhausted() const { return scale_ < kLeastScale; }

  // What the gradients of a step were.
  void Update(bool finite) {
    if (!finite) {
      scale_ /= 2;
      good_steps_ = 0;
    } else if (++good_steps_ == kGrowthInterval) {
      scale_ *= 2;
      good_steps_ = 0;
    }
  }

 private:
  double scale_;
  int64_t good_steps_;
};

}  // namespace loupe::worker::train
